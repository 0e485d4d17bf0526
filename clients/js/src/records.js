// Rows of the core as JavaScript values: docs/javascript.md says which.

import { decodeText } from "./text.js";
import { DateTime, Decimal, Duration, PlainDate, PlainTime, Uuid, Zone } from "./values.js";

// FORMAT.md section 1.1.
const NONE = 0, FALSE = 1, TRUE = 2, EMPTY = 3, INT = 4, FLOAT = 5, DIGITS = 6, SHORT = 7, TEXT = 8, BYTES = 9,
  BIG_INT = 10, LIST = 11, TUPLE = 12, DATE = 13, DATETIME = 14, DATETIME_UTC = 15, DATETIME_ZONED = 16, TIME = 17,
  TIMEDELTA = 18, DECIMAL = 19, DECIMAL_OTHER = 20, UUID = 21, DICT = 22;

const UTC = new Zone("utc", 0, null);
const DAY = 86_400_000_000n;
// Days from 0001-01-01 to 1970-01-01.
const DAYS_TO_1970 = 719_162;
const COEFFICIENT = (1n << 55n) - 1n;
const DECIMAL_KINDS = ["finite", "infinity", "nan", "snan"];

/** A plan of a shape: for each entry of a dict its key, and the plan of a dict below it or null. */
class Plan {
  constructor(core, numbers, at, key) {
    this.keys = [];
    this.below = [];
    let next = at + 1;
    for (let i = 0; i < numbers[at]; i++) {
      this.keys.push(key(numbers[next]));
      const isDict = numbers[next + 1] === 1;
      next += 2;
      const plan = isDict ? new Plan(core, numbers, next, key) : null;
      if (plan) next = plan.end;
      this.below.push(plan);
    }
    this.end = next;
  }
}

export class RecordBuilder {
  #core;
  #ints;
  #asMap;
  #plans = new Map();
  #keys = new Map();
  #schemaVersion = -1;
  // Texts by the number of their blob, for one state.
  #texts = new Map();

  constructor(core, ints, objects) {
    this.#core = core;
    this.#ints = ints;
    this.#asMap = objects === "map";
  }

  /** Forget what belongs to the state before. */
  reset() {
    this.#texts.clear();
    if (this.#schemaVersion !== this.#core.schemaVersion) {
      this.#schemaVersion = this.#core.schemaVersion;
      this.#plans.clear();
      this.#keys.clear();
    }
  }

  record(at) {
    const core = this.#core;
    const { shape } = core.row(at);
    const plan = this.#plan(shape);
    const { tags, words } = core.row(at);
    if (plan === null) return this.#cell(core.u8[tags], words);
    return this.#dict(plan, { tags, words });
  }

  #plan(shape) {
    let plan = this.#plans.get(shape);
    if (plan === undefined) {
      const numbers = this.#core.shape(shape);
      plan = numbers.length ? new Plan(this.#core, numbers, 0, (id) => this.#key(id)) : null;
      this.#plans.set(shape, plan);
    }
    return plan;
  }

  #key(id) {
    let key = this.#keys.get(id);
    if (key === undefined) this.#keys.set(id, (key = this.#core.key(id)));
    return key;
  }

  #dict(plan, place) {
    const { keys, below } = plan;
    const { u8 } = this.#core;
    const dict = this.#asMap ? new Map() : {};
    for (let i = 0; i < keys.length; i++) {
      const value =
        below[i] === null ? this.#cell(u8[place.tags++], place.words++) : this.#dict(below[i], place);
      this.#set(dict, keys[i], value);
    }
    return dict;
  }

  #set(dict, key, value) {
    if (this.#asMap) dict.set(key, value);
    else if (key !== "__proto__") dict[key] = value;
    else Object.defineProperty(dict, key, { value, writable: true, enumerable: true, configurable: true });
  }

  /** A cell of a row; `at` is its word. */
  #cell(tag, at) {
    const core = this.#core;
    switch (tag) {
      case FLOAT:
        return core.f64[at];
      case INT:
        return this.#int(core.u32[2 * at], core.u32[2 * at + 1] | 0);
      case NONE:
        return null;
      case FALSE:
        return false;
      case TRUE:
        return true;
      case EMPTY:
        return this.#asMap ? new Map() : {};
      case SHORT:
        return this.#short(core.u32[2 * at], core.u32[2 * at + 1]);
      case DIGITS:
      case DATE:
      case DATETIME:
      case DATETIME_UTC:
      case DECIMAL:
        return this.#fixed(tag, core.u64[at]);
      case TEXT:
        return this.#text(core.u32[2 * at]);
      default:
        return this.#blob(tag, core.blob(core.u32[2 * at]));
    }
  }

  /** The two halves of a signed number of 64 bits. */
  #int(low, high) {
    const number = high * 4294967296 + low;
    if (this.#ints === "number" || (this.#ints === "auto" && Number.isSafeInteger(number))) return number;
    return (BigInt(high) << 32n) | BigInt(low);
  }

  #bigInt(value) {
    if (this.#ints === "number") return Number(value);
    const isSafe = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER;
    return this.#ints === "auto" && isSafe ? Number(value) : value;
  }

  #short(low, high) {
    const length = high >>> 24;
    let text = "";
    for (let i = 0; i < length; i++) {
      const byte = (i < 4 ? low >>> (8 * i) : high >>> (8 * (i - 4))) & 0xff;
      if (byte > 0x7f) return decodeText(new Uint8Array(Uint32Array.of(low, high).buffer, 0, length));
      text += String.fromCharCode(byte);
    }
    return text;
  }

  #text(id) {
    let text = this.#texts.get(id);
    if (text === undefined) this.#texts.set(id, (text = decodeText(this.#core.blob(id))));
    return text;
  }

  /** @param {bigint} word */
  #fixed(tag, word) {
    switch (tag) {
      case DIGITS:
        return word.toString();
      case DATE:
        return new PlainDate(Number(word >> 9n), Number((word >> 5n) & 15n), Number(word & 31n));
      case DATETIME:
        return dateTime(word, 0, null);
      case DATETIME_UTC:
        return dateTime(word, 0, UTC);
      default: {
        const exponent = BigInt.asIntN(8, word >> 56n);
        return new Decimal("finite", ((word >> 55n) & 1n) === 1n, (word & COEFFICIENT).toString(), exponent);
      }
    }
  }

  /** @param {Uint8Array} bytes in the core's memory */
  #blob(tag, bytes) {
    const reader = new ItemReader(bytes);
    switch (tag) {
      case TEXT:
        return decodeText(bytes);
      case BYTES:
        return bytes.slice();
      case BIG_INT:
        return this.#bigInt(signed(bytes));
      case LIST:
      case TUPLE:
      case DICT:
        return this.#container(tag, reader);
      case DATETIME_ZONED: {
        const [microseconds, fold, zone] = reader.stamp();
        return dateTime(microseconds, fold, zone);
      }
      case TIME: {
        const [microseconds, fold, zone] = reader.stamp();
        return new PlainTime(...clock(Number(microseconds)), fold, zone);
      }
      case TIMEDELTA:
        return new Duration(reader.u32() | 0, reader.u32(), reader.u32());
      case UUID:
        return new Uuid(uuidText(bytes));
      case DECIMAL_OTHER: {
        const [kind, negative, exponent] = [reader.u8(), reader.u8() === 1, BigInt.asIntN(64, reader.u64())];
        return new Decimal(DECIMAL_KINDS[kind], negative, decodeText(reader.rest()), exponent);
      }
      default:
        throw new TypeError(`tag ${tag} is not known here`);
    }
  }

  #container(tag, reader) {
    const n = reader.size();
    if (tag !== DICT) {
      const items = new Array(n);
      for (let i = 0; i < n; i++) items[i] = this.#item(reader);
      return items;
    }
    const dict = this.#asMap ? new Map() : {};
    for (let i = 0; i < n; i++) {
      const key = decodeText(reader.raw(reader.size()));
      this.#set(dict, key, this.#item(reader));
    }
    return dict;
  }

  /** A value in inline encoding. */
  #item(reader) {
    const tag = reader.u8();
    switch (tag) {
      case NONE:
        return null;
      case FALSE:
        return false;
      case TRUE:
        return true;
      case EMPTY:
        return this.#asMap ? new Map() : {};
      case INT: {
        const zigzag = reader.uvarint();
        return this.#bigInt((zigzag >> 1n) ^ -(zigzag & 1n));
      }
      case FLOAT:
        return reader.f64();
      case DIGITS:
      case DATE:
        return this.#fixed(tag, reader.uvarint());
      case DATETIME:
      case DATETIME_UTC:
      case DECIMAL:
        return this.#fixed(tag, reader.word());
      case SHORT:
        return decodeText(reader.raw(reader.u8()));
      case LIST:
      case TUPLE:
      case DICT:
        return this.#container(tag, reader);
      default:
        return this.#blob(tag, reader.raw(reader.size()));
    }
  }
}

/** Reads a blob that the core has checked. */
class ItemReader {
  #bytes;
  #view;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  #next(length) {
    this.#at += length;
    return this.#at - length;
  }

  u8() {
    return this.#bytes[this.#next(1)];
  }

  u32() {
    return this.#view.getUint32(this.#next(4), true);
  }

  u64() {
    return this.#view.getBigUint64(this.#next(8), true);
  }

  /** A word of inline encoding, the highest byte first. */
  word() {
    return this.#view.getBigUint64(this.#next(8));
  }

  f64() {
    return this.#view.getFloat64(this.#next(8));
  }

  raw(length) {
    const at = this.#next(length);
    return this.#bytes.subarray(at, at + length);
  }

  rest() {
    return this.#bytes.subarray(this.#at);
  }

  uvarint() {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  size() {
    return Number(this.uvarint());
  }

  /** Microseconds, fold and zone. */
  stamp() {
    return [this.u64(), this.u8(), this.#zone()];
  }

  #zone() {
    const kind = this.u8();
    if (kind === 0) return null;
    if (kind === 1) return UTC;
    if (kind === 4) return new Zone("key", null, decodeText(this.raw(this.size())));
    const offset = (this.u32() | 0) * 86400 + this.u32() + this.u32() / 1e6;
    return new Zone("offset", offset, kind === 3 ? decodeText(this.raw(this.size())) : null);
  }
}

/** @param {bigint} word microseconds from 0001-01-01 */
function dateTime(word, fold, zone) {
  const date = new Date((Number(word / DAY) - DAYS_TO_1970) * 86_400_000);
  const day = [date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate()];
  return new DateTime(...day, ...clock(Number(word % DAY)), fold, zone);
}

function clock(microseconds) {
  const seconds = Math.floor(microseconds / 1e6);
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60, microseconds % 1e6];
}

function hexadecimal(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Two's complement, the lowest byte first. */
function signed(bytes) {
  const value = BigInt(`0x${hexadecimal(bytes.slice().reverse())}`);
  return BigInt.asIntN(8 * bytes.length, value);
}

function uuidText(bytes) {
  const text = hexadecimal(bytes);
  return [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]].map(([from, to]) => text.slice(from, to)).join("-");
}
