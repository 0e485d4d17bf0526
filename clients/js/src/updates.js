// What followers hand out, and the iteration over it.

/** Reasons of full frames that stand in the place of a delta: nothing was missed. */
export const IN_PLACE = ["larger", "verify_failed"];

/** One published state. Its records may be read until the next update is asked for. */
export class Update {
  #decoder;

  constructor(decoder, about) {
    this.#decoder = decoder;
    Object.assign(this, about);
  }

  get changed() {
    return [...this.added, ...this.updated];
  }

  #current() {
    if (this.#decoder === null) {
      throw new Error("the follower has gone on: read an update before you ask for the next one");
    }
    return this.#decoder;
  }

  get symbols() {
    return this.#current().symbols;
  }

  has(symbol) {
    return this.#current().has(symbol);
  }

  get(symbol) {
    return this.#current().get(symbol);
  }

  snapshot(options) {
    return this.#current().snapshot(options);
  }

  column(path, kind) {
    return this.#current().column(path, kind);
  }

  /** The decoder is about to go on. */
  expire() {
    this.#decoder = null;
  }
}

/** An endless iteration. `produce` makes the next update, `dispose` lets go of connections and wakes it up. */
export class Updates {
  #turn = Promise.resolve();
  #last = null;
  #closed = false;

  get closed() {
    return this.#closed;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  next() {
    const step = this.#turn.then(() => this.#step());
    // The next call begins after this one, however it ends.
    this.#turn = step.catch(() => {});
    return step;
  }

  async #step() {
    this.#last?.expire();
    try {
      const update = this.#closed ? null : await this.produce();
      if (this.#closed) return { value: undefined, done: true };
      this.#last = update;
      return { value: update, done: false };
    } catch (error) {
      if (this.#closed) return { value: undefined, done: true };
      this.close();
      throw error;
    }
  }

  async return(value) {
    this.close();
    return { value, done: true };
  }

  /** Ends the iteration, also one that waits. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.dispose();
  }
}
