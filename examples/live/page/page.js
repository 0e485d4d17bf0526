// The page's own thread: hands what people do to the worker, and writes what the worker sends.

import { FIRST_CHOICE } from "./columns.js";
import { Line, LongestOf } from "./measurements.js";
import { Head, Table } from "./table.js";

/** @typedef {import("./worker.js").Request} Request */

/** @param {string} id */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** @param {string} id @param {string} text */
function write(id, text) {
  const found = element(id);
  if (found.textContent !== text) found.textContent = text;
}

/** With commas. `toLocaleString` would cost more than all the rest of a frame. @param {number} number */
function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

const worker = new Worker("worker.js", { type: "module" });
const filter = /** @type {HTMLInputElement} */ (element("filter"));
const canvas = /** @type {HTMLCanvasElement} */ (element("map"));
const lines = { lag: new Line("lag-line"), frame: new Line("frame-line") };
const longest = new LongestOf(60_000);

let choice = FIRST_CHOICE;
let paused = false;
let connection = { state: "connecting", detail: "" };
/** What the worker said since the page was drawn last: only the newest counts. @type {any} */
let pending = {};
let isDue = false;

/** @param {Request} request @param {Transferable[]} transfer */
function ask(request, transfer = []) {
  worker.postMessage(request, transfer);
}

/** @param {Partial<typeof choice>} part */
function choose(part) {
  choice = { ...choice, ...part };
  ask({ choice });
  head.show(choice);
}

const table = new Table((first, count) => ask({ rows: { first, count } }));
const head = new Head((by) => choose({ by, descending: by === choice.by ? !choice.descending : true }));
head.show(choice);

// --- what the worker says

worker.onmessage = ({ data }) => {
  if (data.position !== undefined) table.scrollTo(data.position);
  pending = { ...pending, ...data };
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(draw);
};
worker.onerror = ({ message }) => {
  connection = { state: "ended", detail: message ?? "the worker failed" };
  showState();
};

function draw() {
  const before = performance.now();
  const said = pending;
  [pending, isDue] = [{}, false];
  if (said.connection) {
    connection = said.connection;
    showState();
  }
  if (said.rows) showRows(said);
  if (said.stats) showStats(said.stats);
  longest.add(performance.now() - before);
}

/** @param {any} said */
function showRows({ rows, first, sequence, size, matching }) {
  table.show(rows, first, matching);
  write("sequence", grouped(sequence));
  element("table").dataset.sequence = sequence;
  const all = grouped(size);
  write("count", matching === size ? `${all} symbols` : `${grouped(matching)} of ${all}`);
}

/** @param {any} stats */
function showStats({ lag, bytes, fullBytes, changed, rate, busy }) {
  write("lag", lag === null ? "–" : lag.toFixed(0));
  lines.lag.add(lag ?? 0);
  write("frame", (bytes / 1000).toFixed(1));
  // The first frame is a full one, beside which the deltas would not be seen.
  if (bytes < fullBytes) lines.frame.add(bytes);
  write("frame-note", `a full one: ${(fullBytes / 1000).toFixed(0)} kB`);
  write("changed", grouped(changed));
  write("rate", rate > 0 ? rate.toFixed(1) : "–");
  write("busy", busy.toFixed(0));
  write("longest", longest.value.toFixed(1));
}

function showState() {
  const name = paused && connection.state === "live" ? "paused" : connection.state;
  document.body.dataset.state = name;
  write("state-name", name);
  write("state-detail", connection.detail);
}

// --- what people do

filter.addEventListener("input", () => {
  choose({ filter: filter.value.trim().toUpperCase() });
  table.scrollTo(0);
});
element("tools").addEventListener("submit", (event) => event.preventDefault());
element("top").addEventListener("click", () => table.scrollTo(0));
element("pause").addEventListener("click", () => pause(!paused));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target === filter;
  if (event.key === "Escape" && isTyping) {
    filter.value = "";
    choose({ filter: "" });
    table.focus();
  } else if (event.key === "Enter" && isTyping) table.focus();
  else if (isTyping) return;
  else if (event.key === "/") filter.focus();
  else if (event.key === "p") pause(!paused);
  else return;
  event.preventDefault();
});

/** @param {boolean} wanted */
function pause(wanted) {
  paused = wanted;
  ask({ paused });
  element("pause").ariaPressed = String(paused);
  write("pause-label", paused ? "Resume" : "Pause");
  showState();
}

canvas.addEventListener("click", ({ offsetX, offsetY }) => {
  ask({ point: { x: offsetX * devicePixelRatio, y: offsetY * devicePixelRatio } });
});

// Who wants little motion sees an update a second.
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const setPace = () => ask({ pace: calm.matches ? 1000 : 0 });
calm.addEventListener("change", setPace);

// --- begin

const offscreen = canvas.transferControlToOffscreen();
ask({ canvas: offscreen }, [offscreen]);
new ResizeObserver(([{ contentRect }]) => {
  const { width, height } = contentRect;
  ask({ resize: { width: Math.round(width * devicePixelRatio), height: Math.round(height * devicePixelRatio) } });
}).observe(canvas);
setPace();
const stream = new URL(/** @type {string} */ (document.body.dataset.stream), location.href);
stream.protocol = stream.protocol.replace("http", "ws");
ask({ stream: stream.href, choice });
