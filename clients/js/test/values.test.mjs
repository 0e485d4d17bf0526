// What values, options and changes are in JavaScript alone: `node --test test/*.test.mjs`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ChangeLog } from "../src/changes.js";
import * as snapdelta from "../src/index.js";
import { decodeText, encodeText } from "../src/text.js";

const { DateTime, Decimal, Decoder, Duration, PlainDate, Zone } = snapdelta;
const EVERY_TYPE = new URL("../../../tests/core/golden/v1/every_type.frame", import.meta.url);

async function everyType(options) {
  const decoder = await Decoder.create(options);
  decoder.apply(readFileSync(EVERY_TYPE));
  return decoder;
}

test("decimals are written as Python writes them", () => {
  const text = (negative, digits, exponent) => String(new Decimal("finite", negative, digits, exponent));
  assert.equal(text(false, "150", -2n), "1.50");
  assert.equal(text(true, "0", 3n), "-0E+3");
  assert.equal(text(false, "1", -6n), "0.000001");
  assert.equal(text(false, "1", -7n), "1E-7");
  assert.equal(text(false, "125", 3n), "1.25E+5");
  assert.equal(text(false, "42", 0n), "42");
  assert.equal(new Decimal("finite", true, "125", -2n).toNumber(), -1.25);
  assert.equal(new Decimal("infinity", true, "", 0n).toNumber(), -Infinity);
  assert.equal(new Decimal("nan", false, "12", 0n).toNumber(), NaN);
});

test("times", () => {
  const eastern = new Zone("offset", -18000, null);
  const half = new Zone("offset", 19800.000001, "odd");
  const at = (zone, year = 2026) => new DateTime(year, 1, 2, 3, 4, 5, 678901, 0, zone);
  assert.equal(String(at(eastern)), "2026-01-02T03:04:05.678901-05:00");
  assert.equal(String(half), "+05:30:00.000001");
  assert.equal(at(eastern).toDate().toISOString(), "2026-01-02T08:04:05.678Z");
  assert.equal(at(eastern).toMilliseconds() % 1 > 0.9, true);
  assert.equal(at(new Zone("utc", 0, null), 1).toDate().toISOString(), "0001-01-02T03:04:05.678Z");
  assert.throws(() => at(null).toDate(), RangeError);
  assert.throws(() => at(new Zone("key", null, "Europe/Berlin")).toDate(), RangeError);
  assert.equal(String(new PlainDate(7, 1, 2)), "0007-01-02");
  assert.equal(String(new Duration(-1, 86340, 0)), "-PT60S");
  assert.equal(String(new Duration(0, 1, 500000)), "PT1.500000S");
  assert.equal(new Duration(1, 0, 1).toMilliseconds(), 86400000.001);
});

test("texts with lone surrogates", () => {
  for (const text of ["", "abc", "é😀", "\ud800", "a\udc00b😀", "\ufeffx"]) {
    assert.equal(decodeText(encodeText(text)), text);
  }
  assert.deepEqual([...encodeText("\ud800")], [0xed, 0xa0, 0x80]);
});

test("ints by choice", async () => {
  const ints = async (choice) => (await everyType({ ints: choice })).get("ints");
  assert.deepEqual(
    [(await ints("auto")).small, (await ints("auto")).max, (await ints("auto")).large],
    [-5, 2n ** 63n - 1n, 2n ** 63n],
  );
  assert.deepEqual([(await ints("bigint")).small, (await ints("bigint")).huge], [-5n, -(3n ** 100n)]);
  assert.deepEqual([(await ints("number")).max, (await ints("number")).large], [2 ** 63, 2 ** 63]);
  assert.equal(JSON.parse(JSON.stringify((await everyType()).get("decimals"))).plain, "1.50");
});

test("impossible settings are named", async () => {
  const { SnapshotSettingError, followRedis, followWebSocket } = snapdelta;
  await assert.rejects(Decoder.create({ ints: "int" }), SnapshotSettingError);
  await assert.rejects(Decoder.create({ maxBytes: 0 }), /maxBytes/);
  await assert.rejects(Decoder.create({ objects: "json" }), /objects/);
  assert.throws(() => new Decoder(), TypeError);
  assert.throws(() => followRedis("redis://localhost"), /ioredis/);
  assert.throws(() => followRedis({}, "name", { commandTimeout: 0 }), /commandTimeout/);
  assert.throws(() => followWebSocket("ws://localhost", { WebSocket: null }), /WebSocket/);
  const decoder = await everyType();
  assert.throws(() => decoder.column("a", "int32"), /kind/);
  assert.throws(() => decoder.apply("a frame"), TypeError);
});

test("records are shared until they change, and never mixed up", async () => {
  const decoder = await everyType();
  const first = decoder.snapshot({ shared: true });
  decoder.apply(readFileSync(new URL("../../../tests/core/golden/v1/every_type_changed.frame", import.meta.url)));
  const second = decoder.snapshot({ shared: true });
  const kept = [...second].filter(([symbol, record]) => first.get(symbol) === record).map(([symbol]) => symbol);
  assert.deepEqual(kept, ["ints"]);
  assert.deepEqual(second, decoder.snapshot());
  assert.notEqual(decoder.get("ints"), decoder.get("ints"));
});

test("an error leaves the state as it was", async () => {
  const decoder = await everyType();
  const { digest } = decoder;
  const frame = readFileSync(EVERY_TYPE);
  frame[20] ^= 1;
  assert.throws(() => decoder.apply(frame), snapdelta.CorruptDeltaError);
  assert.throws(() => decoder.apply(new Uint8Array()), snapdelta.CorruptDeltaError);
  assert.equal(decoder.digest, digest);
  assert.equal(decoder.get("uuid").toString(), "12345678-1234-5678-1234-567812345678");
});

test("changes of several frames add up", () => {
  const log = new ChangeLog();
  const change = (parts) => log.add({ added: [], updated: [], removed: [], moved: [], ...parts });
  change({ added: ["A", "B"], updated: ["C"], removed: ["D", "E"] });
  change({ added: ["D"], updated: ["A", "F"], removed: ["B", "C"], moved: ["A", "F"] });
  assert.deepEqual(log.take(), { added: ["A"], updated: ["D", "F"], removed: ["E", "C"], moved: ["D", "F"] });
  assert.deepEqual(log.take(), { added: [], updated: [], removed: [], moved: [] });
});

/** The module with a memory that grows by 2 MB at most. */
function withLittleMemory(bytes) {
  const MEMORY = 5;
  const MORE_PAGES = 32;
  let at = 8;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      value |= (bytes[at] & 0x7f) << shift;
      if (bytes[at++] < 0x80) return value;
    }
  };
  for (;;) {
    const id = bytes[at++];
    const length = number();
    if (id !== MEMORY) {
      at += length;
      continue;
    }
    // One memory, its flags, and the pages it begins with: numbers of one byte each.
    const [memories, flags, pages] = bytes.subarray(at, at + length);
    assert.deepEqual([length, memories, flags, pages + MORE_PAGES < 128], [3, 1, 0, true]);
    const section = Buffer.from([MEMORY, 4, 1, 1, pages, pages + MORE_PAGES]);
    return Buffer.concat([bytes.subarray(0, at - 2), section, bytes.subarray(at + length)]);
  }
}

test("a decoder that is out of memory says so, and others are whole", async () => {
  const bytes = readFileSync(new URL("../snapdelta.wasm", import.meta.url));
  const small = await everyType({ wasm: withLittleMemory(bytes) });
  const other = await everyType();
  assert.throws(() => small.apply(new Uint8Array(50_000_000)), snapdelta.BrokenDecoderError);
  assert.throws(() => small.get("ints"), snapdelta.BrokenDecoderError);
  assert.throws(() => other.apply(new Uint8Array(50_000_000)), snapdelta.CorruptDeltaError);
  assert.equal(other.get("ints").small, -5);
});
