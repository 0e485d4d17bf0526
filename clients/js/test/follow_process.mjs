// A follower for tests/client: `node follow_process.mjs KIND PORT OPTIONS NAME CLIENT_OPTIONS`, KIND redis or cluster,
// or `node follow_process.mjs websocket URL OPTIONS`. OPTIONS are the follower's and CLIENT_OPTIONS ioredis's, as JSON.
//
// One line of JSON an update, and one for each error that it waits for. On the standard input, "pause" stops asking
// for updates after the next one, which a line says, "resume" goes on, and "close" ends it.

import { createInterface } from "node:readline";

import Redis from "ioredis";

import * as snapdelta from "../src/index.js";
import { canonical } from "./canonical.mjs";

const [kind, at, settings, name, ofClient = "{}"] = process.argv.slice(2);
const options = { ints: "bigint", objects: "map", ...JSON.parse(settings) };
const redisOptions = JSON.parse(ofClient);
const clients = {
  redis: () => new Redis({ ...redisOptions, port: Number(at), lazyConnect: true }),
  cluster: () => new Redis.Cluster([{ port: Number(at) }], { redisOptions, lazyConnect: true }),
};
const redis = clients[kind]?.() ?? null;
const updates = redis
  ? snapdelta.followRedis(redis, name, options)
  : snapdelta.followWebSocket(at, { WebSocket: (await import("ws")).WebSocket, ...options });

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

let waited = null;
setInterval(() => {
  const waits = updates.waitsFor;
  if (waits !== null && waits !== waited) write({ waits });
  waited = waits;
}, 5);

try {
  for await (const update of updates) {
    const { added, updated, removed, moved, timestamp, lag, resynced, reason } = update;
    const place = [update.epoch, update.sequence, update.digest].map(String);
    const snapshot = canonical(update.snapshot());
    write({ place, added, updated, removed, moved, timestamp, lag, resynced, reason, snapshot });
    if (running !== null) {
      const pause = running;
      write({ paused: true });
      await pause;
      if (running === pause) running = null;
    }
  }
  write({ closed: true });
} catch (error) {
  write({ error: error.name, message: error.message });
}
redis?.disconnect();
process.exit();
