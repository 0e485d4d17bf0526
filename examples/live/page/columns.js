// The columns of the table: which values of a record they multiply, and how the result is written.

/**
 * @typedef {{ name: string, label: string, factors: string[][], title: string, text: (value: number) => string }} Column
 */

const NOTHING = "–";

/**
 * @param {number} value
 * @param {number} digits
 */
function fixed(value, digits) {
  return Number.isNaN(value) ? NOTHING : value.toFixed(digits).replace("-", "−");
}

/** @param {number} value */
function percent(value) {
  return (value > 0 ? "+" : "") + fixed(value, 2);
}

/** Four characters or so: 21.7K, 1.64B. @param {number} value */
function short(value) {
  if (Number.isNaN(value)) return NOTHING;
  for (const [unit, letter] of /** @type {const} */ ([[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]])) {
    if (value >= unit) return (value / unit).toFixed(value < 10 * unit ? 2 : 1) + letter;
  }
  return value.toFixed(0);
}

/** @type {Column[]} */
export const COLUMNS = [
  { name: "price", label: "Price", factors: [["lastTrade", "p"]], title: "last trade", text: (v) => fixed(v, v < 1 ? 4 : 2) },
  { name: "change", label: "Chg %", factors: [["todaysChangePerc"]], title: "change since yesterday", text: percent },
  { name: "turnover", label: "Turnover", factors: [["day", "v"], ["day", "vw"]], title: "dollars traded today", text: short },
  { name: "volume", label: "Volume", factors: [["day", "v"]], title: "shares traded today", text: short },
  { name: "rvol", label: "RVol", factors: [["rvol"]], title: "volume today, of an average day's", text: (v) => fixed(v, 2) },
  { name: "high", label: "High %", factors: [["from_high"]], title: "distance from today's high", text: percent },
  { name: "spread", label: "Spread %", factors: [["spread_pct"]], title: "ask less bid", text: (v) => fixed(v, 3) },
  { name: "cap", label: "Mkt cap", factors: [["market_cap"]], title: "market capitalisation", text: short },
  { name: "score", label: "Score", factors: [["score"]], title: "change today × relative volume", text: (v) => fixed(v, 2) },
];

/** What the ranking begins with. */
export const FIRST_CHOICE = { by: "turnover", descending: true, filter: "" };

export const NAMES = COLUMNS.map(({ name }) => name);
