// Finds the broadcasters of a room, connects with each of them, and finds those again that are gone.

import { acceptsBye, Connection, displayName, origin } from "./connection.js";
import { PROTOCOL as FILE } from "./files.js";
import { shownName } from "./names.js";
import { Signaling } from "./signaling.js";
import { usableIceServers } from "./support.js";

const SEEK_INTERVALS = [500, 1_000, 2_000]; // ms; the last goes on
const SLOW_SEEK = 5_000; // ms; goes on where the server tells of broadcasters, but for those that do not tell it
const EARLY_CANDIDATES = 32;
const REMEMBERED = 100; // broadcasters that do not let us watch
const LONGEST_REASON = 512;
const ACCEPT = { faces: ["faces/1", "json"], found: ["faces/1"], control: ["control/1"], streams: ["streams/1"] };

/** A broadcaster that is there, or that went without a goodbye. */
export class Person {
  /**
   * @param {number} id that stays the same when it comes back
   */
  constructor(id) {
    this.id = id;
  }

  /** Its session, by which the signaling server knows it. */
  session = "";

  /** What people call it. */
  name = "";

  /** The connection with it, null while there is none. */
  connection = null;

  /** When it was lost, a `Date`; null where it was not, or is there again. */
  since = null;

  /** "connecting", "connected" or "interrupted". */
  get state() {
    if (this.connection === null) return "interrupted";
    return this.connection.up ? "connected" : "connecting";
  }
}

export class People {
  #signaling;
  #from;
  #name;
  #most;
  #own;
  #on;
  #iceServers = [];
  #present = null; // the names of the broadcasters that the server tells of, by session; null where it does not
  #seekKnown = true;
  #seeks = 0;
  #timer;
  #early = []; // candidates that came before their offer
  #met = 0; // people so far

  /** Those that are there, and those that were lost, in the order in which they came. */
  list = [];

  /** Those that do not let us watch, as they said: `{ name, reason }` by session. */
  declined = new Map();

  /** Why the server does not let us in; null where it does. */
  refusal = null;

  /** Whether there is a signaling server, as far as is known. */
  reachable = true;

  /**
   * @param {string} url of the signaling server
   * @param {object} whom `from`, the name or session of the one broadcaster to take, null for all; `most`, how many to take;
   *   `own()`, the sessions of those that are not to be taken, as they are of this page; `name`, what broadcasters call us
   * @param {object} on `changed()`, `streams(person)`, `faces(person, message, name)`, `log(text)`; and `files`, to whom offers
   *   of files go, where a page takes any
   */
  constructor(url, { from = null, most, own = () => [], name }, on) {
    this.#from = from;
    this.#name = shownName(name) || undefined;
    this.#most = most;
    this.#own = own;
    this.#on = on;
    const told = {
      opened: (welcome) => this.#opened(welcome),
      iceServers: (list) => (this.#iceServers = usableIceServers(list, on.log)),
      received: (message) => this.#received(message),
      lost: (reason) => this.#lost(reason),
      refused: (reason) => this.#refused(reason),
    };
    this.#signaling = new Signaling(url, told, { role: ["receive"], name: this.#name, tell: ["peers", "errors", "broadcasters", "ice"] });
  }

  /** Our session on the signaling server, null while there is none. */
  get session() {
    return this.#signaling.session;
  }

  /** The broadcasters that the server tells of: `{ session, name }`, the name empty where it has none. */
  get broadcasters() {
    const own = this.#own();
    const present = [...(this.#present ?? [])].filter(([session]) => !own.includes(session));
    return present.map(([session, name]) => ({ session, name: shownName(name) }));
  }

  /** How many more there are than are taken, as far as the server tells. */
  get more() {
    return Math.max(0, this.broadcasters.length - this.#connected.length - this.declined.size);
  }

  /** Forget somebody who was lost. */
  forget(person) {
    if (person.connection === null) this.list = this.list.filter((each) => each !== person);
  }

  close(reason) {
    clearTimeout(this.#timer);
    for (const { session, connection } of this.#connected) this.#part(session, connection, reason);
    this.list = [];
    this.#signaling.close();
  }

  get #connected() {
    return this.list.filter(({ connection }) => connection !== null);
  }

  get #full() {
    return this.#connected.length >= this.#most;
  }

  #of(session) {
    return this.#connected.find((person) => person.session === session) ?? null;
  }

  #opened(welcome) {
    this.#on.log(`Signaling is there, our session is ${welcome.sessionId}`);
    this.reachable = true;
    this.#seekKnown = true; // another server may know it
    this.#present = null;
    this.#early = [];
    this.declined.clear(); // they knew us by another session
    for (const person of this.#connected) {
      if (!person.connection.up) this.#letGo(person); // the broadcaster knows us by the session that is gone
    }
    this.#seekAnew();
    this.#on.changed();
  }

  #lost(reason) {
    if (this.reachable) this.#on.log(`Signaling is lost (${reason}), trying again`);
    this.reachable = false;
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
    const person = this.#of(source);
    if (type === "webrtc_offer" && message.accept?.offers?.includes?.("receiving")) return; // it wants to be sent something
    if (type === "webrtc_offer") {
      const { type: kind, sdp } = message.sdp ?? {};
      if (typeof source === "string" && kind === "offer" && typeof sdp === "string") this.#offered(message);
    } else if (type === "webrtc_ice" && message.bye != null && message.refused === true) {
      this.#declined(source, String(message.bye).slice(0, LONGEST_REASON), person);
    } else if (type === "webrtc_ice" && person !== null) {
      if (message.bye != null) this.#ended(person, `the broadcaster left: ${message.bye}`, true);
      else person.connection.addCandidate(message.candidate);
    } else if (type === "webrtc_ice" && message.bye != null) {
      this.#left(source);
    } else if (type === "webrtc_ice" && !this.#full && this.#early.length < EARLY_CANDIDATES) {
      this.#early.push(message);
    } else if (type === "peer_left" || message.errorCode === "target_not_found") {
      this.#of(message.session ?? message.targetSession)?.connection.doubt();
    } else if (type === "broadcasters") {
      const met = this.#present !== null;
      this.#present = new Map();
      const listed = Array.isArray(message.broadcasters) ? message.broadcasters : [];
      for (const each of listed) this.#meet(each?.session, each?.name, met || this.#from === each?.name);
      this.#on.changed();
    } else if (type === "broadcaster_available") {
      this.#meet(message.session, message.name, true);
      this.#on.changed();
    } else if (type === "broadcaster_gone") {
      this.#present?.delete(message.session);
      this.declined.delete(message.session);
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
    if (typeof session !== "string") return;
    this.#present?.set(session, name);
    if (!news || this.#full || !this.#wants(session, name)) return;
    this.#seeks = 0;
    this.#ask(session);
    this.#seekLater();
  }

  /** Whether one is to be taken that is not there; a server may know it by another name than itself, its token's. */
  #wants(session, name) {
    if (this.#own().includes(session) || this.declined.has(session) || this.#of(session) !== null) return false;
    return [null, name, session, this.#present?.get(session)].includes(this.#from);
  }

  /** Somebody said goodbye whose connection had closed a moment before. */
  #left(session) {
    const person = this.list.find((each) => each.session === session && each.connection === null);
    if (person === undefined) return;
    this.forget(person);
    this.#on.changed();
  }

  /** A broadcaster does not let us watch, or any more: it is asked no more. */
  #declined(session, reason, person) {
    if (typeof session !== "string" || (person === null && this.declined.size >= REMEMBERED)) return;
    const name = person?.name ?? displayName({ name: this.#present?.get(session), sourceSession: session });
    this.#on.log(`${name} does not let you watch: ${reason}`);
    this.declined.set(session, { name, reason });
    if (person === null) this.#on.changed();
    else this.#ended(person, reason, true);
  }

  #offered(offer) {
    const source = offer.sourceSession;
    const there = this.#of(source);
    if (there?.connection.origin === origin(offer.sdp.sdp)) {
      there.connection.repeatAnswer(); // the first one was lost, or a busy page comes late to a question of ours
      return;
    }
    if (there === null && (this.#full || !this.#wants(source, offer.name))) {
      this.#decline(offer);
      return;
    }
    offer = { ...offer, name: shownName(this.#present?.get(source)) || offer.name }; // its token's name goes before
    const name = displayName(offer);
    this.#on.log(`${name} answered, session ${source}`);
    const person = there ?? this.#back(source, name) ?? new Person((this.#met += 1));
    person.connection?.close(); // it starts afresh
    Object.assign(person, { session: source, name, connection: null });
    try {
      person.connection = this.#connect(person, offer);
      if (!this.list.includes(person)) this.list.push(person);
    } catch (error) { // a browser has only so many connections
      this.#on.log(`No connection can be made: ${error.message}`);
      if (person.since === null) this.forget(person);
      this.#decline(offer, "the browser can make no connection");
    }
    for (const { sourceSession, candidate } of this.#early) {
      if (sourceSession === source) person.connection?.addCandidate(candidate);
    }
    this.#early = this.#early.filter(({ sourceSession }) => sourceSession !== source);
    this.#seekLater();
    this.#on.changed();
  }

  /** Whoever was lost and is there again: a program that starts anew has another session. */
  #back(session, name) {
    return this.list.find((each) => each.connection === null && (each.session === session || each.name === name));
  }

  #connect(person, offer) {
    const source = offer.sourceSession;
    return new Connection(offer, this.#iceServers, {
      answer: ({ type, sdp }) => this.#signaling.relay("webrtc_answer", source, { sdp: { type, sdp }, accept: this.#accept }),
      candidate: (candidate) => this.#signaling.relay("webrtc_ice", source, { candidate }),
      up: () => {
        person.since = null;
        this.#makeRoom();
        this.#on.log(`Connected with ${person.name}`);
        this.#on.changed();
      },
      end: (reason, left) => this.#ended(person, reason, left),
      streams: () => this.#on.streams(person),
      faces: (message, name) => this.#on.faces(person, message, name),
      log: this.#on.log,
      files: this.#on.files,
    });
  }

  /** What we can read. */
  get #accept() {
    return this.#on.files ? { ...ACCEPT, files: [FILE] } : ACCEPT;
  }

  /** Forget those who were lost longest ago, where others have come in their place. */
  #makeRoom() {
    while (this.list.length > this.#most) {
      const lost = this.list.filter(({ connection }) => connection === null);
      if (lost.length === 0) return;
      this.forget(lost.reduce((first, each) => (each.since < first.since ? each : first)));
    }
  }

  /** Spare a broadcaster that is not chosen the wait for an answer. */
  #decline(offer, reason = "another broadcaster was chosen") {
    if (!acceptsBye(offer)) return;
    this.#signaling.relay("webrtc_ice", offer.sourceSession, { bye: reason });
  }

  #ended(person, reason, left) {
    this.#on.log(`Disconnected from ${person.name}: ${reason}`);
    const { up } = person.connection;
    if (left) person.since = null;
    else if (up) {
      person.since = new Date();
      this.#signaling.doubt(); // the network may be another
    }
    this.#letGo(person, left ? undefined : reason);
    if (up) this.#seekAnew();
    else this.#seekLater(); // its next offer may fail like this one
    this.#on.changed();
  }

  #letGo(person, reason) {
    const { session, connection } = person;
    person.connection = null;
    if (person.since === null) this.forget(person);
    this.#part(session, connection, reason);
  }

  #part(session, connection, reason) {
    if (reason && connection.acceptsBye) this.#signaling.relay("webrtc_ice", session, { bye: reason });
    connection.close(reason);
  }

  #seekAnew() {
    this.#seeks = 0;
    this.#seek();
  }

  /** Not every broadcaster is announced, so this repeats for as long as there is room for more. */
  #seek() {
    clearTimeout(this.#timer);
    if (this.#full || this.session === null) return;
    // One who is there and does not read `unwanted` would begin anew: then only those are asked that the server tells of.
    const all = this.#connected.every(({ connection }) => connection.acceptsBye);
    const told = [...(this.#present ?? [])].filter(([session, name]) => this.#wants(session, name));
    for (const session of all ? [null] : told.map(([each]) => each)) this.#ask(session);
    this.#seekLater();
  }

  /** Ask one broadcaster for an offer, or all but those that are there. */
  #ask(session) {
    const unwanted = [...this.#own(), ...this.declined.keys(), ...this.#connected.map((person) => person.session)];
    const content = {
      accept: this.#accept,
      name: this.#name,
      want: session ?? this.#from ?? undefined,
      unwanted: unwanted.length > 0 ? unwanted : undefined,
    };
    if (this.#seekKnown) this.#signaling.relay("webrtc_seek_broadcaster", session, content);
    this.#signaling.relay("request_offer", session, content);
  }

  #seekLater() {
    clearTimeout(this.#timer);
    if (this.#full) return;
    const intervals = this.#present === null ? SEEK_INTERVALS : [...SEEK_INTERVALS, SLOW_SEEK];
    const interval = intervals[Math.min(this.#seeks++, intervals.length - 1)];
    this.#timer = setTimeout(() => this.#seek(), interval);
  }
}
