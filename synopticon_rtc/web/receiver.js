// Finds one broadcaster, connects with it, and finds it again when it is gone.

import { acceptsBye, Connection, displayName } from "./connection.js";
import { Signaling } from "./signaling.js";

const SEEK_INTERVALS = [500, 1_000, 2_000]; // ms; the last goes on
const EARLY_CANDIDATES = 32;
const ACCEPT = { faces: ["faces/1", "json"], control: ["control/1"] };

export class Receiver {
  #signaling;
  #from;
  #on;
  #iceServers = [];
  #seekKnown = true;
  #seeks = 0;
  #timer;
  #early = []; // candidates that came before their offer
  #reachable = true;
  #had = false; // a broadcaster, and it did not say goodbye

  /** The connection with the broadcaster, null while there is none. */
  connection = null;

  /**
   * @param {string} url of the signaling server
   * @param {string|null} from name or session of the one broadcaster to take, null for the first that answers
   * @param {object} on `changed()`, `track(track)`, `faces(message)`, `log(text)`
   */
  constructor(url, from, on) {
    this.#from = from;
    this.#on = on;
    this.#signaling = new Signaling(url, {
      opened: (welcome) => this.#opened(welcome),
      received: (message) => this.#received(message),
      lost: (reason) => this.#lost(reason),
    });
  }

  /** Our session on the signaling server, null while there is none. */
  get session() {
    return this.#signaling.session;
  }

  /** "seeking", "connecting", "connected", "interrupted" or "unreachable" (neither a broadcaster nor a server). */
  get state() {
    if (this.connection !== null) return this.connection.up ? "connected" : "connecting";
    if (!this.#reachable) return "unreachable";
    return this.#had ? "interrupted" : "seeking";
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
    this.#iceServers = this.#usable(welcome.iceServers ?? []);
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
    } else if (type === "error") {
      if (String(message.error).includes("webrtc_seek_broadcaster")) this.#seekKnown = false;
      else this.#on.log(`The signaling server says: ${message.error}`);
    }
  }

  #offered(offer) {
    const source = offer.sourceSession;
    if (this.connection?.source === source && this.connection.sdp === offer.sdp.sdp) {
      this.connection.repeatAnswer(); // the first one was lost
      return;
    }
    const wanted = this.#from === null || this.#from === offer.name || this.#from === source;
    if (!wanted || (this.connection !== null && this.connection.source !== source)) {
      this.#decline(offer);
      return;
    }
    this.#on.log(`${displayName(offer)} answered, session ${source}`);
    this.connection?.close(); // it starts afresh
    clearTimeout(this.#timer);
    this.connection = new Connection(offer, this.#iceServers, {
      answer: ({ type, sdp }) => this.#signaling.relay("webrtc_answer", source, { sdp: { type, sdp }, accept: ACCEPT }),
      candidate: (candidate) => this.#signaling.relay("webrtc_ice", source, { candidate }),
      up: () => {
        this.#had = true;
        this.#on.log("Connected");
        this.#on.changed();
      },
      end: (reason, left) => this.#ended(reason, left),
      track: this.#on.track,
      faces: this.#on.faces,
      log: this.#on.log,
    });
    for (const { sourceSession, candidate } of this.#early) {
      if (sourceSession === source) this.connection.addCandidate(candidate);
    }
    this.#early = [];
    this.#on.changed();
  }

  /** Spare a broadcaster that is not chosen the wait for an answer. */
  #decline(offer) {
    if (!acceptsBye(offer)) return;
    this.#signaling.relay("webrtc_ice", offer.sourceSession, { bye: "another broadcaster was chosen" });
  }

  #ended(reason, left) {
    this.#on.log(`Disconnected: ${reason}`);
    const { up } = this.connection;
    if (left) this.#had = false;
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

  /** Nothing announces a broadcaster that comes later, so this repeats until one answers. */
  #seek() {
    clearTimeout(this.#timer);
    if (this.connection !== null || this.session === null) return;
    const content = { accept: ACCEPT, want: this.#from ?? undefined };
    if (this.#seekKnown) this.#signaling.relay("webrtc_seek_broadcaster", null, content);
    this.#signaling.relay("request_offer", null, content);
    this.#seekLater();
  }

  #seekLater() {
    clearTimeout(this.#timer);
    const interval = SEEK_INTERVALS[Math.min(this.#seeks++, SEEK_INTERVALS.length - 1)];
    this.#timer = setTimeout(() => this.#seek(), interval);
  }
}
