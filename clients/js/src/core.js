// The WebAssembly module, and one instance of it: places in its memory as views.

import {
  BaseMismatchError,
  BrokenDecoderError,
  CorruptDeltaError,
  LimitExceededError,
  UnsupportedVersionError,
} from "./errors.js";
import { decodeText, encodeText } from "./text.js";

// As rust/src/wasm/exports.rs numbers them.
const ERRORS = [null, CorruptDeltaError, LimitExceededError, UnsupportedVersionError, BaseMismatchError];
const SYMBOLS = { all: 0, added: 1, updated: 2, removed: 3, moved: 4 };
const COLUMNS = { tags: 0, float64: 1, int64: 2 };
const KINDS = ["full", "delta"];
const NOTHING = 0xffffffff;

let compiled;

/** The module, compiled once; `source` may be its bytes, a Response, a URL, or a compiled module. */
export function compile(source) {
  if (source !== undefined) return compileSource(source);
  compiled ??= compileSource(new URL("../snapdelta.wasm", import.meta.url)).catch((error) => {
    compiled = undefined;
    throw error;
  });
  return compiled;
}

async function compileSource(source) {
  const given = await source;
  if (given instanceof WebAssembly.Module) return given;
  if (given instanceof URL || typeof given === "string") {
    const url = new URL(given, import.meta.url);
    if (url.protocol === "file:") {
      const { readFile } = await import("node:fs/promises");
      return WebAssembly.compile(await readFile(url));
    }
    return compileSource(await fetch(url));
  }
  if (typeof Response === "function" && given instanceof Response) {
    if (!given.ok) throw new Error(`${given.url}: ${given.status} ${given.statusText}`);
    return WebAssembly.compile(await given.arrayBuffer());
  }
  return WebAssembly.compile(given);
}

/** One instance. Views that it hands out are valid until the next call. */
export class Core {
  #exports;
  #answer;
  #broken = false;
  size = 0;
  schemaVersion = 0;
  /** Of the last frame. */
  kind = null;

  /** @param {WebAssembly.Instance} instance */
  constructor(instance, maxBytes) {
    this.#exports = instance.exports;
    this.#call("snapdelta_start", maxBytes);
    this.#answer = this.#call("snapdelta_answer") >>> 2;
  }

  #call(name, argument) {
    if (this.#broken) throw new BrokenDecoderError("this decoder is broken: make a new one");
    try {
      return this.#exports[name](argument);
    } catch (error) {
      this.#broken = true;
      throw new BrokenDecoderError(
        "the decoder ran out of memory or has a defect; make a new one and begin with a full frame",
        { cause: error },
      );
    } finally {
      // Memory that has grown has another buffer.
      if (this.u8?.buffer !== this.#exports.memory.buffer) this.#look();
    }
  }

  #look() {
    const { buffer } = this.#exports.memory;
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f64 = new Float64Array(buffer);
    this.u64 = new BigUint64Array(buffer);
  }

  #input(bytes) {
    const at = this.#call("snapdelta_room", bytes.length) >>> 0;
    this.u8.set(bytes, at);
  }

  #span(number) {
    const at = this.#answer + 2 * number;
    return [this.u32[at], this.u32[at + 1]];
  }

  #bytes(number = 0) {
    const [at, length] = this.#span(number);
    return this.u8.subarray(at, at + length);
  }

  apply(frame) {
    this.#input(frame);
    const code = this.#call("snapdelta_apply");
    if (code) throw new ERRORS[code](decodeText(this.#bytes()));
    [this.size, this.schemaVersion] = this.#span(0);
    this.kind = KINDS[this.#span(1)[0]];
  }

  get epoch() {
    return BigInt.asUintN(64, this.#call("snapdelta_epoch"));
  }

  get sequence() {
    return BigInt.asUintN(64, this.#call("snapdelta_sequence"));
  }

  get digest() {
    return BigInt.asUintN(64, this.#call("snapdelta_digest"));
  }

  /** @param {keyof typeof SYMBOLS} which */
  symbols(which) {
    this.#call("snapdelta_symbols", SYMBOLS[which]);
    const [lengthsAt, n] = this.#span(0);
    const lengths = this.u32.subarray(lengthsAt >>> 2, (lengthsAt >>> 2) + n);
    const bytes = this.#bytes(1);
    const all = decodeText(bytes);
    const symbols = new Array(n);
    let at = 0;
    for (let i = 0; i < n; i++) {
      const end = at + lengths[i];
      // Where all is ASCII, characters are bytes.
      symbols[i] = all.length === bytes.length ? all.slice(at, end) : decodeText(bytes.subarray(at, end));
      at = end;
    }
    return symbols;
  }

  /** The row of a symbol, -1 if there is none. */
  find(symbol) {
    this.#input(encodeText(symbol));
    const row = this.#call("snapdelta_find") >>> 0;
    return row === NOTHING ? -1 : row;
  }

  /** Shape, address of the tags, index of the words in `u64`. */
  row(at) {
    const shape = this.#call("snapdelta_row", at) >>> 0;
    return { shape, tags: this.u32[this.#answer], words: this.u32[this.#answer + 2] >>> 3 };
  }

  shape(id) {
    this.#call("snapdelta_shape", id);
    const [at, n] = this.#span(0);
    return this.u32.slice(at >>> 2, (at >>> 2) + n);
  }

  key(id) {
    this.#call("snapdelta_key", id);
    return decodeText(this.#bytes());
  }

  blob(id) {
    this.#call("snapdelta_blob", id);
    return this.#bytes();
  }

  /** A copy of a column. */
  column(keys, kind) {
    const parts = keys.map(encodeText);
    const input = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
    const view = new DataView(input.buffer);
    let to = 0;
    for (const part of parts) {
      view.setUint32(to, part.length, true);
      input.set(part, to + 4);
      to += 4 + part.length;
    }
    this.#input(input);
    this.#call("snapdelta_column", COLUMNS[kind]);
    const [at, n] = this.#span(0);
    if (kind === "tags") return this.u8.slice(at, at + n);
    const Kind = kind === "int64" ? BigInt64Array : Float64Array;
    return new Kind(this.u8.buffer, at, n).slice();
  }
}
