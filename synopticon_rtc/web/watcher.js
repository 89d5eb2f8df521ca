// One peer connection with one receiver.

import { now } from "./clock.js";
import { decodeFaces } from "./faces.js";
import { Files, PROTOCOL as FILE } from "./files.js";
import { withStartBitrate } from "./quality.js";

const ANSWER_LIMIT = 5_000; // ms from an offer to its answer
const REPEAT_AFTER = 1_000; // ms without an answer after which the offer is sent once more
const GATHER_LIMIT = 500; // ms for the candidates that are in the offer to a page
const CONNECT_LIMIT = 15_000; // ms from the answer to a connection, relays and slow networks included
const SILENCE_LIMIT = 2_400; // ms in which nothing comes after which a receiver that pings is gone
const DOUBT_LIMIT = 600; // the same, once its signaling has ended
const ON_ITS_WAY = 200; // ms in which may come what was sent before that
const PING_INTERVAL = 700;
const WATCH_INTERVAL = 250;
const LONGEST_DESCRIPTION = 60_000; // characters
const RETURNED = "returned"; // the label of the channel for faces that a receiver finds; of other streams than the first
const RETURNED_OF = "returned:"; // one, what it begins with
const RETURNED_MOST = 8; // of those channels, more than there are streams
const FOUND = "found"; // the label of the channel for faces that another receiver finds, with the name of the stream
const FOUND_KEPT = 2_048; // bytes that may wait in it: what waits for long is stale by the time that it goes
const READING = 400; // ms of a second that are spent on faces of one receiver: one that floods us freezes no page
const CODECS = ["video/VP8", "video/H264", "video/rtx"]; // that receivers in Python take
const BITRATE = 2_500_000; // bit/s of a video at most
const CAPTURE_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

/** Whether somebody says that they can read a format. */
export function accepts({ accept }, kind, format) {
  return Array.isArray(accept?.[kind]) && accept[kind].includes(format);
}

/** Whether somebody says that they can read no format of a kind. */
function refuses({ accept }, kind) {
  return Array.isArray(accept?.[kind]) && accept[kind].length === 0;
}

export class Watcher {
  #peer;
  #on;
  #streams; // what is published, in that order
  #pings; // whether there is a control channel
  #several; // whether the receiver knows of several streams
  #sections = new Map(); // by the name of a stream: { transceiver, agreed, refused }
  #spare = []; // transceivers whose streams are published no more
  #first = null; // the name of the stream that the first offer carries
  #control = null;
  #timers = [];
  #since = now(); // when that began which is waited for
  #heard = now();
  #looked = now();
  #octets = 0; // that came, in whatever
  #agreed; // resolves when candidates may come
  #agree;
  #steps = Promise.resolve(); // one description after the other
  #number = 0; // of our newest offer over the control channel
  #reply = null; // takes the answer to it
  #undecodable = false;
  #returned = 0; // channels for faces that are open
  #found = new Map(); // those for faces that other receivers find, by the name of the stream
  #second = 0; // when that began in which so many ms were spent on faces
  #spent = 0;

  /** Whether it came to connect, and since when that is so, or has been tried. */
  up = false;
  since = new Date();

  /** Whether the receiver has answered. */
  answered = false;

  /** Whether it records what it is sent, as it says. */
  recorded = false;

  /** Whether signaling reaches it. */
  reachable = true;

  /** Whether there is anything for somebody who asks. */
  static canServe(asked, streams) {
    const several = accepts(asked, "control", "control/1") && accepts(asked, "streams", "streams/1");
    return streams.some(({ kind }) => several || (kind === "video" && !refuses(asked, "video")));
  }

  /**
   * Make an offer.
   *
   * @param {object} asked the discovery
   * @param {object} options `ours`, the session by which it knows us, `name`, what it is called, and `iceServers`
   * @param {object[]} streams what is published: `{ name, kind, hint, track, muted, replaced }`
   * @param {object} on `offer(description)`, `candidate(candidate)`, `changed()`, `records()` (tells whether anybody
   *   records), `faces(message, stream, data)` (`data` is the message as it came), `silent()` (it is about to end, as nothing
   *   comes any more), `end(reason, left)` (then it is to be closed; `left` where it said goodbye), `log(text)`; and `files`, to
   *   whom offers of files go, where a page takes any
   */
  constructor(asked, { ours, name, iceServers }, streams, on) {
    this.asked = asked;
    this.session = asked.sourceSession;
    this.ours = ours;
    this.name = name;
    this.#on = on;
    this.#streams = streams;
    this.#pings = accepts(asked, "control", "control/1");
    this.#several = this.#pings && accepts(asked, "streams", "streams/1");
    this.#agreed = new Promise((resolve) => (this.#agree = resolve));
    this.#peer = new RTCPeerConnection({ iceServers });
    const open = (label) => this.#peer.createDataChannel(label, { protocol: FILE });
    /** What carries files; null where the receiver, or this page, takes none. */
    this.files = on.files && accepts(asked, "files", FILE) ? new Files(open, on.files) : null;
    this.#peer.onconnectionstatechange = () => this.#changed();
    this.#peer.ondatachannel = ({ channel }) => this.#channel(channel);
    const first = this.#wanted.find(({ kind }) => kind === "video");
    if (first !== undefined) {
      this.#first = first.name;
      this.#add(first);
    }
    if (this.#pings) this.#openControl();
    this.#timers.push(setInterval(() => this.#watch(), WATCH_INTERVAL));
    this.#offer().catch((error) => this.#end(`no offer can be made: ${error.message}`));
  }

  /** Take what is published now. */
  update(streams) {
    this.#streams = streams;
    this.#apply();
    this.#bring();
  }

  /** Pass on what another receiver found in a stream, if this one is sent that and reads such faces. */
  passOn(name, data) {
    const section = this.#sections.get(name);
    if (!this.up || !section?.agreed || section.refused || !accepts(this.asked, "found", "faces/1")) return;
    if (!this.#found.has(name)) {
      const options = { protocol: "faces/1", ordered: false, maxRetransmits: 0 };
      this.#found.set(name, this.#peer.createDataChannel(`${FOUND}:${name}`, options));
    }
    const channel = this.#found.get(name);
    if (channel.readyState === "open" && channel.bufferedAmount <= FOUND_KEPT) channel.send(data);
  }

  /** Take the answer to the first offer; a second one is none. */
  async takeAnswer(sdp) {
    if (this.answered || this.#peer.signalingState !== "have-local-offer") return;
    this.answered = true;
    this.#since = now();
    try {
      await this.#describe(sdp, [...this.#sections.values()]);
      this.#agree();
    } catch (error) {
      this.#end(`the answer cannot be taken: ${error.message}`);
    }
  }

  /** Take candidates of the receiver, at any time. */
  async addCandidates(candidates) {
    await this.#agreed;
    for (const candidate of candidates) {
      if (!candidate?.candidate) continue; // the end of candidates, which nothing waits for
      this.#peer.addIceCandidate(candidate).catch((error) => {
        if (this.#isOpen) this.#on.log(`A candidate was dropped: ${error.message}`);
      });
    }
  }

  /** The receiver's signaling ended; see at once whether it is there. */
  doubt() {
    this.reachable = false;
    if (!this.up) {
      this.#end("the receiver left");
    } else if (this.#pings) { // the media of a page tell in time
      const since = now() + ON_ITS_WAY;
      this.#ping();
      this.#timers.push(setTimeout(() => this.#heard < since && this.#end("the receiver left"), DOUBT_LIMIT));
    }
  }

  /** Close without a word to the owner; with a reason, say goodbye to the receiver. */
  close(reason) {
    this.#timers.splice(0).forEach(clearInterval);
    if (reason) this.#say({ type: "bye", reason });
    this.files?.close();
    if (this.#control !== null) this.#control.onclose = null;
    this.#peer.onconnectionstatechange = this.#peer.onicecandidate = this.#peer.ondatachannel = null;
    this.#peer.close();
    this.#reply?.(null);
  }

  get #isOpen() {
    return this.#timers.length > 0;
  }

  // The first offer

  async #offer() {
    const peer = this.#peer;
    let told;
    const sent = new Promise((resolve) => (told = resolve));
    peer.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) sent.then(() => this.#on.candidate(candidate.toJSON()));
    };
    await peer.setLocalDescription();
    if (!this.#pings) await this.#gathered();
    if (!this.#isOpen) return;
    const { sdp } = peer.localDescription;
    const send = () => this.#on.offer({ type: "offer", sdp });
    send();
    told();
    this.#since = now();
    this.#timers.push(setTimeout(() => this.answered || send(), REPEAT_AFTER));
  }

  /** Wait for candidates: pages without a queue lose those that come before they have applied the offer. */
  #gathered() {
    return new Promise((resolve) => {
      this.#peer.onicegatheringstatechange = () => this.#peer.iceGatheringState === "complete" && resolve();
      this.#timers.push(setTimeout(resolve, GATHER_LIMIT));
    });
  }

  // Streams

  /** What the receiver takes of what is published. */
  get #wanted() {
    const { accept } = this.asked;
    const takes = (name) => !this.#several || !Array.isArray(accept.take) || accept.take.includes(name);
    return this.#streams.filter(({ name, kind }) => takes(name) && (kind === "audio" || !refuses(this.asked, "video")));
  }

  /** Give a stream a section, one that is left over if there is any. */
  #add({ name, kind, track, muted }) {
    const at = this.#spare.findIndex(({ receiver }) => receiver.track.kind === kind);
    let [transceiver] = at < 0 ? [] : this.#spare.splice(at, 1);
    if (transceiver === undefined) {
      const sendEncodings = kind === "video" ? [{ maxBitrate: BITRATE }] : [];
      // A stream for each, as browsers play those of one stream in step, at the pace of the slowest.
      const options = { direction: "sendonly", streams: [new MediaStream()], sendEncodings };
      transceiver = this.#peer.addTransceiver(muted ? kind : track, options);
      if (kind === "video") preferCodecs(transceiver);
      if (this.#several) offerCaptureTime(transceiver);
    }
    this.#sections.set(name, { transceiver, agreed: false, refused: false });
  }

  /** Send what is published on the sections that the receiver has agreed to, and nothing on others. */
  #apply() {
    for (const [name, { transceiver, agreed, refused }] of [...this.#sections]) {
      const stream = this.#at(name);
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

  /** The stream of a section: a receiver that knows of one alone is shown another video where that is gone. */
  #at(name) {
    const stream = this.#streams.find((each) => each.name === name);
    return stream ?? (this.#several ? undefined : this.#wanted.find(({ kind }) => kind === "video"));
  }

  /** Tell the receiver what is published, after what goes on. */
  #bring() {
    if (!this.#several) return;
    const step = async () => this.#isOpen && this.#control.readyState === "open" && (await this.#tell());
    this.#steps = this.#steps.then(step).catch((error) => this.#on.log(`A stream cannot be offered: ${error.message}`));
  }

  async #tell() {
    const added = this.#wanted.filter(({ name }) => !this.#sections.has(name));
    if (added.length === 0) {
      this.#say({ type: "streams", streams: this.#listed });
      return;
    }
    for (const stream of added) this.#add(stream);
    const sections = added.map(({ name }) => this.#sections.get(name));
    try {
      await this.#peer.setLocalDescription();
      await this.#describe(await this.#answer(), sections);
    } catch (error) {
      if (!this.#isOpen) return;
      this.#on.log(`The receiver takes no more streams: ${error.message}`);
      if (this.#peer.signalingState !== "stable") await this.#peer.setLocalDescription({ type: "rollback" });
      for (const section of sections) {
        section.refused = true;
        section.transceiver.stop();
      }
    }
  }

  /** Offer what was added over the control channel, and wait for the answer. */
  async #answer() {
    const { sdp } = this.#peer.localDescription;
    if (sdp.length > LONGEST_DESCRIPTION) throw new Error("the description is too long");
    const number = ++this.#number;
    const reply = await new Promise((resolve) => {
      this.#reply = resolve;
      this.#timers.push(setTimeout(() => resolve(null), ANSWER_LIMIT));
      this.#say({ type: "offer", number, sdp, streams: this.#listed });
    });
    this.#reply = null;
    if (typeof reply?.sdp !== "string") throw new Error(reply?.reason ?? "no answer came");
    return reply.sdp;
  }

  /** Apply an answer, and send what it agrees to. */
  async #describe(sdp, sections) {
    await this.#peer.setRemoteDescription({ type: "answer", sdp: withStartBitrate(sdp) });
    const kept = new Set(this.#sections.values());
    for (const section of sections) {
      section.agreed = true;
      section.refused = section.transceiver.currentDirection !== "sendonly";
      if (!kept.has(section) && !section.refused) this.#spare.push(section.transceiver); // it was unpublished meanwhile
    }
    this.#apply();
  }

  get #listed() {
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
      this.#timers.push(setInterval(() => this.#listen(), PING_INTERVAL));
      this.#bring();
    };
    channel.onmessage = ({ data }) => this.#controlled(data);
    channel.onclose = () => this.#end("the receiver closed the connection", true);
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
      const before = this.recorded;
      this.recorded = message.recording === true;
      if (this.recorded !== before) this.#on.changed();
    } else if (["answer", "refusal"].includes(message?.type) && message.number === this.#number) {
      this.#reply?.(message);
    } else if (message?.type === "bye") {
      this.#end(`the receiver left: ${message.reason}`, true);
    }
  }

  /** Ask whether the receiver is there; whatever else comes tells it, too: its messages may wait behind a file. */
  async #listen() {
    this.#ping();
    const before = this.#octets;
    this.#octets = await octetsReceived(this.#peer);
    if (this.#octets > before) this.#heard = now();
  }

  #ping() {
    this.#say({ type: "ping", t: now(), recording: this.#on.records() || undefined });
  }

  #say(message) {
    if (this.#control?.readyState === "open") this.#control.send(JSON.stringify(message));
  }

  // Faces that the receiver finds

  #channel(channel) {
    if (this.files?.adopt(channel)) return;
    const { label, protocol } = channel;
    const name = label.startsWith(RETURNED_OF) ? label.slice(RETURNED_OF.length) : null;
    if (protocol !== "faces/1" || (name === null && label !== RETURNED) || this.#returned >= RETURNED_MOST) {
      channel.close();
      return;
    }
    this.#returned += 1;
    channel.onclose = () => (this.#returned -= 1);
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => this.#spend(() => this.#faces(data, name ?? this.#first));
  }

  /** Do something with faces, unless too much of this second went there. */
  #spend(work) {
    const begun = now();
    if (begun - this.#second >= 1_000) [this.#second, this.#spent] = [begun, 0];
    if (this.#spent >= READING) return;
    work();
    this.#spent += now() - begun;
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
    // The receiver knows it from our sender reports, which tell it by the same clock.
    const captured = message.captureTime === null ? undefined : message.captureTime - performance.timeOrigin;
    this.#on.faces({ ...message, captured }, stream, data);
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
    const waited = time - this.#since;
    if (!this.answered && waited > ANSWER_LIMIT) {
      this.#end(`no answer came within ${ANSWER_LIMIT / 1_000} s`);
    } else if (this.answered && !this.up && waited > CONNECT_LIMIT) {
      this.#end(`no connection within ${CONNECT_LIMIT / 1_000} s`);
    } else if (this.#control?.readyState === "open" && time - this.#heard > SILENCE_LIMIT) {
      this.#on.silent();
      this.#end(`nothing was heard for ${SILENCE_LIMIT / 1_000} s`);
    }
  }

  #end(reason, left = false) {
    if (this.#isOpen) this.#on.end(reason, left);
  }
}

/** Return how many bytes have come over a connection. */
async function octetsReceived(peer) {
  const stats = await peer.getStats().catch(() => new Map()); // closed meanwhile
  return [...stats.values()].reduce((sum, { type, bytesReceived = 0 }) => sum + (type === "candidate-pair" ? bytesReceived : 0), 0);
}

/** Offer what receivers in Python take, in the order that the browser likes. */
function preferCodecs(transceiver) {
  const codecs = RTCRtpSender.getCapabilities("video")?.codecs.filter(({ mimeType }) => CODECS.includes(mimeType));
  if (codecs?.length > 0) transceiver.setCodecPreferences?.(codecs);
}

/** Have packets tell when frames were captured, where the browser can do that: its sender reports come later. */
function offerCaptureTime(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.();
  const offered = extensions?.map((each) => (each.uri === CAPTURE_TIME ? { ...each, direction: "sendrecv" } : each));
  if (offered !== undefined) transceiver.setHeaderExtensionsToNegotiate(offered);
}
