// The states that a server sends over a WebSocket: docs/javascript.md says what it sends.

import { ChangeLog } from "./changes.js";
import { Decoder } from "./decoder.js";
import {
  BaseMismatchError,
  CorruptDeltaError,
  LimitExceededError,
  SnapshotSettingError,
  SnapshotUnavailableError,
} from "./errors.js";
import { Outage } from "./outage.js";
import { hexadecimal } from "./text.js";
import { IN_PLACE, Update, Updates } from "./updates.js";

const LONGEST_TIMER = 2 ** 31 - 1;
// A new connection mends these.
const MENDED = [BaseMismatchError, CorruptDeltaError, SyntaxError];

/** What one connection has received and nobody has taken, within a bound. */
class Inbox {
  #messages = [];
  #bytes = 0;
  #most;
  #ended = null;
  #wake = () => {};

  constructor(most) {
    this.#most = most;
  }

  /** False if there is no room: whoever takes is too slow. After the end, nothing is added: that would leave a gap. */
  add(message) {
    if (this.#ended !== null) return true;
    this.#bytes += message.byteLength ?? message.length;
    if (this.#bytes > this.#most) return false;
    this.#messages.push(message);
    this.#wake();
    return true;
  }

  end(reason) {
    this.#ended ??= reason;
    this.#wake();
  }

  /** The next message. Throws the reason when the connection has ended. */
  async take() {
    while (!this.#messages.length && this.#ended === null) {
      await new Promise((resolve) => (this.#wake = resolve));
    }
    if (!this.#messages.length) throw this.#ended;
    const message = this.#messages.shift();
    this.#bytes -= message.byteLength ?? message.length;
    return message;
  }
}

class WebSocketUpdates extends Updates {
  #url;
  #WebSocket;
  #maxQueued;
  #idleTimeout;
  #options;
  #decoder = null;
  #socket = null;
  #inbox = null;
  #idleTimer;
  #outage = new Outage();
  #changes = new ChangeLog();
  // What was handed out last, and why the next update does not come from it.
  #shown = null;
  #reason = "start";
  // Why the last connection ended: then the next one begins with a full frame.
  #damage = null;
  // What the server says of the next frame.
  #about = {};

  constructor(url, WebSocket, maxQueued, idleTimeout, options) {
    super();
    this.#url = new URL(url, globalThis.location?.href);
    this.#WebSocket = WebSocket;
    this.#maxQueued = maxQueued;
    this.#idleTimeout = idleTimeout;
    this.#options = options;
  }

  async produce() {
    this.#decoder ??= await Decoder.create(this.#options);
    while (!this.closed) {
      try {
        if (this.#inbox === null) this.#connect();
        const message = await this.#inbox.take();
        if (this.#take(message)) {
          // A full frame is no success yet: the server may send a bad delta after each.
          if (this.#decoder.kind === "delta") this.#outage.over();
          return this.#update();
        }
      } catch (error) {
        this.#disconnect();
        if (!(error instanceof SnapshotUnavailableError)) throw error;
        if (!this.closed) await this.#outage.wait(error);
      }
    }
    return null;
  }

  /** Connect, and say at which state we are, if any. */
  #connect() {
    const url = new URL(this.#url);
    if (this.#shown !== null && this.#damage === null) {
      const { epoch, sequence, digest } = this.#decoder;
      url.searchParams.set("epoch", String(epoch));
      url.searchParams.set("sequence", String(sequence));
      url.searchParams.set("digest", hexadecimal(digest));
    }
    const socket = (this.#socket = new this.#WebSocket(url.href));
    const inbox = (this.#inbox = new Inbox(this.#maxQueued));
    const end = (why) => inbox.end(new SnapshotUnavailableError(`${this.#url.href}: ${why}`));
    this.#expectMessage(end);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#expectMessage(end);
      this.#outage.connected();
    };
    socket.onmessage = ({ data }) => {
      this.#expectMessage(end);
      if (inbox.add(data)) return;
      end("more was sent than `maxQueued` allows");
      socket.close();
    };
    socket.onerror = ({ message }) => end(message ?? "the connection failed");
    socket.onclose = ({ code }) => end(`the connection was closed (${code})`);
  }

  /** End the connection if nothing arrives within `idleTimeout` from now. */
  #expectMessage(end) {
    clearTimeout(this.#idleTimer);
    if (this.#idleTimeout === null) return;
    const half = this.#idleTimeout / 2;
    const timedOut = () => end(`no message in ${this.#idleTimeout} ms`);
    // In two halves: after a pause of this process, messages that have arrived are read before the second one ends.
    this.#idleTimer = setTimeout(() => (this.#idleTimer = setTimeout(timedOut, half)), half);
  }

  #disconnect() {
    const socket = this.#socket;
    clearTimeout(this.#idleTimer);
    [this.#socket, this.#inbox, this.#about] = [null, null, {}];
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    // Closing one that is still connecting is an error event.
    socket.onerror = () => {};
    socket.close();
  }

  /** Whether the message led to another state. */
  #take(message) {
    try {
      if (typeof message === "string") {
        this.#about = { ...JSON.parse(message) };
        return false;
      }
      this.#decoder.apply(message);
    } catch (error) {
      const mends = MENDED.some((kind) => error instanceof kind) && !(error instanceof LimitExceededError);
      if (!mends) throw error;
      this.#damage = error instanceof BaseMismatchError ? "base" : "damaged";
      throw new SnapshotUnavailableError(`${this.#url.href}: ${error.message}`, { cause: error });
    }
    this.#changes.add(this.#decoder);
    if (this.#decoder.kind === "full") {
      // Where it stands in the place of a delta, nothing was missed.
      this.#reason ??= IN_PLACE.includes(this.#about.reason) ? this.#about.reason : (this.#damage ?? "gap");
    }
    this.#damage = null;
    return this.#place() !== this.#shown;
  }

  #place() {
    const { epoch, sequence, digest } = this.#decoder;
    return `${epoch}-${sequence}-${hexadecimal(digest)}`;
  }

  #update() {
    const decoder = this.#decoder;
    const { epoch, sequence, digest } = decoder;
    const [isFirst, reason] = [this.#shown === null, this.#reason];
    const timestamp = Number.isFinite(this.#about.timestamp) ? this.#about.timestamp : null;
    const changes = this.#changes.take();
    const whole = { added: decoder.symbols, updated: [], removed: [], moved: [] };
    [this.#shown, this.#reason, this.#about] = [this.#place(), null, {}];
    return new Update(decoder, {
      ...(isFirst ? whole : changes),
      ...{ epoch, sequence, digest, timestamp, reason },
      lag: timestamp === null ? null : Math.max(0, Date.now() - timestamp),
      resynced: reason !== null && !isFirst && !IN_PLACE.includes(reason),
    });
  }

  get waitsFor() {
    return this.closed ? null : this.#outage.error;
  }

  dispose() {
    this.#inbox?.end(new SnapshotUnavailableError("closed"));
    this.#disconnect();
    this.#outage.wake();
  }
}

/** The newest state that the server sends, and then every one, in order, for ever. */
export function followWebSocket(url, options = {}) {
  const { WebSocket = globalThis.WebSocket, maxQueued = 64_000_000, idleTimeout = null, ...ofDecoder } = options;
  if (typeof WebSocket !== "function") {
    throw new SnapshotSettingError("this Node has no WebSocket: pass that of the package ws as `WebSocket`");
  }
  if (!(maxQueued > 0)) {
    throw new SnapshotSettingError(`maxQueued must be positive, not ${String(maxQueued)}`);
  }
  if (idleTimeout !== null && !(idleTimeout > 0 && idleTimeout <= LONGEST_TIMER)) {
    throw new SnapshotSettingError(
      `idleTimeout must be null or 1 to ${LONGEST_TIMER} milliseconds, not ${String(idleTimeout)}`,
    );
  }
  return new WebSocketUpdates(url, WebSocket, maxQueued, idleTimeout, ofDecoder);
}
