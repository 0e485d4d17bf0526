// A copy of one name's state, and the ways on which it moves: only to states that Redis accepted.

import { ChangeLog } from "../changes.js";
import {
  BaseMismatchError,
  CorruptDeltaError,
  LimitExceededError,
  SnapdeltaError,
  SnapshotAccessError,
} from "../errors.js";
import { hexadecimal } from "../text.js";
import { IN_PLACE, Update } from "../updates.js";
import { Position } from "./store.js";

// Entries that one read asks for.
const PAGE = 16;
// Full frames that are tried, newest first, and starts, as the writer may trim what is being read.
const FULLS_TRIED = 4;
const STARTS = 3;
// How long a comparison of the clocks holds, in milliseconds.
const CLOCK_TTL = 60_000;

function same(one, other) {
  return one !== null && other !== null && !one.position.compare(other.position) && one.digest === other.digest;
}

/** Moves along a name's history, one step at a time. */
export class Replica {
  #store;
  #decoder;
  // Where the decoder is; while out of sync, nobody may see it.
  #at = null;
  #outOfSync = true;
  #lastInSync = null;
  // The last entry of the delta stream that was read, and those read and not yet taken.
  #cursor = null;
  #entries = [];
  // The last entry that did not fit, since one did.
  #refused = null;
  // What was handed out last, why the next update did not come from it, and what has changed since.
  #shown = null;
  #reason = "start";
  #changes = new ChangeLog();
  // The server's clock less our monotonic one, in milliseconds, and when to ask again.
  #clockOffset = 0;
  #syncClockAt = 0;

  constructor(store, decoder) {
    this.#store = store;
    this.#decoder = decoder;
  }

  /** One step, waiting up to `block` milliseconds for an entry. */
  async advance(block) {
    if (this.#outOfSync) {
      // The next save wakes us up.
      if (!(await this.#start())) await this.#store.nextDeltas(null, 1, block);
    } else if (this.#entries.length) {
      await this.#applyEntry(this.#entries.shift());
    } else {
      this.#entries = await this.#store.nextDeltas(this.#cursor, PAGE, block);
      if (!this.#entries.length) await this.#checkHead();
    }
    await this.#syncClock();
  }

  get hasUpdate() {
    return !this.#outOfSync && this.#at !== null && !same(this.#at, this.#shown);
  }

  /** Where we are, and what has changed since the last call. */
  update() {
    const [at, shown, reason, decoder] = [this.#at, this.#shown, this.#reason, this.#decoder];
    const changes = this.#changes.take();
    const whole = { added: decoder.symbols, updated: [], removed: [], moved: [] };
    [this.#shown, this.#reason] = [at, null];
    return new Update(decoder, {
      ...(shown === null ? whole : changes),
      epoch: at.position.epoch,
      sequence: at.position.sequence,
      digest: decoder.digest,
      timestamp: at.time,
      lag: Math.max(0, performance.now() + this.#clockOffset - at.time),
      resynced: reason !== null && !IN_PLACE.includes(reason) && shown !== null,
      reason,
    });
  }

  /** No entry came: compare with the head. Elsewhere, it means new entries, or out of sync. */
  async #checkHead() {
    const head = await this.#store.head();
    if (head === null || same(this.#at, head)) return;
    // A save between the two questions, or a stream that was made anew.
    this.#entries = await this.#store.nextDeltas(this.#cursor, PAGE, 0);
    if (!this.#entries.length) this.#markOutOfSync("head");
  }

  /** Begin at a full frame and go on to the head; false if there is no way to it (yet). */
  async #start() {
    let damaged = null;
    let before = null;
    for (let i = 0; i < STARTS; i++) {
      const head = await this.#store.head();
      if (head === null || same(head, before)) break;
      before = head;
      // What stands behind the head was not accepted.
      const { there, rejected } = await this.#seek(head.position);
      if (there && same(this.#at, head)) {
        this.#markInSync();
        return true;
      }
      damaged ??= rejected ?? (there ? head.position : null);
    }
    if (damaged !== null) await this.#requestResync(damaged);
    return false;
  }

  async #requestResync(damaged) {
    try {
      await this.#store.requestResync(damaged);
    } catch (error) {
      // A reader need not be allowed to write: then the next full frame comes when it is due.
      if (!(error instanceof SnapshotAccessError)) throw error;
    }
  }

  /** Apply a full frame and the deltas up to a position; also the first entry that did not fit. */
  async #seek(position) {
    let rejected = null;
    let end = String(position);
    for (let i = 0; i < FULLS_TRIED; i++) {
      const full = await this.#store.fullBefore(end);
      if (full === null) break;
      end = `(${full.position}`;
      let stop = full.position;
      this.#cursor = full.position;
      if (this.#apply(full) === null) {
        stop = (await this.#applyUntil(position)) ?? stop;
        if (this.#at !== null && !this.#at.position.compare(position)) return { there: true, rejected };
      }
      rejected ??= stop;
    }
    return { there: false, rejected };
  }

  /** Apply the next deltas up to a position; the first that does not fit, or null. */
  async #applyUntil(until) {
    while (this.#at.position.compare(until) < 0) {
      const entries = await this.#store.deltasAfter(this.#at.position, PAGE);
      if (!entries.length) break;
      for (const entry of entries) {
        if ((await this.#applyNext(entry)) !== null) return entry.position;
        this.#cursor = entry.position;
        if (entry.position.compare(until) >= 0) break;
      }
    }
    return null;
  }

  /** Apply the next entry of the delta stream; if it cannot follow, the replica is out of sync. */
  async #applyEntry(entry) {
    this.#cursor = entry.position;
    if (this.#at === null || entry.position.compare(this.#at.position) <= 0) return;
    const problem = await this.#applyNext(entry);
    if (problem === null) {
      this.#refused = null;
      return;
    }
    const refused = this.#refused;
    this.#refused = refused !== null && refused.compare(entry.position) > 0 ? refused : entry.position;
    this.#markOutOfSync(IN_PLACE.includes(entry.reason) ? problem : entry.reason || problem);
  }

  /** Go from where we are to an entry of the delta stream; why that is not possible, or null. */
  async #applyNext(entry) {
    const { position, digest } = this.#at;
    const next = new Position(position.epoch, position.sequence + 1n);
    const follows = entry.base ? entry.base === `${position}-${digest}` : !entry.position.compare(next);
    if (!follows) return "gap";
    if (entry.frame !== null || !IN_PLACE.includes(entry.reason)) return this.#apply(entry);
    const full = await this.#store.fullBefore(String(entry.position));
    if (full === null || full.position.compare(entry.position)) return "gap";
    const problem = this.#apply(full);
    if (problem === null && !this.#outOfSync) this.#reason ??= entry.reason;
    return problem;
  }

  /** Have the decoder apply the entry's frame; why it could not, or null. */
  #apply(entry) {
    if (entry.frame === null) return "damaged";
    const decoder = this.#decoder;
    try {
      decoder.apply(entry.frame);
    } catch (error) {
      const problem = problemOf(error);
      this.#markOutOfSync(problem ?? "damaged");
      if (problem !== null) return problem;
      if (error instanceof SnapdeltaError) {
        error.message = `snapshots '${this.#store.name}': entry ${entry.position}: ${error.message}`;
      }
      throw error;
    }
    this.#changes.add(decoder);
    const position = new Position(decoder.epoch, decoder.sequence);
    this.#at = { position, digest: hexadecimal(decoder.digest), time: entry.time };
    if (position.compare(entry.position) || this.#at.digest !== entry.digest) {
      this.#markOutOfSync("damaged");
      return "damaged";
    }
    if (!this.#outOfSync) this.#lastInSync = this.#at;
    return null;
  }

  #markOutOfSync(reason) {
    this.#outOfSync = true;
    this.#entries = [];
    // The first reason counts.
    if (this.#reason === null || IN_PLACE.includes(this.#reason)) this.#reason = reason;
  }

  #markInSync() {
    this.#outOfSync = false;
    if (this.#shown !== null && !this.hasUpdate) this.#reason = null;
    const last = this.#lastInSync;
    this.#lastInSync = this.#at;
    if (same(this.#at, last) && this.#refused !== null && this.#refused.compare(this.#cursor) > 0) {
      // No writer made these entries; do not read them again.
      this.#cursor = this.#refused;
    }
  }

  /** Compare the clocks, once a minute; the monotonic one, as the wall's may be set. */
  async #syncClock() {
    if (performance.now() < this.#syncClockAt) return;
    this.#clockOffset = (await this.#store.time()) - performance.now();
    this.#syncClockAt = performance.now() + CLOCK_TTL;
  }
}

/** Why a frame could not be applied, where a full frame mends that; else null. */
function problemOf(error) {
  if (error instanceof BaseMismatchError) return "base";
  return error instanceof CorruptDeltaError && !(error instanceof LimitExceededError) ? "damaged" : null;
}
