// What is asked of a name's keys, with answers parsed and failures typed: docs/redis-layout.md.

import {
  SnapshotAccessError,
  SnapshotSettingError,
  SnapshotTypeError,
  SnapshotUnavailableError,
  UnsupportedVersionError,
} from "../errors.js";

const LAYOUT = "1";
const PART = /^[^{}\x00-\x1f\x7f]{1,200}$/u;
// What a server says for a while.
const PASSING = /^(TRYAGAIN|CLUSTERDOWN|LOADING|MASTERDOWN|UNBLOCKED|BUSY) /;
const NOT_ALLOWED = /^(NOAUTH|WRONGPASS|NOPERM)/;
const REQUEST_RESYNC = `
if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then return 0 end
return redis.call('HSET', KEYS[1], 'resync_request', ARGV[1])`;

/** Where in a name's history a state is; as text, the id of its entries. */
export class Position {
  /** @param {bigint} epoch @param {bigint} sequence */
  constructor(epoch, sequence) {
    this.epoch = epoch;
    this.sequence = sequence;
  }

  static of(id) {
    const [epoch, sequence] = String(id).split("-");
    return new Position(BigInt(epoch), BigInt(sequence));
  }

  /** Below 0, 0 or above 0, as this one is before, at or behind the other. */
  compare(other) {
    const [a, b] = this.epoch === other.epoch ? [this.sequence, other.sequence] : [this.epoch, other.epoch];
    return a < b ? -1 : a > b ? 1 : 0;
  }

  toString() {
    return `${this.epoch}-${this.sequence}`;
  }
}

function checkPart(what, value) {
  if (typeof value !== "string" || !PART.test(value) || /\p{Surrogate}/u.test(value)) {
    throw new SnapshotSettingError(
      `${what} must be 1 to 200 characters without braces and control characters, not ${JSON.stringify(value)}`,
    );
  }
}

/** A connection of our own: a blocked read holds up all others. */
export function ownClient(redis) {
  if (typeof redis?.duplicate !== "function" || typeof redis.callBuffer !== "function") {
    throw new SnapshotSettingError("redis must be a Redis or Cluster of ioredis");
  }
  const options = {
    keyPrefix: "",
    enableAutoPipelining: false,
    // The follower retries: every command on a lost connection fails at once.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // The store has its own time limit, which knows how long a read blocks.
    ...{ commandTimeout: undefined, socketTimeout: undefined, blockingTimeout: undefined },
    retryStrategy: (tries) => Math.min(2000, 50 * tries),
  };
  if (!redis.isCluster) return redis.duplicate(options);
  const { retryStrategy, ...ofNodes } = options;
  return redis.duplicate([], {
    ...{ keyPrefix: "", enableAutoPipelining: false, clusterRetryStrategy: retryStrategy },
    redisOptions: { ...redis.options.redisOptions, ...ofNodes },
  });
}

/** Commands on the keys of one name. Throws SnapshotAccessError and its kinds, nothing of ioredis's. */
export class SnapshotStore {
  #client;
  #timeout;
  #lastError = null;

  constructor(client, name, keyPrefix, commandTimeout) {
    checkPart("a name", name);
    checkPart("keyPrefix", keyPrefix);
    this.name = name;
    const stem = `${keyPrefix}{${name}}`;
    this.keys = { full: `${stem}:full`, delta: `${stem}:delta`, head: `${stem}:head` };
    this.#timeout = commandTimeout;
    this.#client = client;
    // Without a listener, ioredis writes to the console.
    client.on("error", (error) => (this.#lastError = error));
    client.on("ready", () => (this.#lastError = null));
  }

  close() {
    this.#client.disconnect();
  }

  async #run(key, command, ...rest) {
    return this.#runFor(this.#timeout, key, command, ...rest);
  }

  async #runFor(timeout, key, command, ...rest) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => {
        // What is still to be answered would hold up all that comes after it.
        this.#client.disconnect(true);
        reject(new Error(`no answer in ${timeout} ms`));
      }, timeout);
    });
    const answer = this.#client.callBuffer(command, ...rest);
    // The one that comes second has nobody who waits for it.
    answer.catch(() => {});
    try {
      return await Promise.race([answer, late]);
    } catch (error) {
      throw this.#typed(key, error);
    } finally {
      clearTimeout(timer);
    }
  }

  #typed(key, error) {
    const refused = error.name === "ReplyError";
    const cause = refused ? error : (this.#lastError ?? error);
    const text = `snapshots '${this.name}': ${key}: ${cause.message}`;
    if (NOT_ALLOWED.test(cause.message)) return new SnapshotAccessError(text, { cause });
    if (!refused || PASSING.test(error.message)) return new SnapshotUnavailableError(text, { cause });
    const Kind = error.message.includes("WRONGTYPE") ? SnapshotTypeError : SnapshotAccessError;
    return new Kind(text, { cause });
  }

  /** Position and digest of the newest save; null where nothing was saved, or the head is lost. */
  async head() {
    const key = this.keys.head;
    const fields = await this.#run(key, "HMGET", key, "layout", "epoch", "sequence", "digest");
    const [layout, epoch, sequence, digest] = fields.map((field) => field?.toString() ?? null);
    if (layout !== null && layout !== LAYOUT) {
      throw new UnsupportedVersionError(
        `snapshots '${this.name}': written by layout ${layout}, this build knows layout ${LAYOUT}; upgrade snapdelta`,
      );
    }
    const isNumber = (text) => text !== null && /^\d+$/.test(text);
    if (!isNumber(epoch) || !isNumber(sequence) || digest === null) return null;
    return { position: new Position(BigInt(epoch), BigInt(sequence)), digest };
  }

  /** Ask the writer for a full frame. */
  async requestResync(position) {
    await this.#run(this.keys.head, "EVAL", REQUEST_RESYNC, 1, this.keys.head, String(position));
  }

  /** The server's clock, in milliseconds; in a cluster, that of any server. */
  async time() {
    const [seconds, microseconds] = await this.#run(this.keys.head, "TIME");
    return Number(seconds) * 1000 + Number(microseconds) / 1000;
  }

  /** The newest full frame at or before an id ("(ID": before it), or null. */
  async fullBefore(end) {
    const key = this.keys.full;
    return parsed(await this.#run(key, "XREVRANGE", key, end, "-", "COUNT", 1))[0] ?? null;
  }

  /** Up to `count` entries of the delta stream after a position. */
  async deltasAfter(position, count) {
    const key = this.keys.delta;
    return parsed(await this.#run(key, "XRANGE", key, `(${position}`, "+", "COUNT", count));
  }

  /** The same, waiting up to `block` milliseconds for the first; with null: those written from now on. */
  async nextDeltas(position, count, block) {
    const key = this.keys.delta;
    const wait = block ? ["BLOCK", block] : [];
    const from = ["STREAMS", key, position === null ? "$" : String(position)];
    return parsed(
      ofOneStream(await this.#runFor(this.#timeout + block, key, "XREAD", "COUNT", count, ...wait, ...from)),
    );
  }
}

/** The entries in an answer to XREAD: a list of streams, or a map. */
function ofOneStream(answer) {
  if (answer === null) return [];
  if (answer instanceof Map) return [...answer.values()][0];
  if (!Array.isArray(answer)) return Object.values(answer)[0];
  return Array.isArray(answer[0]) ? answer[0][1] : answer[1];
}

function parsed(rows) {
  return (rows ?? []).map(([id, fields]) => entry(Position.of(id), fields ?? []));
}

/** An entry that no writer made has time 0, no frame and no digest, which no state has. */
function entry(position, fields) {
  const found = new Map();
  for (let i = 0; i < fields.length; i += 2) found.set(String(fields[i]), fields[i + 1]);
  const text = (field) => found.get(field)?.toString() ?? "";
  return {
    position,
    time: /^\d+$/.test(text("t")) ? Number(text("t")) : 0,
    digest: text("d"),
    frame: found.get("f") ?? null,
    reason: text("r"),
    base: text("b"),
  };
}
