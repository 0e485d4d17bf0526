// The whole market on a canvas: a cell a symbol, in the order of the ranking. Runs in the worker.

import { HEAT_LEVELS } from "./ranking.js";

/** @typedef {import("./ranking.js").Ranking} Ranking */
/** @typedef {[number, number, number]} Colour */

// Blue and orange differ for every kind of colour vision.
/** @type {Colour} */ const RISEN = [42, 126, 190];
/** @type {Colour} */ const FALLEN = [190, 112, 0];
/** @type {Colour} */ const STILL = [30, 37, 52];
/** @type {Colour} */ const HOT = [240, 246, 255];
// Percent of change that has the full colour, in so many steps to either side.
const FULL_CHANGE = 4;
const STEPS = 24;
// As the page's ground.
const DARK = 0xff1a120d;

/** @param {Colour} from @param {Colour} to @param {number} share @returns {Colour} */
function mix(from, to, share) {
  return /** @type {Colour} */ (from.map((value, i) => Math.round(value + (to[i] - value) * share)));
}

/** Pixels by change and heat. */
const PALETTE = (() => {
  const pixels = new Uint32Array((2 * STEPS + 1) * (HEAT_LEVELS + 1));
  const bytes = new Uint8Array(pixels.buffer);
  for (let step = -STEPS; step <= STEPS; step++) {
    const base = mix(STILL, step < 0 ? FALLEN : RISEN, Math.abs(step) / STEPS);
    for (let heat = 0; heat <= HEAT_LEVELS; heat++) {
      const at = (step + STEPS) * (HEAT_LEVELS + 1) + heat;
      bytes.set([...mix(base, HOT, (0.75 * heat) / HEAT_LEVELS), 255], 4 * at);
    }
  }
  return pixels;
})();

export class MarketMap {
  #canvas;
  #context;
  #columns = 1;
  #rows = 1;

  /** @param {OffscreenCanvas} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  }

  /** @param {number} width @param {number} height in pixels of the screen */
  resize(width, height) {
    [this.#canvas.width, this.#canvas.height] = [width, height];
  }

  /** The position in the ranking of a point. @param {number} x @param {number} y */
  position(x, y) {
    const { width, height } = this.#canvas;
    return Math.floor((y / height) * this.#rows) * this.#columns + Math.floor((x / width) * this.#columns);
  }

  /** @param {Ranking} ranking */
  draw(ranking) {
    const { width, height } = this.#canvas;
    if (!width || !height || !ranking.size) return;
    // Cells that are nearly square and fill the canvas.
    this.#columns = Math.ceil(Math.sqrt((ranking.size * width) / height));
    this.#rows = Math.ceil(ranking.size / this.#columns);
    const cells = this.#colours(ranking);
    const image = this.#context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const cellOf = Uint32Array.from({ length: width }, (_, x) => Math.floor((x / width) * this.#columns));
    let drawn = -1;
    for (let y = 0; y < height; y++) {
      const row = Math.floor((y / height) * this.#rows);
      if (row === drawn) {
        pixels.copyWithin(y * width, (y - 1) * width, y * width);
        continue;
      }
      for (let x = 0; x < width; x++) pixels[y * width + x] = cells[row * this.#columns + cellOf[x]];
      drawn = row;
    }
    this.#context.putImageData(image, 0, 0);
  }

  /** The pixel of each position; positions that the filter leaves out, and cells without one, are dark. */
  #colours(/** @type {Ranking} */ ranking) {
    const { change } = ranking.columns;
    const colours = new Uint32Array(this.#columns * this.#rows).fill(DARK);
    for (const position of ranking.positions) {
      const row = ranking.order[position];
      const share = Math.min(1, Math.abs(change[row] || 0) / FULL_CHANGE);
      const step = STEPS + Math.sign(change[row] || 0) * Math.round(share * STEPS);
      colours[position] = PALETTE[step * (HEAT_LEVELS + 1) + Math.abs(ranking.level(row))];
    }
    return colours;
  }
}
