// Decoders for tests/client: a line of JSON for each request on the standard input, and one for its answer.
//
// {"decoder": 0, "frame": base64, "content": true} applies a frame; {"decoder": 0, "path": [...]} reads a column in
// every way; with neither, the decoder is new.

import { createInterface } from "node:readline";

import { Decoder } from "../src/index.js";
import { canonical } from "./canonical.mjs";

const decoders = new Map();

function columns(decoder, path) {
  const [floats, ints, tags] = ["float64", "int64", "tags"].map((kind) => decoder.column(path, kind));
  return { floats: Array.from(floats, canonical), ints: Array.from(ints, canonical), tags: [...tags] };
}

async function answer({ decoder: number, frame, content, maxBytes, path }) {
  if (path !== undefined) return columns(decoders.get(number), path);
  if (frame === undefined) {
    decoders.set(number, await Decoder.create({ ints: "bigint", objects: "map", maxBytes }));
    return {};
  }
  const decoder = decoders.get(number);
  let error = null;
  try {
    decoder.apply(Buffer.from(frame, "base64"));
  } catch (thrown) {
    error = { name: thrown.name, message: thrown.message };
  }
  const { epoch, sequence, digest, size, added, updated, removed, moved } = decoder;
  const state = { epoch: String(epoch), sequence: String(sequence), digest: String(digest), size };
  if (!content) return { error, ...state };
  const snapshot = decoder.snapshot();
  for (const [symbol, record] of snapshot) {
    const [whole, single] = [record, decoder.get(symbol)].map((each) => JSON.stringify(canonical(each)));
    if (whole !== single) throw new Error(`get(${JSON.stringify(symbol)}) is not the snapshot's record`);
  }
  return { error, ...state, added, updated, removed, moved, snapshot: canonical(snapshot) };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
