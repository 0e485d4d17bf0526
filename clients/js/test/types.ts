// Checked by tsc, never run: what the types allow.

import { Cluster, Redis } from "ioredis";

import { type Update, type Value, Decimal, Decoder, followRedis, followWebSocket } from "snapdelta";

export async function uses(frame: Uint8Array): Promise<void> {
  const decoder = await Decoder.create({ ints: "bigint", objects: "map", maxBytes: 1_000_000 });
  decoder.apply(frame);
  const record: Value | undefined = decoder.get("AAPL");
  const price: number | null = record instanceof Decimal ? record.toNumber() : null;
  const prices: Float64Array = decoder.column(["quote", "bid"]);
  const volumes: BigInt64Array = decoder.column("volume", "int64");
  const tags: Uint8Array = decoder.column("volume", "tags");
  console.log(price, prices.length + volumes.length + tags.length, decoder.sequence + 1n);
  // @ts-expect-error: made by `create`
  new Decoder();
  // @ts-expect-error: no such kind
  decoder.column("volume", "int32");
  for await (const update of followRedis(new Redis(), "ranking", { commandTimeout: 1000 })) show(update);
  for await (const update of followRedis(new Cluster([]))) show(update);
  for await (const update of followWebSocket("ws://localhost/stream")) show(update);
  for await (const update of followWebSocket("ws://localhost/stream", { idleTimeout: 30_000 })) show(update);
}

function show(update: Update): void {
  const seconds: number = (update.lag ?? 0) / 1000;
  console.log(update.changed, update.snapshot({ shared: true }).size, update.reason, seconds);
}
