// One peer connection with one receiver.

import { now } from "./clock.js";
import { decodeFaces } from "./faces.js";

const ANSWER_LIMIT = 5_000; // ms from an offer to its answer
const REPEAT_AFTER = 1_000; // ms without an answer after which the offer is sent once more
const CONNECT_LIMIT = 15_000; // ms from the answer to a connection, relays and slow networks included
const SILENCE_LIMIT = 2_400; // ms without a message after which a receiver that pings is gone
const DOUBT_LIMIT = 600; // the same, once its signaling has ended
const ON_ITS_WAY = 200; // ms in which may come what was sent before that
const PING_INTERVAL = 700;
const WATCH_INTERVAL = 250;
const GATHER_LIMIT = 500; // ms for the candidates that must be in the offer to a page
const LONGEST_REASON = 512;
const RETURNED = "returned"; // the label of the channel for faces that the receiver found in the first offer's video
const RETURNED_OF = "returned:"; // what it begins with for another stream
const CODECS = ["video/VP8", "video/H264", "video/rtx"]; // that the Python receiver takes
const BITRATE = 2_500_000; // bit/s, of a video

/** Whether a peer says that it can read a format of a kind. */
export function accepts({ accept }, kind, what) {
  return Array.isArray(accept?.[kind]) && accept[kind].includes(what);
}

export class Watcher {
  #peer;
  #on;
  #streams; // what is published, in order
  #several; // whether the receiver knows of several streams
  #sections = new Map(); // by the name of a stream: { transceiver, agreed, refused }
  #spare = []; // transceivers whose streams are published no more
  #first = null; // the name of the stream that the first offer carries
  #control = null;
  #timers = [];
  #since = now(); // the beginning of what is waited for
  #heard = now();
  #looked = now();
  #described; // resolves when the answer is applied, and candidates may come
  #applied;
  #steps = Promise.resolve(); // descriptions are changed one after the other
  #number = 0; // of our newest offer over the control channel
  #replied = null; // takes the answer to it
  #undecodable = false;

  /** Whether it came to connect. */
  up = false;
  /** Whether the receiver has answered. */
  answered = false;
  /** Whether it records what it is sent, as it says. */
  recorded = false;
  /** Whether signaling reaches it. */
  reachable = true;
  since = new Date();

  /** Whether there is anything that somebody who asks can be sent. */
  static canServe(asked, streams) {
    const [control, video] = [accepts(asked, "control", "control/1"), !refuses(asked, "video")];
    return control || (video && streams.some(({ kind }) => kind === "video"));
  }

  /**
   * Make an offer.
   *
   * @param {object} asked the discovery
   * @param {object} options `ours`, by which it knows us, `name`, what it is called, and `iceServers`
   * @param {object[]} streams what is published: `{ name, kind, hint, track, muted, replaced }`
   * @param {object} on `offer(sdp)`, `candidate(candidate)`, `changed()`, `records()` (whether anybody does),
   *   `faces(message, stream)`, `end(reason)`, `log(text)`
   */
  constructor(asked, { ours, name, iceServers }, streams, on) {
    this.asked = asked;
    this.session = asked.sourceSession;
    this.ours = ours;
    this.name = name;
    this.#on = on;
    this.#streams = streams;
    const pings = accepts(asked, "control", "control/1");
    this.#several = pings && accepts(asked, "streams", "streams/1");
    this.#peer = new RTCPeerConnection({ iceServers });
    this.#peer.onconnectionstatechange = () => this.#changed();
    this.#peer.ondatachannel = ({ channel }) => this.#channel(channel);
    const first = this.#wanted().find(({ kind }) => kind === "video");
    if (first !== undefined) {
      this.#first = first.name;
      this.#add(first);
    }
    if (pings) this.#openControl();
    this.#applied = new Promise((resolve) => (this.#described = resolve));
    this.#offer(pings).catch((error) => this.#end(`no offer could be made: ${error.message}`));
    this.#timers.push(setInterval(() => this.#watch(), WATCH_INTERVAL));
  }

  /** Take what is published now. */
  update(streams) {
    this.#streams = streams;
    this.#apply();
    this.#bring();
  }

  /** Take the answer to the first offer. */
  async takeAnswer(sdp) {
    if (this.answered || this.#peer.signalingState !== "have-local-offer") return;
    this.answered = true;
    this.#since = now();
    try {
      await this.#peer.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      this.#end(`the answer cannot be used: ${error.message}`);
      return;
    }
    for (const section of this.#sections.values()) section.agreed = true;
    this.#apply();
    this.#described();
  }

  /** Take candidates of the receiver, at any time. */
  async addCandidates(candidates) {
    await this.#applied;
    for (const candidate of candidates) {
      if (!candidate?.candidate) continue; // the end of candidates, which nothing waits for
      this.#peer.addIceCandidate(candidate).catch((error) => {
        if (this.#timers.length > 0) this.#on.log(`A candidate was dropped: ${error.message}`);
      });
    }
  }

  /** The receiver's signaling ended; see at once whether it is there. */
  doubt() {
    this.reachable = false;
    if (!this.up) this.#end("the receiver left");
    if (this.#control === null || this.#timers.length === 0) return; // a page's media tell in time
    const since = now() + ON_ITS_WAY;
    this.#ping();
    this.#timers.push(setTimeout(() => this.#heard < since && this.#end("the receiver left"), DOUBT_LIMIT));
  }

  /** Close without a word to the owner; with a reason, say goodbye to the receiver. */
  close(reason) {
    this.#timers.splice(0).forEach(clearInterval);
    if (reason) this.#say({ type: "bye", reason });
    if (this.#control !== null) this.#control.onclose = null;
    this.#peer.onconnectionstatechange = this.#peer.onicecandidate = this.#peer.ondatachannel = null;
    this.#peer.close();
    this.#replied?.(null);
  }

  // The first offer

  async #offer(trickles) {
    const peer = this.#peer;
    if (trickles) {
      // The offer goes first.
      peer.onicecandidate = ({ candidate }) => {
        if (candidate?.candidate) sent.then(() => this.#on.candidate(candidate.toJSON()));
      };
    }
    let told;
    const sent = new Promise((resolve) => (told = resolve));
    await peer.setLocalDescription();
    if (!trickles) await this.#gathered();
    if (this.#timers.length === 0) return;
    const send = () => this.#on.offer({ type: "offer", sdp: peer.localDescription.sdp });
    send();
    told();
    this.#since = now();
    this.#timers.push(setTimeout(() => !this.answered && send(), REPEAT_AFTER));
  }

  /** Wait for candidates: pages without a queue lose those that come before they have applied the offer. */
  #gathered() {
    return new Promise((resolve) => {
      this.#peer.onicegatheringstatechange = () => this.#peer.iceGatheringState === "complete" && resolve();
      this.#timers.push(setTimeout(() => {
        resolve();
        this.#peer.onicecandidate = ({ candidate }) => candidate?.candidate && this.#on.candidate(candidate.toJSON());
      }, GATHER_LIMIT));
    });
  }

  // Streams

  /** What the receiver takes of what is published. */
  #wanted() {
    const video = !refuses(this.asked, "video");
    const names = this.#several && Array.isArray(this.asked.accept.take) ? this.asked.accept.take : null;
    return this.#streams.filter(({ name, kind }) => (video || kind === "audio") && (names?.includes(name) ?? true));
  }

  #add({ name, kind, hint, track }) {
    const at = this.#spare.findIndex(({ receiver }) => receiver.track.kind === kind);
    let [transceiver] = at < 0 ? [] : this.#spare.splice(at, 1);
    if (transceiver === undefined) {
      const sendEncodings = kind === "video" ? [{ maxBitrate: BITRATE }] : undefined;
      transceiver = this.#peer.addTransceiver(track, { direction: "sendonly", streams: [new MediaStream()], sendEncodings });
      if (kind === "video") preferCodecs(transceiver);
    }
    if (kind === "video" && hint === "screen" && track.contentHint === "") track.contentHint = "detail";
    this.#sections.set(name, { transceiver, agreed: false, refused: false });
  }

  /** Send what is published on the sections that the receiver has agreed to, and nothing on the others. */
  #apply() {
    const streams = new Map(this.#streams.map((stream) => [stream.name, stream]));
    for (const [name, { transceiver, agreed, refused }] of [...this.#sections]) {
      const stream = streams.get(name) ?? (this.#several ? undefined : this.#wanted().find(({ kind }) => kind === "video"));
      if (stream === undefined && this.#several) {
        this.#sections.delete(name);
        if (this.#first === name) this.#first = null;
        if (agreed && !refused) this.#spare.push(transceiver);
      }
      const track = stream === undefined || stream.muted || refused ? null : stream.track;
      if ((agreed || track === null) && transceiver.sender.track !== track) {
        transceiver.sender.replaceTrack(track).catch(() => {}); // closed meanwhile
      }
    }
  }

  /** Bring the receiver up to date, after what goes on. */
  #bring() {
    if (!this.#several) return;
    const step = async () => this.#timers.length > 0 && this.#control.readyState === "open" && (await this.#tell());
    this.#steps = this.#steps.then(step).catch((error) => this.#on.log(`An offer failed: ${error.message}`));
  }

  async #tell() {
    const added = this.#wanted().filter(({ name }) => !this.#sections.has(name));
    if (added.length === 0) {
      this.#say({ type: "streams", streams: this.#listed() });
      return;
    }
    added.forEach((stream) => this.#add(stream));
    const number = ++this.#number;
    await this.#peer.setLocalDescription();
    const { sdp } = this.#peer.localDescription;
    const reply = await new Promise((resolve) => {
      this.#replied = resolve;
      this.#timers.push(setTimeout(() => resolve({ reason: "no answer came" }), ANSWER_LIMIT));
      this.#say({ type: "offer", number, sdp, streams: this.#listed() });
    });
    this.#replied = null;
    if (reply !== null) await this.#agree(added, reply);
  }

  async #agree(added, { sdp, reason }) {
    const sections = added.map(({ name }) => this.#sections.get(name)).filter((section) => section !== undefined);
    try {
      if (typeof sdp !== "string") throw new Error(String(reason).slice(0, LONGEST_REASON));
      await this.#peer.setRemoteDescription({ type: "answer", sdp });
    } catch (error) {
      this.#on.log(`The receiver takes no more streams: ${error.message}`);
      await this.#peer.setLocalDescription({ type: "rollback" });
      for (const section of sections) {
        section.refused = true;
        section.transceiver.stop();
      }
      return;
    }
    for (const section of sections) {
      section.agreed = true;
      section.refused = section.transceiver.currentDirection !== "sendonly";
    }
    this.#apply();
  }

  #listed() {
    return this.#streams.map(({ name, kind, hint, muted, replaced }) => {
      const section = this.#sections.get(name);
      const mid = section === undefined || section.refused ? null : section.transceiver.mid;
      return { name, kind, hint, mid, muted, faces: false, replaced };
    });
  }

  // The control channel

  #openControl() {
    const channel = (this.#control = this.#peer.createDataChannel("control", { protocol: "control/1" }));
    channel.onopen = () => {
      this.#heard = now();
      this.#ping();
      this.#timers.push(setInterval(() => this.#ping(), PING_INTERVAL));
      this.#bring();
    };
    channel.onmessage = ({ data }) => this.#controlled(data);
    channel.onclose = () => this.#end("the receiver closed the connection");
  }

  #controlled(data) {
    this.#heard = now();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message?.type === "ping") {
      this.#say({ type: "pong", t: message.t, time: now() });
      const recorded = message.recording === true;
      if (recorded !== this.recorded) {
        this.recorded = recorded;
        this.#on.changed();
      }
    } else if (message?.type === "answer" || message?.type === "refusal") {
      if (message.number === this.#number) this.#replied?.(message);
    } else if (message?.type === "bye") {
      this.#end(`the receiver left: ${message.reason}`);
    }
  }

  #ping() {
    this.#say({ type: "ping", t: now(), recording: this.#on.records() || undefined });
  }

  #say(message) {
    if (this.#control?.readyState === "open") this.#control.send(JSON.stringify(message));
  }

  // Faces that the receiver found

  #channel(channel) {
    const { label, protocol } = channel;
    const stream = label === RETURNED ? this.#first : label.startsWith(RETURNED_OF) ? label.slice(RETURNED_OF.length) : null;
    if (stream === null || protocol !== "faces/1") {
      channel.close();
      return;
    }
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => this.#faces(data, label === RETURNED ? this.#first : stream);
  }

  #faces(data, stream) {
    let message;
    try {
      message = decodeFaces(data);
    } catch (error) {
      if (!this.#undecodable) this.#on.log(`A faces message was dropped: ${error.message}`);
      this.#undecodable = true; // said once
      return;
    }
    this.#on.faces(message, stream);
  }

  // Life

  #changed() {
    const state = this.#peer.connectionState;
    if (state === "connected" && !this.up) {
      this.up = true;
      this.since = new Date();
      this.#on.changed();
    } else if (state === "failed" || state === "closed") {
      this.#end(this.up ? "the connection failed" : "no way to the receiver was found");
    }
  }

  #watch() {
    const time = now();
    if (time - this.#looked > 4 * WATCH_INTERVAL) this.#heard = time; // we slept: what came meanwhile is not read yet
    this.#looked = time;
    if (!this.answered && time - this.#since > ANSWER_LIMIT) this.#end("no answer came");
    else if (this.answered && !this.up && time - this.#since > CONNECT_LIMIT) this.#end("no connection came about");
    else if (this.#control?.readyState === "open" && time - this.#heard > SILENCE_LIMIT) {
      this.#end(`nothing was heard for ${SILENCE_LIMIT / 1_000} s`);
    }
  }

  #end(reason) {
    if (this.#timers.length === 0) return; // closed already
    this.#on.end(reason);
  }
}

function refuses({ accept }, kind) {
  return Array.isArray(accept?.[kind]) && accept[kind].length === 0;
}

/** Offer what the Python receiver takes, in the order that the browser likes. */
function preferCodecs(transceiver) {
  const codecs = RTCRtpSender.getCapabilities("video")?.codecs.filter(({ mimeType }) => CODECS.includes(mimeType));
  if (codecs?.length > 0) transceiver.setCodecPreferences?.(codecs);
}
