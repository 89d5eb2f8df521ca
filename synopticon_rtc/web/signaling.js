// A session on a Synopticon signaling server that comes back by itself.

const WELCOME_LIMIT = 5_000; // ms
const KEEPALIVE_INTERVAL = 10_000;
const ECHO_LIMIT = 4_000;
const FIRST_RETRY = 500;
const LAST_RETRY = 4_000;

export class Signaling {
  #url;
  #on;
  #socket = null;
  #attempts = 0;
  #retry; // timer of the next connection
  #keepalive; // timer of the messages that keep the session
  #overdue; // timer of the answer that must come: the welcome, then the echoes

  /** Our session's id; null while there is none. */
  session = null;

  /**
   * @param {string} url a ws:// or wss:// address
   * @param {object} on `opened(welcome)`, `received(message)`, `lost(reason)`
   */
  constructor(url, on) {
    this.#url = url;
    this.#on = on;
    this.#retry = setTimeout(() => this.#connect());
    addEventListener("online", () => {
      if (this.#socket === null) this.#connect();
    });
  }

  /** Send a message to one session, or to every other where `target` is null. Lost while there is no session. */
  relay(type, target, content) {
    this.#send({ type, targetSession: target ?? undefined, deviceId: this.session, timestamp: Date.now(), ...content });
  }

  close() {
    this.#forget();
    clearTimeout(this.#retry);
  }

  #send(message) {
    if (this.session !== null) this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    clearTimeout(this.#retry);
    try {
      this.#socket = new WebSocket(this.#url);
    } catch (error) {
      this.#lose(error.message);
      return;
    }
    this.#expect("no welcome", WELCOME_LIMIT);
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#lose(reason || `closed, code ${code}`);
  }

  #receive(data) {
    const message = parse(data);
    if (message === null) return;
    if (message.type === "connected" && typeof message.sessionId === "string") {
      clearTimeout(this.#overdue);
      this.session = message.sessionId;
      clearInterval(this.#keepalive);
      this.#keepalive = setInterval(() => this.#keep(), KEEPALIVE_INTERVAL);
      this.#on.opened(message);
    } else if (message.sourceSession === this.session) {
      clearTimeout(this.#overdue);
      this.#attempts = 0; // a session that hears itself is sound: the next loss starts over
    } else {
      this.#on.received(message);
    }
  }

  /** Servers keep one idle clock for pings, another for relayed messages; a session past the second one goes deaf. */
  #keep() {
    this.#send({ type: "ping", timestamp: Date.now() });
    this.relay("webrtc_ice", this.session);
    this.#expect("the session went deaf", ECHO_LIMIT);
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
    if (this.#socket !== null) {
      this.#socket.onmessage = this.#socket.onclose = null;
      this.#socket.close();
    }
    this.#socket = this.session = null;
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
