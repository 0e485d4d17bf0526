// Waiting for a server that is away.

const SHORTEST = 50;
const LONGEST = 2000;

export class Outage {
  // What keeps us waiting now, in words.
  error = null;
  #failures = 0;
  #connectedAt = Infinity;
  #wake = () => {};

  /** Before the next try, longer each time, in milliseconds. */
  async wait(error) {
    this.error = error.message;
    if (performance.now() - this.#connectedAt > LONGEST) this.#failures = 0;
    this.#connectedAt = Infinity;
    const wait = Math.min(LONGEST, SHORTEST * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    await new Promise((resolve) => {
      // Readers do not come back all at once.
      const timer = setTimeout(resolve, wait * (0.5 + Math.random() / 2));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** The server answers. Only a connection that lasts makes the next wait short again. */
  connected() {
    this.error = null;
    this.#connectedAt = performance.now();
  }

  /** A try has succeeded. */
  over() {
    this.#failures = 0;
    this.error = null;
  }

  /** Ends the waiting. */
  wake() {
    this.#wake();
  }
}
