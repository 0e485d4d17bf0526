// The market as columns: their order, and how far prices have moved in the last seconds.

import { COLUMNS, NAMES } from "./columns.js";

/** @typedef {import("../../../clients/js/src/index.js").Update} Update */
/** @typedef {{ by: string, descending: boolean, filter: string }} Choice */

// Seconds in which heat falls to a third; the move of a price that is all the heat there is.
const COOLING = 4;
const HOTTEST_MOVE = 0.003;
export const HEAT_LEVELS = 8;

const EMPTY = new Float64Array(0);

/** Sort keys: what has no value comes last. @param {Float64Array} values @param {boolean} descending */
function sortKeys(values, descending) {
  const last = descending ? -Infinity : Infinity;
  return values.map((value) => (Number.isNaN(value) ? last : value));
}

export class Ranking {
  /** @type {string[]} */
  symbols = [];
  /** @type {Record<string, Float64Array>} */
  columns = Object.fromEntries(NAMES.map((name) => [name, EMPTY]));
  /** Of each row, from -1 (fell) to 1 (rose). */
  heat = new Float32Array(0);
  /** Rows, best first. */
  order = new Uint32Array(0);
  /** Positions in `order` that the filter leaves; null: all. @type {Uint32Array | null} */
  #matching = null;
  #shownAt = 0;

  /**
   * Take over the state of an update.
   * @param {Update} update
   * @param {boolean} listChanged whether symbols came, went or moved since the last call
   * @param {number} now in milliseconds
   */
  take(update, listChanged, now) {
    const cooled = Math.exp((this.#shownAt - now) / 1000 / COOLING);
    const [oldPrice, oldHeat] = [this.columns.price, this.heat];
    const oldRows = listChanged ? this.#renumber(update.symbols) : null;
    for (const { name, factors } of COLUMNS) {
      const columns = factors.map((path) => update.column(path));
      this.columns[name] = columns.reduce((product, column) => product.map((value, row) => value * column[row]));
    }
    const { price } = this.columns;
    this.heat = new Float32Array(price.length);
    for (let row = 0; row < price.length; row++) {
      const old = oldRows === null ? row : oldRows[row];
      if (old < 0) continue;
      const move = (price[row] - oldPrice[old]) / oldPrice[old] / HOTTEST_MOVE;
      // The root: most moves are small, and should be seen.
      const added = move ? Math.sign(move) * Math.sqrt(Math.abs(move)) : 0;
      this.heat[row] = Math.max(-1, Math.min(1, oldHeat[old] * cooled + added));
    }
    this.#shownAt = now;
  }

  /** Take over the list of symbols; the row that each had before, -1 for new ones. @param {string[]} symbols */
  #renumber(symbols) {
    const before = new Map(this.symbols.map((symbol, row) => [symbol, row]));
    this.symbols = symbols;
    return Int32Array.from(symbols, (symbol) => before.get(symbol) ?? -1);
  }

  /** @param {Choice} choice */
  sort({ by, descending, filter }) {
    const keys = sortKeys(this.columns[by], descending);
    const order = Uint32Array.from(keys, (_, row) => row);
    // Equals stay in the order of the snapshot.
    if (descending) order.sort((one, other) => keys[other] - keys[one] || one - other);
    else order.sort((one, other) => keys[one] - keys[other] || one - other);
    this.order = order;
    this.#matching = null;
    if (filter) {
      const found = Uint32Array.from(order.keys());
      this.#matching = found.filter((position) => this.symbols[order[position]].includes(filter));
    }
  }

  get size() {
    return this.order.length;
  }

  /** How many rows the filter leaves. */
  get matching() {
    return this.#matching?.length ?? this.order.length;
  }

  /** Whether the filter leaves something out. */
  get filtered() {
    return this.#matching !== null;
  }

  /** Positions in the ranking that the filter leaves. */
  get positions() {
    return this.#matching ?? Uint32Array.from(this.order.keys());
  }

  /** Heat as a level. @param {number} row */
  level(row) {
    return Math.round(this.heat[row] * HEAT_LEVELS);
  }

  /** What some rows of the list show. @param {number} first @param {number} count */
  window(first, count) {
    const last = Math.min(this.matching, first + count);
    const rows = [];
    for (let at = first; at < last; at++) {
      const position = this.#matching === null ? at : this.#matching[at];
      const row = this.order[position];
      rows.push({
        rank: position + 1,
        symbol: this.symbols[row],
        heat: this.level(row),
        values: NAMES.map((name) => this.columns[name][row]),
      });
    }
    return rows;
  }
}
