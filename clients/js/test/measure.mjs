// Processor time of the reader over the frames of a folder, for benches/javascript.py: milliseconds, as JSON.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { Decoder } from "../src/index.js";

function timed(action) {
  const before = process.cpuUsage();
  action();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const decoder = await Decoder.create();
const apply = [];
const reads = { "records of the changed symbols": [], "all records, unchanged ones shared": [], "a column": [] };
const path = ["price"];
const folder = process.argv[2];
for (const name of readdirSync(folder).sort()) {
  const frame = readFileSync(join(folder, name));
  apply.push(timed(() => decoder.apply(frame)));
  const [changed, shared, column] = Object.values(reads);
  changed.push(timed(() => decoder.changed.forEach((symbol) => decoder.get(symbol))));
  shared.push(timed(() => decoder.snapshot({ shared: true })));
  column.push(timed(() => decoder.column(path)));
}
process.stdout.write(JSON.stringify({ apply, reads, digest: String(decoder.digest) }));
