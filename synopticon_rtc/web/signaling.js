// A session on a Synopticon signaling server that comes back by itself.

const WELCOME_LIMIT = 5_000; // ms
const KEEPALIVE_INTERVAL = 10_000;
const ECHO_LIMIT = 4_000;
const DOUBT_LIMIT = 1_500; // ms, the same where something tells that the network may be another
const FIRST_RETRY = 500;
const LAST_RETRY = 4_000;
const REFRESH_AT = 0.75; // of the time that credentials hold
const LONGEST_TIMER = 2 ** 31 - 1; // ms; browsers let a longer one pass at once
const REFUSING = [400, 401, 403]; // statuses with which a server says why
const OPENED_AGAIN = 4409; // close code: a newer page of this browser has the link that is for one

export class Signaling {
  #url;
  #on;
  #requirements;
  #socket = null;
  #attempts = 0;
  #retry; // timer of the next connection
  #keepalive; // timer of the messages that keep the session
  #overdue; // timer of the answer that must come: the welcome, then the echoes
  #over = new AbortController(); // aborted when there is to be no session any more
  #refresh; // timer of the question for ICE servers with fresh credentials

  /** Our session's id; null while there is none. */
  session = null;

  /**
   * @param {string} url a ws:// or wss:// address
   * @param {object} on `opened(welcome)`, `iceServers(list)`, `received(message)`, `lost(reason)`, and
   *   `refused(reason)` where the server does not let us in; then it is not tried again
   * @param {object} requirements what the server is told of us: `role`, `tell`, `name` (docs/signaling.md)
   */
  constructor(url, on, requirements) {
    this.#url = url;
    this.#on = on;
    this.#requirements = requirements;
    this.#retry = setTimeout(() => this.#connect());
    const online = () => this.#socket === null && this.#connect();
    addEventListener("online", online, { signal: this.#over.signal });
  }

  /** Send a message to one session, or to every other where `target` is null. Lost while there is no session. */
  relay(type, target, content) {
    this.#send({ type, targetSession: target ?? undefined, deviceId: this.session, timestamp: Date.now(), ...content });
  }

  /** See at once whether the session is sound: after a change of the network, nothing else tells for long. */
  doubt() {
    if (this.session !== null) this.#keep(DOUBT_LIMIT);
  }

  close() {
    this.#over.abort();
    this.#forget();
    clearTimeout(this.#retry);
  }

  #refuse(reason) {
    this.close();
    this.#on.refused(reason);
  }

  #send(message) {
    if (this.session !== null) this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    clearTimeout(this.#retry);
    if (this.#over.signal.aborted) return;
    try {
      this.#socket = new WebSocket(this.#url);
    } catch (error) {
      this.#lose(error.message);
      return;
    }
    this.#expect("no welcome", WELCOME_LIMIT);
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) =>
      code === OPENED_AGAIN ? this.#refuse(reason) : this.#closed(reason || `closed, code ${code}`);
  }

  async #closed(reason) {
    const socket = this.#socket;
    const refusal = this.session === null ? await refusalOf(this.#url) : null;
    if (this.#socket !== socket) return; // given up meanwhile
    if (refusal === null) {
      this.#lose(reason);
    } else {
      this.#refuse(refusal);
    }
  }

  #receive(data) {
    const message = parse(data);
    if (message === null) return;
    if (message.type === "connected" && typeof message.sessionId === "string") {
      clearTimeout(this.#overdue);
      this.session = message.sessionId;
      clearInterval(this.#keepalive);
      this.#keepalive = setInterval(() => this.#keep(), KEEPALIVE_INTERVAL);
      this.#configure();
      this.#takeIceServers({ iceServers: [], ...message });
      this.#on.opened(message);
    } else if (message.type === "configured") {
      this.#takeIceServers(message);
    } else if (message.sourceSession === this.session) {
      clearTimeout(this.#overdue);
      this.#attempts = 0; // a session that hears itself is sound: the next loss starts over
    } else {
      this.#on.received(message);
    }
  }

  /** Servers keep one idle clock for pings, another for relayed messages; a session past the second one goes deaf. */
  #keep(limit = ECHO_LIMIT) {
    this.#send({ type: "ping", timestamp: Date.now() });
    this.relay("webrtc_ice", this.session);
    this.#expect("the session went deaf", limit);
  }

  /** Ask to be told what a server can tell; one that cannot says nothing more than that it heard. */
  #configure() {
    this.#send({ type: "configure", requirements: this.#requirements });
  }

  #takeIceServers({ iceServers, iceServersTtl }) {
    if (!Array.isArray(iceServers)) return;
    this.#on.iceServers(iceServers);
    clearTimeout(this.#refresh);
    const left = Math.min(REFRESH_AT * iceServersTtl * 1_000, LONGEST_TIMER);
    if (left > 0) this.#refresh = setTimeout(() => this.#configure(), left);
  }

  #expect(failure, limit) {
    clearTimeout(this.#overdue);
    this.#overdue = setTimeout(() => this.#lose(failure), limit);
  }

  #lose(reason) {
    this.#forget();
    const most = Math.min(FIRST_RETRY * 2 ** this.#attempts++, LAST_RETRY);
    this.#retry = setTimeout(() => this.#connect(), most * (0.5 + Math.random() / 2));
    this.#on.lost(reason);
  }

  #forget() {
    clearInterval(this.#keepalive);
    clearTimeout(this.#overdue);
    clearTimeout(this.#refresh);
    if (this.#socket !== null) {
      this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
    }
    this.#socket = this.session = null;
  }
}

/**
 * Why a server does not let us in, null where it does or does not answer. A browser does not tell why a WebSocket was
 * turned down; asked for the same over HTTP, the server does.
 */
export async function refusalOf(url) {
  try {
    const response = await fetch(url.replace(/^ws/, "http"), { cache: "no-store" });
    const { message } = REFUSING.includes(response.status) ? await response.json() : {};
    return typeof message === "string" ? message : null;
  } catch {
    return null;
  }
}

function parse(data) {
  try {
    const message = JSON.parse(data);
    return typeof message === "object" ? message : null;
  } catch {
    return null;
  }
}
