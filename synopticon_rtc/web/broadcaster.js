// Publishes tracks to every receiver that asks: what broadcaster.py does in Python.

import { Signaling } from "./signaling.js";
import { accepts, Watcher } from "./watcher.js";

const ACCEPT = { control: ["control/1"], ice: ["more"], return: ["faces/1"] };
const MOST = 7; // streams
const TURNED_AWAY = 1_024; // sessions that are remembered

export class Broadcaster {
  #signaling;
  #name;
  #on;
  #iceServers = [];
  #streams = new Map(); // what is published, by name: { name, kind, hint, track, muted, replaced }
  #watchers = new Map(); // by session
  #askers = new Map(); // discoveries that wait until there is something to send, or for leave, by session
  #away = new Map(); // why nothing is sent to a session, by session
  #reachable = true;
  #over = new AbortController();

  /** Why the server does not let us in; null where it does. */
  refusal = null;

  /** Tells who may watch, before anything is sent: an async function of `{ session, name }`; null lets everybody. */
  admit = null;

  /**
   * @param {string} url of the signaling server
   * @param {object} options `name`, by which people and receivers know this broadcaster
   * @param {object} on `changed()`, `faces(message, stream, session)`, `log(text)`
   */
  constructor(url, { name = "" } = {}, on) {
    this.#name = name.trim();
    this.#on = on;
    this.#signaling = new Signaling(
      url,
      {
        opened: (welcome) => this.#opened(welcome),
        iceServers: (list) => (this.#iceServers = this.#usable(list)),
        received: (message) => this.#received(message),
        lost: (reason) => this.#lost(reason),
        refused: (reason) => this.#refused(reason),
      },
      { role: ["broadcast"], name: this.#name, tell: ["peers", "errors", "ice"] },
    );
    addEventListener("pagehide", () => this.close("the page was closed"), { signal: this.#over.signal });
  }

  /** "connecting", "ready", "unreachable" (who watches goes on, but nobody can join) or "refused". */
  get state() {
    if (this.refusal !== null) return "refused";
    if (!this.#reachable) return "unreachable";
    return this.session === null ? "connecting" : "ready";
  }

  /** Our session on the signaling server, null while there is none. */
  get session() {
    return this.#signaling.session;
  }

  /** Who is connected, or about to be: `{ session, name, up, recorded, since }`, `since` a Date. */
  get watchers() {
    const shown = ({ session, name, up, recorded, since }) => ({ session, name, up, recorded, since });
    return [...this.#watchers.values()].map(shown);
  }

  /**
   * Send a track to all, now and to come. With the name of one that is published, it takes its place.
   *
   * @param {string} name at most 64 characters
   * @param {MediaStreamTrack} track its owner stops it
   * @param {string} hint what it is: "camera", "screen", "microphone"
   */
  publish(name, track, hint = name) {
    const before = this.#streams.get(name);
    if (before !== undefined && before.kind !== track.kind) throw new Error(`The stream ${name} is no ${track.kind}`);
    if (before === undefined && this.#streams.size >= MOST) throw new Error(`${MOST} streams is the most`);
    const replaced = before === undefined ? 0 : before.replaced + 1;
    this.#streams.set(name, { name, kind: track.kind, hint, track, muted: before?.muted ?? false, replaced });
    this.#update();
  }

  /** Send a stream no more. */
  unpublish(name) {
    if (this.#streams.delete(name)) this.#update();
  }

  /** Send nothing of a stream for now, or again, and tell receivers so. */
  mute(name, muted) {
    const stream = this.#streams.get(name);
    if (stream === undefined || stream.muted === muted) return;
    stream.muted = muted;
    this.#update();
  }

  /** End the connection of a receiver, and make none again. */
  sendAway(session, reason = "the broadcaster sent you away") {
    this.#turnAway(session, reason);
    this.#drop(session, reason);
  }

  close(reason = "the broadcaster has ended") {
    this.#over.abort();
    this.#streams.clear();
    for (const session of [...this.#watchers.keys()]) this.#drop(session, reason);
    this.#signaling.close();
  }

  // Signaling

  #opened(welcome) {
    this.#on.log(`Signaling is there, our session is ${welcome.sessionId}`);
    this.#reachable = true;
    for (const watcher of [...this.#watchers.values()]) {
      if (!watcher.answered) this.#drop(watcher.session, "signaling reconnected"); // it knows us by another session
    }
    this.#askers.clear();
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
    this.#signaling.close();
    this.#on.changed();
  }

  #received(message) {
    const { type, sourceSession: source } = message;
    const watcher = this.#watchers.get(source);
    if (type === "webrtc_seek_broadcaster" || type === "request_offer") {
      if (typeof source === "string" && source !== "") this.#asked(message);
    } else if (type === "webrtc_answer") {
      if (message.sdp?.type === "answer" && typeof message.sdp.sdp === "string") watcher?.takeAnswer(message.sdp.sdp);
    } else if (type === "webrtc_ice") {
      if (message.bye != null) this.#ended(watcher, `the receiver left: ${message.bye}`);
      else watcher?.addCandidates([message.candidate, ...(Array.isArray(message.more) ? message.more : [])]);
    } else if (type === "peer_left" || message.errorCode === "target_not_found") {
      const session = message.session ?? message.targetSession;
      this.#askers.delete(session);
      this.#watchers.get(session)?.doubt();
    } else if (message.errorCode === "not_allowed") {
      if (message.targetSession) this.#ended(this.#watchers.get(message.targetSession), message.error);
      else if ([undefined, "broadcast"].includes(message.role)) this.#refused(message.error);
    } else if (type === "error") {
      this.#on.log(`The signaling server says: ${message.error}`);
    }
  }

  // Receivers

  async #asked(message) {
    const { sourceSession: session, want, unwanted } = message;
    if (want != null && want !== this.#name && want !== this.session) return;
    if (Array.isArray(unwanted) && this.#ours.some((each) => unwanted.includes(each))) return;
    const watcher = this.#watchers.get(session);
    if (watcher?.answered === false || this.#askers.has(session)) return; // one offer a handshake: a page that gets two throws
    if (this.#away.has(session)) {
      this.#decline(message, this.#away.get(session));
      return;
    }
    this.#askers.set(session, message);
    if (this.admit !== null && watcher === undefined && !(await this.#admitted(message))) return;
    if (this.#askers.get(session) !== message) return; // it left meanwhile, or our signaling did
    if (this.#streams.size > 0) this.#offer(message);
  }

  async #admitted(message) {
    const { sourceSession: session } = message;
    let may = false;
    try {
      may = await this.admit({ session, name: calledName(message) });
    } catch (error) {
      this.#on.log(`Whether ${session} may watch could not be told: ${error.message}`);
    }
    if (may) return true;
    this.#askers.delete(session);
    this.#turnAway(session, "the broadcaster does not let you watch");
    this.#decline(message, this.#away.get(session));
    return false;
  }

  /** The sessions by which we are known: who was there before signaling came back knows an earlier one. */
  get #ours() {
    return [this.session, ...[...this.#watchers.values()].map(({ ours }) => ours)];
  }

  #offer(message) {
    const { sourceSession: session } = message;
    const streams = [...this.#streams.values()];
    if (!Watcher.canServe(message, streams)) return; // it stays among those who wait
    this.#askers.delete(session);
    this.#drop(session, null); // it asked anew
    const relay = (type, content) => this.#signaling.relay(type, session, { ...content, accept: ACCEPT, name: this.#name || undefined });
    let watcher;
    try {
      watcher = new Watcher(message, { ours: this.session, name: calledName(message), iceServers: this.#iceServers }, streams, {
        offer: (sdp) => relay("webrtc_offer", { sdp }),
        candidate: (candidate) => relay("webrtc_ice", { candidate }),
        changed: () => this.#on.changed(),
        records: () => [...this.#watchers.values()].some(({ recorded }) => recorded),
        faces: (faces, stream) => this.#on.faces(faces, stream, session),
        end: (reason) => this.#ended(watcher, reason),
        log: this.#on.log,
      });
    } catch (error) { // a browser has only so many connections
      this.#on.log(`No connection can be made: ${error.message}`);
      return;
    }
    this.#watchers.set(session, watcher);
    this.#on.changed();
  }

  #update() {
    const streams = [...this.#streams.values()];
    for (const watcher of this.#watchers.values()) watcher.update(streams);
    if (this.admit === null) for (const message of [...this.#askers.values()]) this.#offer(message);
    this.#on.changed();
  }

  #turnAway(session, reason) {
    this.#away.delete(session);
    this.#away.set(session, reason);
    if (this.#away.size > TURNED_AWAY) this.#away.delete(this.#away.keys().next().value);
  }

  #decline(message, reason) {
    if (accepts(message, "control", "control/1")) this.#signaling.relay("webrtc_ice", message.sourceSession, { bye: reason });
  }

  #ended(watcher, reason) {
    if (watcher === undefined || this.#watchers.get(watcher.session) !== watcher) return;
    this.#on.log(`${watcher.name || watcher.session} is gone: ${reason}`);
    this.#drop(watcher.session, reason);
  }

  #drop(session, reason) {
    const watcher = this.#watchers.get(session);
    if (watcher === undefined) return;
    this.#watchers.delete(session);
    if (reason !== null && watcher.reachable) this.#decline(watcher.asked, reason);
    watcher.close(reason);
    this.#on.changed();
  }
}

/** What somebody who asks calls themselves, empty where they do not say. */
function calledName({ name }) {
  return typeof name === "string" ? name.trim().slice(0, 80) : "";
}
