// Measurements over time: a line of the last values, and the longest of a minute.

const KEPT = 60;
const [WIDTH, HEIGHT] = [120, 28];

/** A line of bars in an SVG element. */
export class Line {
  /** @type {number[]} */
  #values = [];
  #path = document.createElementNS("http://www.w3.org/2000/svg", "path");

  /** @param {string} id */
  constructor(id) {
    const svg = /** @type {Element} */ (document.getElementById(id));
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.append(this.#path);
  }

  /** @param {number} value */
  add(value) {
    this.#values.push(value);
    if (this.#values.length > KEPT) this.#values.shift();
    const largest = Math.max(...this.#values, 1e-9);
    const step = WIDTH / KEPT;
    // The newest is at the right end.
    const start = KEPT - this.#values.length;
    const bars = this.#values.map((each, i) => {
      const height = Math.max(1, (each / largest) * HEIGHT);
      return `M${((start + i + 0.5) * step).toFixed(1)} ${HEIGHT}v${(-height).toFixed(1)}`;
    });
    this.#path.setAttribute("d", bars.join(""));
  }
}

/** The longest of the last while. */
export class LongestOf {
  #span;
  /** Falling values, each the longest of what came after the one before. @type {{ at: number, value: number }[]} */
  #kept = [];

  /** @param {number} span in milliseconds */
  constructor(span) {
    this.#span = span;
  }

  /** @param {number} value */
  add(value) {
    const at = performance.now();
    while (this.#kept.length && this.#kept[this.#kept.length - 1].value <= value) this.#kept.pop();
    this.#kept.push({ at, value });
    while (this.#kept[0].at < at - this.#span) this.#kept.shift();
  }

  get value() {
    return this.#kept[0]?.value ?? 0;
  }
}
