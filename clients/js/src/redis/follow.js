// The states of a name in Redis, one after the other, through outages of the server.

import { Decoder } from "../decoder.js";
import { SnapshotSettingError, SnapshotUnavailableError } from "../errors.js";
import { Outage } from "../outage.js";
import { Updates } from "../updates.js";
import { Replica } from "./replica.js";
import { SnapshotStore, ownClient } from "./store.js";

// A blocked read never returns when the stream is made anew with lower ids: it ends and asks, so often.
const BLOCK = 2000;

class RedisUpdates extends Updates {
  #store;
  #block;
  #outage = new Outage();
  #options;
  #replica = null;

  constructor(store, commandTimeout, options) {
    super();
    this.#store = store;
    this.#block = Math.min(BLOCK, Math.ceil(commandTimeout / 2));
    this.#options = options;
  }

  async produce() {
    this.#replica ??= new Replica(this.#store, await Decoder.create(this.#options));
    while (!this.#replica.hasUpdate && !this.closed) {
      try {
        await this.#replica.advance(this.#block);
        this.#outage.over();
      } catch (error) {
        if (!(error instanceof SnapshotUnavailableError)) throw error;
        if (!this.closed) await this.#outage.wait(error);
      }
    }
    return this.closed ? null : this.#replica.update();
  }

  get waitsFor() {
    return this.closed ? null : this.#outage.error;
  }

  dispose() {
    this.#store.close();
    this.#outage.wake();
  }
}

/** The newest state of a name, and then every one that is saved, in order, for ever. */
export function followRedis(redis, name = "default", options = {}) {
  const { keyPrefix = "snapdelta:", commandTimeout = 5000, ...ofDecoder } = options;
  if (!Number.isFinite(commandTimeout) || commandTimeout <= 0) {
    throw new SnapshotSettingError(`commandTimeout must be positive, not ${String(commandTimeout)}`);
  }
  const store = new SnapshotStore(ownClient(redis), name, keyPrefix, commandTimeout);
  return new RedisUpdates(store, commandTimeout, ofDecoder);
}
