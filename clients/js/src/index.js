// What the package offers; index.d.ts has the types, docs/javascript.md says how to use it.

export { compile } from "./core.js";
export { Decoder } from "./decoder.js";
export * from "./errors.js";
export { followRedis } from "./redis/follow.js";
export { followWebSocket } from "./websocket.js";
export * from "./values.js";
