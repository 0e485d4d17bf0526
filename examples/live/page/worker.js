// Follows the stream, ranks the market, draws the map, and sends the page what its visible rows show.

// Below the page's root, where `..` ends, this is /clients/js/src/index.js.
import { followWebSocket } from "../../../clients/js/src/index.js";
import { FIRST_CHOICE } from "./columns.js";
import { MarketMap } from "./market_map.js";
import { Ranking } from "./ranking.js";

/** @typedef {import("../../../clients/js/src/index.js").Update} Update */
/** @typedef {import("../../../clients/js/src/index.js").Updates} Updates */
/** @typedef {"connecting" | "live" | "stale" | "reconnecting" | "ended"} State */
/**
 * What the page asks for; each message has some of it.
 * @typedef {object} Request
 * @property {string} [stream] where to connect: the first message
 * @property {OffscreenCanvas} [canvas]
 * @property {{ width: number, height: number }} [resize] the canvas, in pixels of the screen
 * @property {{ x: number, y: number }} [point] of the canvas: at which row is that?
 * @property {{ first: number, count: number }} [rows] which rows are visible
 * @property {import("./ranking.js").Choice} [choice]
 * @property {boolean} [paused]
 * @property {number} [pace] milliseconds between two updates that are shown, at least
 */

// Milliseconds without an update, and how many usual intervals, after which the market is called stale.
const SHORTEST_PATIENCE = 3000;
const INTERVALS = 5;
// The server sends something at least in every third of it.
const IDLE_TIMEOUT = 15_000;
// Intervals over which the rate is a mean.
const KEPT = 20;

const ranking = new Ranking();
/** @type {MarketMap | null} */
let map = null;
let choice = FIRST_CHOICE;
let visible = { first: 0, count: 0 };
let paused = false;
let pace = 0;
/** @type {Updates | null} */
let updates = null;
let failure = "";
/** When updates came. @type {number[]} */
const times = [];
/** Of the last update that is shown. */
let shownAt = -Infinity;
let sequence = 0;
let listChanged = false;

/** Frames that nobody has taken yet: their sizes, and when they arrived. @type {{ bytes: number, at: number }[]} */
let frames = [];
let fullBytes = 0;

class MeasuredSocket extends WebSocket {
  /** @param {string} url */
  constructor(url) {
    super(url);
    frames = [];
    this.addEventListener("message", ({ data }) => {
      if (typeof data !== "string") frames.push({ bytes: data.byteLength, at: performance.now() });
    });
  }
}

/** Milliseconds between two of the last updates. */
function interval() {
  return times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : Infinity;
}

/** @returns {{ state: State, detail: string }} */
function connection() {
  // Behind the address, which everybody knows.
  const waits = (updates?.waitsFor ?? "").split(": ").slice(1).join(": ");
  if (failure) return { state: "ended", detail: failure };
  if (!times.length) return { state: "connecting", detail: waits };
  if (waits) return { state: "reconnecting", detail: waits };
  const silence = performance.now() - times[times.length - 1];
  const usual = times.length > 1 ? interval() : 0;
  if (silence > Math.max(SHORTEST_PATIENCE, INTERVALS * usual)) {
    return { state: "stale", detail: `no update for ${Math.floor(silence / 1000)} s` };
  }
  return { state: "live", detail: "" };
}

let told = "";
function tellState() {
  const now = connection();
  const text = JSON.stringify(now);
  if (text === told) return;
  told = text;
  postMessage({ connection: now });
}

/** Rank anew, and send the visible rows. */
function show() {
  ranking.sort(choice);
  map?.draw(ranking);
  sendRows();
}

function sendRows() {
  const { first, count } = visible;
  const rows = ranking.window(first, count);
  postMessage({ rows, first, sequence, size: ranking.size, matching: ranking.matching, choice });
}

/** @param {Update} update */
function take(update) {
  const now = performance.now();
  const frame = frames.shift() ?? { bytes: 0, at: now };
  if (update.reason !== null) fullBytes = frame.bytes;
  times.push(now);
  if (times.length > KEPT + 1) times.shift();
  listChanged ||= update.added.length > 0 || update.removed.length > 0 || update.moved.length > 0;
  tellState();
  // The rows stay what they are: so does the sequence beside them.
  if (paused || now - shownAt < pace) return;
  ranking.take(update, listChanged, now);
  [shownAt, listChanged, sequence] = [now, false, Number(update.sequence)];
  show();
  const stats = {
    lag: update.lag,
    bytes: frame.bytes,
    fullBytes,
    changed: update.changed.length + update.removed.length,
    rate: 1000 / interval(),
    busy: performance.now() - frame.at,
  };
  postMessage({ stats });
}

/** @param {string} stream */
async function follow(stream) {
  updates = followWebSocket(stream, { WebSocket: MeasuredSocket, idleTimeout: IDLE_TIMEOUT });
  setInterval(tellState, 250);
  try {
    for await (const update of updates) take(update);
  } catch (error) {
    failure = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
  failure ||= "the stream has ended";
  tellState();
}

self.onmessage = (/** @type {MessageEvent<Request>} */ { data }) => {
  if (data.canvas) map = new MarketMap(data.canvas);
  if (data.resize) {
    map?.resize(data.resize.width, data.resize.height);
    map?.draw(ranking);
  }
  if (data.paused !== undefined) paused = data.paused;
  if (data.pace !== undefined) pace = data.pace;
  if (data.rows) visible = data.rows;
  if (data.choice) choice = data.choice;
  if (data.point && map && !ranking.filtered) postMessage({ position: map.position(data.point.x, data.point.y) });
  if (data.stream) follow(data.stream);
  if (!times.length) return;
  if (data.choice) show();
  else if (data.rows) sendRows();
};
