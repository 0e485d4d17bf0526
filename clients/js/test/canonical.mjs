// Values of this package as JSON that keeps types, bits and order, for tests/client/node_values.py.

import { DateTime, Decimal, Duration, PlainDate, PlainTime, Uuid } from "../src/values.js";

const view = new DataView(new ArrayBuffer(8));

function bits(number) {
  view.setFloat64(0, number);
  return view.getBigUint64(0).toString(16).padStart(16, "0");
}

function zone(value) {
  if (value === null) return null;
  if (value.kind === "offset") return ["offset", Math.round(value.offset * 1e6), value.name];
  return [value.kind, value.name];
}

function clock({ hour, minute, second, microsecond, fold, zone: ofValue }) {
  return [hour, minute, second, microsecond, fold, zone(ofValue)];
}

/** Of values made with `ints: "bigint"` and `objects: "map"`. */
export function canonical(value) {
  if (value === null || typeof value === "boolean" || typeof value === "string") return value;
  if (typeof value === "bigint") return ["int", value.toString()];
  if (typeof value === "number") return ["float", Number.isNaN(value) ? "nan" : bits(value)];
  if (Array.isArray(value)) return ["list", value.map(canonical)];
  if (value instanceof Map) return ["dict", Array.from(value, ([key, item]) => [key, canonical(item)])];
  if (value instanceof Uint8Array) return ["bytes", Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("")];
  if (value instanceof PlainDate) return ["date", [value.year, value.month, value.day]];
  if (value instanceof DateTime) return ["datetime", [value.year, value.month, value.day], clock(value)];
  if (value instanceof PlainTime) return ["time", clock(value)];
  if (value instanceof Duration) return ["timedelta", [value.days, value.seconds, value.microseconds]];
  if (value instanceof Decimal) return ["decimal", value.toString()];
  if (value instanceof Uuid) return ["uuid", value.toString()];
  throw new TypeError(`no such value: ${String(value)}`);
}
