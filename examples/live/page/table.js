// The table: as many rows as are visible, which the worker fills; scrolling moves the window over the list.

import { COLUMNS } from "./columns.js";
import { HEAT_LEVELS } from "./ranking.js";

/** @typedef {{ rank: number, symbol: string, heat: number, values: number[] }} Row */
/** @typedef {import("./ranking.js").Choice} Choice */

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Write only what differs: the browser lays out nothing else. @param {Text} node @param {string} text */
function write(node, text) {
  if (node.data !== text) node.data = text;
}

/** @param {number} change */
function direction(change) {
  return change > 0 ? "up" : change < 0 ? "down" : "";
}

/** One row of the pool. */
class PooledRow {
  element = document.createElement("tr");
  #heat = 0;
  #cells = /** @type {{ cell: HTMLElement, text: Text }[]} */ ([]);

  constructor() {
    const names = ["rank", "symbol", ...COLUMNS.map(({ name }) => name)];
    for (const name of names) {
      const cell = document.createElement(name === "symbol" ? "th" : "td");
      if (name === "symbol") cell.scope = "row";
      cell.className = name;
      const text = document.createTextNode("");
      cell.append(text);
      this.element.append(cell);
      this.#cells.push({ cell, text });
    }
  }

  /** @param {Row | undefined} row @param {number} index in the table, from 1 */
  show(row, index) {
    this.element.hidden = row === undefined;
    if (row === undefined) return;
    this.element.ariaRowIndex = String(index);
    const [rank, symbol, ...values] = this.#cells;
    write(rank.text, String(row.rank));
    write(symbol.text, row.symbol);
    if (row.heat !== this.#heat) {
      this.#heat = row.heat;
      this.element.dataset.move = direction(row.heat);
      this.element.style.setProperty("--heat", String(Math.abs(row.heat) / HEAT_LEVELS));
    }
    values.forEach(({ cell, text }, i) => {
      const value = row.values[i];
      write(text, COLUMNS[i].text(value));
      if (COLUMNS[i].name !== "change") return;
      const moved = direction(value);
      if (cell.dataset.direction !== moved) cell.dataset.direction = moved;
    });
  }
}

export class Table {
  #scroller = element("scroller");
  #extent = element("extent");
  #table = element("table");
  #body = element("rows");
  /** @type {PooledRow[]} */
  #pool = [];
  #total = 0;
  #rowHeight = 30;
  #ask;

  /** @param {(first: number, count: number) => void} ask is called when other rows become visible */
  constructor(ask) {
    this.#ask = ask;
    new ResizeObserver(() => this.#resize()).observe(this.#scroller);
    this.#scroller.addEventListener("scroll", () => this.#ask(this.first, this.#pool.length), { passive: true });
  }

  get first() {
    return Math.min(Math.round(this.#scroller.scrollTop / this.#rowHeight), Math.max(0, this.#total - this.#pool.length));
  }

  #resize() {
    const style = getComputedStyle(this.#scroller);
    this.#rowHeight = parseFloat(style.getPropertyValue("--row"));
    const space = this.#scroller.clientHeight - parseFloat(style.getPropertyValue("--head"));
    const count = Math.max(1, Math.floor(space / this.#rowHeight));
    while (this.#pool.length < count) {
      const row = new PooledRow();
      row.element.hidden = true;
      this.#pool.push(row);
      this.#body.append(row.element);
    }
    for (const row of this.#pool.splice(count)) row.element.remove();
    this.#extend();
    this.#ask(this.first, count);
  }

  /** So high that the last row is reached at the end. */
  #extend() {
    const hidden = Math.max(0, this.#total - this.#pool.length);
    this.#extent.style.height = `${hidden * this.#rowHeight + this.#scroller.clientHeight}px`;
  }

  /** @param {Row[]} rows @param {number} first @param {number} total */
  show(rows, first, total) {
    if (total !== this.#total) {
      this.#total = total;
      this.#table.ariaRowCount = String(total + 1);
      this.#extend();
    }
    this.#pool.forEach((row, i) => row.show(rows[i], first + i + 2));
  }

  /** @param {number} position */
  scrollTo(position) {
    this.#scroller.scrollTop = position * this.#rowHeight;
  }

  focus() {
    this.#scroller.focus();
  }
}

/** The head, whose buttons choose the order. */
export class Head {
  /** @type {Map<string, { cell: HTMLElement, button: HTMLElement }>} */
  #columns = new Map();

  /** @param {(by: string) => void} chosen */
  constructor(chosen) {
    const head = element("head");
    for (const [name, label] of [["rank", "#"], ["symbol", "Symbol"]]) {
      const cell = document.createElement("th");
      [cell.scope, cell.className, cell.textContent] = ["col", name, label];
      head.append(cell);
    }
    for (const { name, label, title } of COLUMNS) {
      const [cell, button] = [document.createElement("th"), document.createElement("button")];
      [cell.scope, cell.className] = ["col", name];
      [button.type, button.title, button.textContent] = ["button", title, label];
      button.addEventListener("click", () => chosen(name));
      cell.append(button);
      head.append(cell);
      this.#columns.set(name, { cell, button });
    }
  }

  /** @param {Choice} choice */
  show({ by, descending }) {
    for (const [name, { cell }] of this.#columns) {
      cell.ariaSort = name === by ? (descending ? "descending" : "ascending") : null;
    }
  }
}
