// Publishes tracks to every receiver that asks: in a page what broadcaster.py is in Python.

import { shownName } from "./names.js";
import { Signaling } from "./signaling.js";
import { usableIceServers } from "./support.js";
import { PROTOCOL as FILE } from "./files.js";
import { accepts, Watcher } from "./watcher.js";

const ACCEPT = { control: ["control/1"], ice: ["more"], return: ["faces/1"] };
const MOST = 7; // streams
const JOINING = 16; // receivers that may have an offer without an answer
const KNOWN = 1_024; // sessions of which it is remembered whether they may watch
const FINDS = 1_000; // ms after which another receiver may take the place of one that finds no faces any more
const NOT_ADMITTED = "the broadcaster does not admit you";
const SENT_AWAY = "the broadcaster has sent you away";

export class Broadcaster {
  #signaling;
  #name;
  #on;
  #iceServers = [];
  #streams = new Map(); // what is published, by name: { name, kind, hint, track, muted, replaced }
  #watchers = new Map(); // by session
  #askers = new Map(); // discoveries that wait for leave, or for something to be published, by session
  #verdicts = new Map(); // why a session may not watch, empty where it may, by session
  #finders = new Map(); // whose faces are passed on, and when they came last, by the name of the stream: { session, heard }
  #reachable = true;
  #over = new AbortController();

  /** Who was lost last and when, `{ name, since }`; null where it said goodbye, or somebody has come since. */
  interrupted = null;

  /** Why the server does not let us in; null where it does. */
  refusal = null;

  /** Asked who may watch, before anything is sent: null lets all, else an async function of `{ session, name }`. */
  admit = null;

  /**
   * @param {string} url of the signaling server
   * @param {object} options `name`, by which people and receivers know this broadcaster
   * @param {object} on `changed()` (the state, or who watches), `faces(message, stream, session)` (that a receiver found
   *   in the stream of that name, as decodeFaces reads them; where `captured` is not undefined, the frame was captured
   *   then, by performance.now()), `log(text)`; and `files`, to whom offers of files go, where a page takes any
   */
  constructor(url, { name = "" }, on) {
    this.#name = shownName(name); // half of a character in it, and no server could read what we say
    this.#on = on;
    const told = {
      opened: (welcome) => this.#opened(welcome),
      iceServers: (list) => (this.#iceServers = usableIceServers(list, on.log)),
      received: (message) => this.#received(message),
      lost: (reason) => this.#lost(reason),
      refused: (reason) => this.#refused(reason),
    };
    const requirements = { role: ["broadcast"], name: this.#name, tell: ["peers", "errors", "ice"] };
    this.#signaling = new Signaling(url, told, requirements);
    addEventListener("pagehide", () => this.close("the page was left"), { signal: this.#over.signal });
  }

  /** "connecting", "ready", "unreachable" (those who watch go on, but nobody can join) or "refused". */
  get state() {
    if (this.refusal !== null) return "refused";
    if (!this.#reachable) return "unreachable";
    return this.session === null ? "connecting" : "ready";
  }

  /** Our session on the signaling server, null while there is none. */
  get session() {
    return this.#signaling.session;
  }

  /** What carries files to those who watch and take any. */
  get files() {
    return [...this.#watchers.values()].filter(({ up, files }) => up && files !== null).map(({ files }) => files);
  }

  /** Who watches, or is about to: `{ session, name, up, recorded, since }`, `since` a Date. */
  get watchers() {
    const shown = ({ session, name, up, recorded, since }) => ({ session, name, up, recorded, since });
    return [...this.#watchers.values()].map(shown);
  }

  /**
   * Send a track to all, now and to come; one of the same name gives way to it.
   *
   * @param {string} name at most 64 characters
   * @param {MediaStreamTrack} track which its owner stops, after that
   * @param {string} hint what it is, where the name does not tell: "camera", "screen", "microphone"
   */
  publish(name, track, hint = name) {
    const before = this.#streams.get(name);
    if (before?.track === track) return;
    if (before === undefined && this.#streams.size >= MOST) throw new Error(`There are ${MOST} streams, and that is the most`);
    if (before !== undefined && before.kind !== track.kind) throw new Error(`The stream ${name} is no ${track.kind}`);
    const { muted = false, replaced = -1 } = before ?? {};
    this.#streams.set(name, { name, kind: track.kind, hint, track, muted, replaced: replaced + 1 });
    this.#update();
  }

  /** Send a stream no more. */
  unpublish(name) {
    if (this.#streams.delete(name)) this.#update();
  }

  /** Send nothing of a stream for now, or send it again, and tell receivers so. */
  mute(name, muted) {
    const stream = this.#streams.get(name);
    if (stream === undefined || stream.muted === muted) return;
    stream.muted = muted;
    this.#update();
  }

  /** Let a receiver go, with a reason in words, and serve its session no more. */
  sendAway(session, reason = "") {
    const words = reason ? `${SENT_AWAY}: ${reason}` : SENT_AWAY;
    this.#judge(session, words);
    this.#askers.delete(session);
    this.#drop(session, words, { refused: true });
  }

  /** Say goodbye to all, and end; tracks are their owner's. */
  close(reason = "the broadcaster has ended") {
    this.#over.abort();
    this.#askers.clear(); // who is admitted only now comes too late
    for (const session of [...this.#watchers.keys()]) this.#drop(session, reason);
    this.#signaling.close();
  }

  // What the server tells

  #opened(welcome) {
    this.#on.log(`Signaling is there, our session is ${welcome.sessionId}`);
    this.#reachable = true;
    this.#askers.clear();
    for (const { session, answered } of [...this.#watchers.values()]) {
      if (!answered) this.#drop(session, "signaling reconnected"); // it knows us by the session that is gone
    }
    this.#on.changed();
  }

  #lost(reason) {
    if (this.#reachable) this.#on.log(`Signaling is lost (${reason}), trying again`);
    this.#reachable = false;
    this.#on.changed();
  }

  #refused(reason) {
    this.#on.log(`The signaling server does not let us in: ${reason}`);
    this.refusal = reason;
    this.#signaling.close();
    this.#on.changed();
  }

  #received(message) {
    const { type, sourceSession: source, errorCode } = message;
    const watcher = this.#watchers.get(source);
    if (type === "webrtc_seek_broadcaster" || type === "request_offer") {
      if (typeof source === "string" && source !== "") this.#sought(message);
    } else if (type === "webrtc_offer" && accepts(message, "offers", "receiving")) {
      this.#signaling.relay("webrtc_ice", source, { bye: NO_OFFERS });
    } else if (type === "webrtc_answer") {
      if (message.sdp?.type === "answer" && typeof message.sdp.sdp === "string") watcher?.takeAnswer(message.sdp.sdp);
    } else if (type === "webrtc_ice" && message.bye != null) {
      this.#askers.delete(source);
      this.#ended(watcher, `the receiver left: ${message.bye}`, true);
    } else if (type === "webrtc_ice") {
      watcher?.addCandidates([message.candidate, ...(Array.isArray(message.more) ? message.more : [])]);
    } else if (type === "peer_left" || errorCode === "target_not_found") {
      this.#left(message.session ?? message.targetSession);
    } else if (errorCode === "not_allowed" && message.targetSession) {
      this.#ended(this.#watchers.get(message.targetSession), `the server does not allow it: ${message.error}`, true);
    } else if (errorCode === "not_allowed") {
      this.#refused(message.error);
    } else if (type === "error") {
      this.#on.log(`The signaling server says: ${message.error}`);
    }
  }

  #left(session) {
    this.#askers.delete(session);
    this.#verdicts.delete(session);
    this.#watchers.get(session)?.doubt();
  }

  // Receivers

  async #sought(message) {
    const { sourceSession: session, want, unwanted } = message;
    if (want != null && want !== this.#name && want !== this.session) return;
    if (Array.isArray(unwanted) && this.#ours.some((each) => unwanted.includes(each))) return;
    // One offer a handshake: a page that gets two throws.
    if (this.#askers.has(session) || this.#watchers.get(session)?.answered === false) return;
    this.#askers.set(session, message);
    if (this.admit !== null && !this.#verdicts.has(session)) {
      const verdict = (await this.#admits(message)) ? "" : NOT_ADMITTED;
      if (!this.#verdicts.has(session)) this.#judge(session, verdict); // else it was sent away meanwhile
    }
    if (this.#askers.get(session) === message) this.#answer(message); // else it has left, or our session has ended
  }

  /** The sessions by which we are known: who was there before signaling came back knows an earlier one. */
  get #ours() {
    return [this.session, ...[...this.#watchers.values()].map(({ ours }) => ours)];
  }

  async #admits({ sourceSession: session, name }) {
    try {
      return await this.admit({ session, name: shownName(name) });
    } catch (error) {
      this.#on.log(`Nobody can say whether ${session} may watch: ${error.message}`);
      return false;
    }
  }

  /** Remember whether a session may watch. */
  #judge(session, verdict) {
    this.#verdicts.delete(session);
    this.#verdicts.set(session, verdict);
    if (this.#verdicts.size > KNOWN) this.#verdicts.delete(this.#verdicts.keys().next().value);
  }

  /** Make an offer to somebody who asks, or say that there is none; where nothing is published yet, it waits. */
  #answer(message) {
    const { sourceSession: session } = message;
    const verdict = this.#verdicts.get(session);
    const joining = [...this.#watchers.values()].filter(({ answered }) => !answered).length;
    if (verdict || joining >= JOINING) {
      this.#askers.delete(session);
      if (verdict) this.#decline(message, { bye: verdict, refused: true });
    } else if (Watcher.canServe(message, [...this.#streams.values()])) {
      this.#askers.delete(session);
      this.#drop(session); // it asks anew
      this.#offer(message);
    }
  }

  #offer(message) {
    const { sourceSession: session, name } = message;
    const options = { ours: this.session, name: shownName(name), iceServers: this.#iceServers };
    const accept = this.#on.files ? { ...ACCEPT, files: [FILE] } : ACCEPT;
    const relay = (type, content) => {
      this.#signaling.relay(type, session, { ...content, accept, name: this.#name || undefined });
    };
    try {
      const watcher = new Watcher(message, options, [...this.#streams.values()], {
        offer: (sdp) => relay("webrtc_offer", { sdp }),
        candidate: (candidate) => relay("webrtc_ice", { candidate }),
        changed: () => {
          if (watcher.up) this.interrupted = null;
          this.#on.changed();
        },
        records: () => [...this.#watchers.values()].some(({ recorded }) => recorded),
        faces: (faces, stream, data) => {
          this.#passOn(faces, stream, session, data);
          this.#on.faces(faces, stream, session);
        },
        silent: () => this.#signaling.doubt(),
        end: (reason, left) => this.#ended(watcher, reason, left),
        log: this.#on.log,
        files: this.#on.files,
      });
      this.#watchers.set(session, watcher);
    } catch (error) { // a browser has only so many connections
      this.#on.log(`No connection can be made: ${error.message}`);
    }
    this.#on.changed();
  }

  /** Let all who are sent a stream have what one of them finds in it, whoever began: of two, the mesh would tremble. */
  #passOn({ detected, captured }, stream, session, data) {
    if (!detected || captured === undefined || !this.#streams.has(stream)) return;
    const finder = this.#finders.get(stream);
    const now = performance.now();
    if (finder !== undefined && finder.session !== session && now - finder.heard < FINDS) return;
    this.#finders.set(stream, { session, heard: now });
    for (const watcher of this.#watchers.values()) if (watcher.session !== session) watcher.passOn(stream, data);
  }

  /** Bring everybody up to date with what is published. */
  #update() {
    const streams = [...this.#streams.values()];
    for (const watcher of this.#watchers.values()) watcher.update(streams);
    queueMicrotask(() => this.#answerAll()); // then all is there that is published at once
    this.#on.changed();
  }

  #answerAll() {
    for (const message of [...this.#askers.values()]) {
      if (this.admit === null || this.#verdicts.has(message.sourceSession)) this.#answer(message);
    }
  }

  #ended(watcher, reason, left) {
    if (watcher === undefined || this.#watchers.get(watcher.session) !== watcher) return;
    if (left) this.interrupted = null;
    else if (watcher.up) this.interrupted = { name: watcher.name, since: new Date() };
    this.#on.log(`${watcher.name || watcher.session} is gone: ${reason}`);
    this.#drop(watcher.session, reason);
  }

  /** Close the connection with a session, if there is one; with a reason, tell it. */
  #drop(session, reason, content = {}) {
    const watcher = this.#watchers.get(session);
    if (watcher === undefined) return;
    this.#watchers.delete(session);
    if (reason && watcher.reachable) this.#decline(watcher.asked, { bye: reason, ...content });
    watcher.close(reason);
    this.#on.changed();
  }

  #decline(asked, content) {
    if (accepts(asked, "control", "control/1")) this.#signaling.relay("webrtc_ice", asked.sourceSession, content);
  }
}

/** Whoever has to offer, as a player of WHEP does, is told at once that a page makes all offers itself. */
const NO_OFFERS = "it is a page, which takes no offers: watch it in its room";
