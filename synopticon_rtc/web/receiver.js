// Finds one broadcaster, connects with it, and finds it again when it is gone.

import { acceptsBye, Connection, displayName, origin } from "./connection.js";
import { Signaling } from "./signaling.js";

const SEEK_INTERVALS = [500, 1_000, 2_000]; // ms; the last goes on
const SLOW_SEEK = 5_000; // ms; goes on where the server tells of broadcasters, but for those that do not tell it
const EARLY_CANDIDATES = 32;
const REQUIREMENTS = { role: ["receive"], tell: ["peers", "errors", "broadcasters", "ice"] };
const ACCEPT = { faces: ["faces/1", "json"], control: ["control/1"], streams: ["streams/1"] };

const displayable = (name) => (typeof name === "string" ? name.trim().slice(0, 80) : "");

export class Receiver {
  #signaling;
  #from;
  #on;
  #iceServers = [];
  #present = null; // the names of the broadcasters that the server tells of, by session; null where it does not
  #seekKnown = true;
  #seeks = 0;
  #timer;
  #early = []; // candidates that came before their offer
  #reachable = true;
  #had = false; // a broadcaster, and it did not say goodbye

  /** The connection with the broadcaster, null while there is none. */
  connection = null;

  /** Who was lost last and when, `{ name, since }`, null where nobody was, or it said goodbye. */
  interrupted = null;

  /** Why the server does not let us in; null where it does. */
  refusal = null;

  /**
   * @param {string} url of the signaling server
   * @param {string|null} from name or session of the one broadcaster to take, null for the first that answers
   * @param {object} on `changed()`, `streams()`, `faces(message, name)`, `log(text)`
   */
  constructor(url, from, on) {
    this.#from = from;
    this.#on = on;
    const told = {
      opened: (welcome) => this.#opened(welcome),
      iceServers: (list) => (this.#iceServers = this.#usable(list)),
      received: (message) => this.#received(message),
      lost: (reason) => this.#lost(reason),
      refused: (reason) => this.#refused(reason),
    };
    this.#signaling = new Signaling(url, told, REQUIREMENTS);
  }

  /** Our session on the signaling server, null while there is none. */
  get session() {
    return this.#signaling.session;
  }

  /** "seeking", "connecting", "connected", "interrupted", "unreachable" (neither a broadcaster nor a server) or "refused". */
  get state() {
    if (this.connection !== null) return this.connection.up ? "connected" : "connecting";
    if (this.refusal !== null) return "refused";
    if (!this.#reachable) return "unreachable";
    return this.#had ? "interrupted" : "seeking";
  }

  /** The broadcasters that the server tells of: `{ session, name }`, the name empty where it has none. */
  get broadcasters() {
    const present = [...(this.#present ?? [])].filter(([session]) => typeof session === "string");
    return present.map(([session, name]) => ({ session, name: displayable(name) }));
  }

  close(reason) {
    clearTimeout(this.#timer);
    this.#letGo(reason);
    this.#signaling.close();
  }

  #opened(welcome) {
    this.#on.log(`Signaling is there, our session is ${welcome.sessionId}`);
    this.#reachable = true;
    this.#seekKnown = true; // another server may know it
    this.#present = null;
    this.#early = [];
    if (this.connection?.up === false) this.#letGo(); // the broadcaster knows us by the session that is gone
    this.#seekAnew();
    this.#on.changed();
  }

  #usable(iceServers) {
    try {
      new RTCPeerConnection({ iceServers }).close();
      return iceServers;
    } catch (error) {
      this.#on.log(`The server's list of ICE servers is not used: ${error.message}`);
      return [];
    }
  }

  #lost(reason) {
    if (this.#reachable) this.#on.log(`Signaling is lost (${reason}), trying again`);
    this.#reachable = false;
    this.#on.changed();
  }

  #refused(reason) {
    this.#on.log(`The signaling server does not let us in: ${reason}`);
    this.refusal = reason;
    clearTimeout(this.#timer);
    this.#signaling.close();
    this.#on.changed();
  }

  #received(message) {
    const { type, sourceSession: source } = message;
    const current = typeof source === "string" && source === this.connection?.source;
    if (type === "webrtc_offer") {
      const { type: kind, sdp } = message.sdp ?? {};
      if (typeof source === "string" && kind === "offer" && typeof sdp === "string") this.#offered(message);
    } else if (type === "webrtc_ice" && current) {
      if (message.bye != null) this.#ended(`the broadcaster left: ${message.bye}`, true);
      else this.connection.addCandidate(message.candidate);
    } else if (type === "webrtc_ice" && this.connection === null && this.#early.length < EARLY_CANDIDATES) {
      this.#early.push(message);
    } else if (type === "peer_left" || message.errorCode === "target_not_found") {
      if ((message.session ?? message.targetSession) === this.connection?.source) this.connection.doubt();
    } else if (type === "broadcasters") {
      const met = this.#present !== null;
      this.#present = new Map();
      for (const { session, name } of message.broadcasters ?? []) this.#meet(session, name, met || this.#from === name);
      this.#on.changed();
    } else if (type === "broadcaster_available") {
      this.#meet(message.session, message.name, true);
      this.#on.changed();
    } else if (type === "broadcaster_gone") {
      this.#present?.delete(message.session);
      this.#on.changed();
    } else if (message.errorCode === "not_allowed" && !message.targetSession) {
      this.#refused(message.error);
    } else if (type === "error") {
      if (String(message.error).includes("webrtc_seek_broadcaster")) this.#seekKnown = false;
      else this.#on.log(`The signaling server says: ${message.error}`);
    }
  }

  /** The server tells of a broadcaster; where it is news, ask it at once. */
  #meet(session, name, news) {
    this.#present?.set(session, name);
    if (!news || this.connection !== null || !this.#wants(session, name)) return;
    this.#seeks = 0;
    this.#ask(session);
    this.#seekLater();
  }

  /** A server may know a broadcaster by another name than it calls itself: that of its token. */
  #wants(session, name) {
    return [null, name, session, this.#present?.get(session)].includes(this.#from);
  }

  #offered(offer) {
    const source = offer.sourceSession;
    if (this.connection?.source === source && this.connection.origin === origin(offer.sdp.sdp)) {
      this.connection.repeatAnswer(); // the first one was lost, or a busy page comes late to a question of ours
      return;
    }
    if (!this.#wants(source, offer.name) || (this.connection !== null && this.connection.source !== source)) {
      this.#decline(offer);
      return;
    }
    offer = { ...offer, name: displayable(this.#present?.get(source)) || offer.name }; // its token's name goes before
    this.#on.log(`${displayName(offer)} answered, session ${source}`);
    this.connection?.close(); // it starts afresh
    clearTimeout(this.#timer);
    try {
      this.connection = this.#connect(offer);
    } catch (error) { // a browser has only so many connections
      this.#on.log(`No connection can be made: ${error.message}`);
      this.connection = null;
      this.#decline(offer, "the browser can make no connection");
      this.#seekLater();
      this.#on.changed();
      return;
    }
    for (const { sourceSession, candidate } of this.#early) {
      if (sourceSession === source) this.connection.addCandidate(candidate);
    }
    this.#early = [];
    this.#on.changed();
  }

  #connect(offer) {
    const source = offer.sourceSession;
    return new Connection(offer, this.#iceServers, {
      answer: ({ type, sdp }) => this.#signaling.relay("webrtc_answer", source, { sdp: { type, sdp }, accept: ACCEPT }),
      candidate: (candidate) => this.#signaling.relay("webrtc_ice", source, { candidate }),
      up: () => {
        this.#had = true;
        this.#on.log("Connected");
        this.#on.changed();
      },
      end: (reason, left) => this.#ended(reason, left),
      streams: this.#on.streams,
      faces: this.#on.faces,
      log: this.#on.log,
    });
  }

  /** Spare a broadcaster that is not chosen the wait for an answer. */
  #decline(offer, reason = "another broadcaster was chosen") {
    if (!acceptsBye(offer)) return;
    this.#signaling.relay("webrtc_ice", offer.sourceSession, { bye: reason });
  }

  #ended(reason, left) {
    this.#on.log(`Disconnected: ${reason}`);
    const { up, name } = this.connection;
    if (left) this.#had = false;
    if (left) this.interrupted = null;
    else if (up) this.interrupted = { name, since: new Date() };
    this.#letGo(left ? undefined : reason);
    if (up) this.#seekAnew();
    else this.#seekLater(); // its next offer may fail like this one
    this.#on.changed();
  }

  #letGo(reason) {
    const connection = this.connection;
    this.connection = null;
    if (connection === null) return;
    if (reason && connection.acceptsBye) this.#signaling.relay("webrtc_ice", connection.source, { bye: reason });
    connection.close(reason);
  }

  #seekAnew() {
    this.#seeks = 0;
    this.#seek();
  }

  /** Not every broadcaster is announced, so this repeats until one answers. */
  #seek() {
    clearTimeout(this.#timer);
    if (this.connection !== null || this.session === null) return;
    this.#ask(null);
    this.#seekLater();
  }

  /** Ask one broadcaster for an offer, or all. */
  #ask(session) {
    const content = { accept: ACCEPT, want: session ?? this.#from ?? undefined };
    if (this.#seekKnown) this.#signaling.relay("webrtc_seek_broadcaster", session, content);
    this.#signaling.relay("request_offer", session, content);
  }

  #seekLater() {
    clearTimeout(this.#timer);
    const intervals = this.#present === null ? SEEK_INTERVALS : [...SEEK_INTERVALS, SLOW_SEEK];
    const interval = intervals[Math.min(this.#seeks++, intervals.length - 1)];
    this.#timer = setTimeout(() => this.#seek(), interval);
  }
}
