// A follower for tests/client: `node follow_process.mjs KIND PORT NAME COMMAND_TIMEOUT`, KIND redis or cluster, or
// `node follow_process.mjs websocket URL`.
//
// One line of JSON an update. On the standard input, "pause" stops asking for updates after the next one, which a
// line says, "resume" goes on, and "close" ends it.

import { createInterface } from "node:readline";

import Redis from "ioredis";

import * as snapdelta from "../src/index.js";
import { canonical } from "./canonical.mjs";

const [kind, at, name, commandTimeout] = process.argv.slice(2);
const options = { ints: "bigint", objects: "map" };
const clients = {
  redis: () => new Redis({ port: Number(at), lazyConnect: true }),
  cluster: () => new Redis.Cluster([{ port: Number(at) }], { lazyConnect: true }),
};
const redis = clients[kind]?.() ?? null;
const updates = redis
  ? snapdelta.followRedis(redis, name, { ...options, commandTimeout: Number(commandTimeout) })
  : snapdelta.followWebSocket(at, { ...options, WebSocket: (await import("ws")).WebSocket });

let running = null;
let resume = () => {};
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "pause") running = new Promise((resolve) => (resume = resolve));
  else if (line === "resume") resume();
  else if (line === "close") updates.close();
});

function write(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

try {
  for await (const update of updates) {
    const { added, updated, removed, moved, timestamp, lag, resynced, reason } = update;
    const place = [update.epoch, update.sequence, update.digest].map(String);
    const snapshot = canonical(update.snapshot());
    write({ place, added, updated, removed, moved, timestamp, lag, resynced, reason, snapshot });
    if (running !== null) {
      write({ paused: true });
      await running;
      running = null;
    }
  }
  write({ closed: true });
} catch (error) {
  write({ error: error.name, message: error.message });
}
redis?.disconnect();
process.exit();
