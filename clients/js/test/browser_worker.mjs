// In a browser's worker: what becomes of the server's frames, and the first updates of its WebSocket.

import { Decoder, followWebSocket } from "../src/index.js";
import { canonical } from "./canonical.mjs";

const options = { ints: "bigint", objects: "map" };

async function states(frames) {
  let decoder = null;
  const found = [];
  for (const { full, frame } of frames) {
    // Each vector begins with a decoder of its own.
    if (full || decoder === null) decoder = await Decoder.create(options);
    decoder.apply(Uint8Array.from(atob(frame), (character) => character.charCodeAt(0)));
    found.push({ digest: String(decoder.digest), snapshot: canonical(decoder.snapshot()) });
  }
  return found;
}

async function updates(url, count) {
  const found = [];
  for await (const update of followWebSocket(url, options)) {
    found.push({ sequence: Number(update.sequence), snapshot: canonical(update.snapshot()) });
    if (found.length === count) break;
  }
  return found;
}

try {
  const { frames, socket, count } = await (await fetch("/work.json")).json();
  postMessage({ states: await states(frames), updates: await updates(socket, count) });
} catch (error) {
  postMessage({ error: `${error.name}: ${error.message}\n${error.stack}` });
}
