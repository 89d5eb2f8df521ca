// One peer connection with one broadcaster.

import { ClockOffset, now } from "./clock.js";
import { readReport } from "./delays.js";
import { decodeFaces, decodeJson } from "./faces.js";
import { Files, PROTOCOL as FILE } from "./files.js";
import { hold, Lips } from "./lips.js";
import { shownName } from "./names.js";
import { readStreams, Streams } from "./streams.js";

const CONNECT_LIMIT = 15_000; // ms from the offer to a connection, relays and slow networks included
const SILENCE_LIMIT = 2_400; // ms without a packet or message after which the broadcaster is gone
const PING_INTERVAL = 1_000;
const WATCH_INTERVAL = 250;
const DOUBT_LIMIT = 600; // the same, once the broadcaster's signaling has ended
const FACES_OF = "faces:"; // what the label of a channel begins with that has the faces of the stream that it names
const FOUND_OF = "found:"; // the same for faces that another receiver found: they tell of their frame when it was captured
const FRESH = 1_000; // ms for which a sound is as loud as was said last
const ON_ITS_WAY = 200; // ms in which may come what was sent before that

export class Connection {
  #peer;
  #on;
  #applied; // resolves when the offer is applied, and candidates may come
  #answered; // resolves when the answer is out, and our candidates may follow
  #control = null;
  #clock = new ClockOffset();
  #timers = [];
  #started = now();
  #heard = now();
  #looked = now();
  #video = { id: null, bytes: 0, time: 0 };
  #packets = 0; // of video and sound
  #undecodable = false;
  #tells = false; // whether there is a channel for the faces of the first offer's video
  #found = new Set(); // the names of the streams with one for faces that another receiver finds
  #streams = new Streams();
  #reports = new Map(); // by the name of a stream, null for that of the first offer
  #lips = new Lips();
  #number = 0; // of the newest offer that came over the control channel

  /** Whether it came to connect. */
  up = false;

  /** Whether somebody records what comes, as the broadcaster says. */
  recorded = false;

  /** Bits of video in a second, null before they are known. */
  bitrate = null;

  /**
   * Take a broadcaster's offer.
   *
   * @param {object} offer the `webrtc_offer` message
   * @param {RTCIceServer[]} iceServers
   * @param {object} on `answer(sdp)`, `candidate(candidate)`, `up()`, `streams()` (what comes has
   *   changed), `faces(message, name)` (of the stream of that name, null for that of the first offer; with `captured`, the
   *   frame is the one that was captured then, by performance.now()), `end(reason, left)` (once; `left` where the broadcaster
   *   said goodbye), `log(text)`; and `files`, to whom offers of files go, where a page takes any
   */
  constructor(offer, iceServers, on) {
    this.source = offer.sourceSession;
    this.name = displayName(offer);
    this.origin = origin(offer.sdp.sdp);
    this.acceptsBye = acceptsBye(offer);
    this.#on = on;
    this.#peer = new RTCPeerConnection({ iceServers });
    const open = (label) => this.#peer.createDataChannel(label, { protocol: FILE });
    /** What carries files; null where the broadcaster, or this page, takes none. */
    this.files = on.files && Array.isArray(offer.accept?.files) && offer.accept.files.includes(FILE) ? new Files(open, on.files) : null;
    this.#peer.ontrack = ({ track, receiver, transceiver }) => this.#track(track, receiver, transceiver.mid);
    this.#peer.ondatachannel = ({ channel }) => this.#channel(channel);
    this.#peer.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.#answered.then(() => this.#on.candidate(candidate.toJSON()));
    };
    this.#peer.onconnectionstatechange = () => this.#changed();
    this.#applied = this.#peer.setRemoteDescription(offer.sdp);
    this.#answered = this.#applied.then(() => this.#answer());
    this.#answered.catch((error) => this.#end(`the offer cannot be taken: ${error.message}`));
    this.#timers.push(setInterval(() => this.#watch(), WATCH_INTERVAL));
    this.#timers.push(setInterval(() => this.#measure(), PING_INTERVAL));
  }

  /** How far the broadcaster's clock is ahead of `now()`, ms; null where it is not known. */
  get clockOffset() {
    return this.#clock.value;
  }

  /** Ms that a message takes from the broadcaster to here; null where it is not known. */
  get way() {
    return this.#clock.way;
  }

  /** The videos that come, and the sound. */
  get videos() {
    return this.#streams.videos;
  }

  get sound() {
    return this.#streams.sound;
  }

  /** Whether there would be sound, but all of it is muted. */
  get silent() {
    return this.#streams.silent;
  }

  /** How loud the sound is as its sender says (RFC 6464), the root mean square of samples of -1 to 1; null where it says nothing. */
  get loudness() {
    const receiver = this.#peer.getReceivers().find(({ track }) => track === this.sound?.track);
    const [source] = receiver?.getSynchronizationSources?.() ?? [];
    return source !== undefined && now() - source.timestamp < FRESH ? (source.audioLevel ?? null) : null;
  }

  /** Whether faces can come of one of the videos. */
  tellsFaces({ name, faces }) {
    return this.#found.has(name) || (this.isFirst(name) ? this.#tells : faces);
  }

  /** Whether a stream is the one that is meant by null: that of the first offer. */
  isFirst(name) {
    return name === null || name === this.#streams.first;
  }

  /** What the broadcaster reports of its part in the delay of a stream, null before it does. */
  report(name) {
    return this.#reports.get(this.isFirst(name) ? null : name) ?? null;
  }

  /** Send the answer once more. */
  repeatAnswer() {
    this.#answered.then(() => this.#on.answer(this.#peer.localDescription), () => {});
  }

  /** Take a candidate of the broadcaster, at any time after its offer. */
  addCandidate(candidate) {
    if (!candidate?.candidate) return; // the end of candidates, which nothing waits for
    this.#applied.then(() => this.#peer.addIceCandidate(candidate)).catch((error) => {
      if (this.#timers.length > 0) this.#on.log(`A candidate was dropped: ${error.message}`);
    });
  }

  /** Close without a word to the owner; with a reason, say goodbye to the broadcaster. */
  close(reason) {
    this.#timers.splice(0).forEach(clearInterval);
    if (reason) this.#say({ type: "bye", reason });
    this.files?.close();
    if (this.#control !== null) this.#control.onclose = null;
    this.#control = null;
    this.#peer.onconnectionstatechange = this.#peer.onicecandidate = null;
    this.#peer.ondatachannel = this.#peer.ontrack = null;
    this.#peer.close();
  }

  /** The broadcaster's signaling ended; see at once whether it is there. */
  doubt() {
    if (!this.up) {
      this.#end("the broadcaster left");
      return;
    }
    if (document.hidden) return; // frames are not seen there, and timers are late
    const since = now() + ON_ITS_WAY;
    this.#ping();
    this.#timers.push(setTimeout(() => this.#heard < since && this.#end("the broadcaster left"), DOUBT_LIMIT));
  }

  /** A frame came to the screen. */
  sawFrame() {
    this.#heard = now();
  }

  /**
   * Keep a video in step with a sound, null where none is heard, and hold both back until faces are there that come `behind`
   * ms after their frames; to be called a few times a second.
   */
  keepInStep(video, sound, behind) {
    const [picture, voice] = [video, sound].map((track) => this.#peer.getReceivers().find((each) => each.track === track));
    if (picture && (voice || behind > 0)) this.#lips.keep(picture, voice ?? null, behind);
    else this.#lips.release();
  }

  async #answer() {
    const answer = await this.#peer.createAnswer();
    await this.#peer.setLocalDescription(answer);
    this.#on.answer(this.#peer.localDescription);
  }

  #changed() {
    const state = this.#peer.connectionState;
    if (state === "connected" && !this.up) {
      this.up = true;
      this.#heard = now();
      this.#on.up();
    } else if (state === "failed" || state === "closed") {
      this.#end(this.up ? "the connection failed" : "no way to reach the broadcaster was found");
    }
  }

  #track(track, receiver, mid) {
    hold(receiver, 0);
    this.#streams.add(mid, track);
    this.#on.streams();
  }

  #channel(channel) {
    channel.binaryType = "arraybuffer";
    if (channel.label === "control" && channel.protocol === "control/1") {
      if (this.#control !== null) return;
      this.#control = channel;
      channel.onopen = () => this.#ping();
      channel.onmessage = ({ data }) => this.#controlled(data);
      channel.onclose = () => this.#end("the broadcaster closed the connection");
      if (channel.readyState === "open") this.#ping();
    } else if (channel.label.startsWith(FOUND_OF)) {
      const name = channel.label.slice(FOUND_OF.length);
      this.#found.add(name);
      channel.onmessage = ({ data }) => this.#faces(data, (message) => this.#foundIn(name, message));
    } else if (channel.protocol === FILE) {
      if (!this.files?.adopt(channel)) channel.close();
    } else {
      const name = channel.label.startsWith(FACES_OF) ? channel.label.slice(FACES_OF.length) : null;
      if (name === null) this.#tells = true;
      channel.onmessage = ({ data }) => this.#faces(data, (message) => this.#on.faces(message, name));
    }
    this.#on.log(`Data channel “${channel.label}” is open${channel.protocol && `, protocol ${channel.protocol}`}`);
  }

  #faces(data, take) {
    this.#heard = now();
    let message;
    try {
      message = typeof data === "string" ? decodeJson(data) : decodeFaces(data);
    } catch (error) {
      if (!this.#undecodable) this.#on.log(`A faces message was dropped: ${error.message}`);
      this.#undecodable = true; // said once
      return;
    }
    take(message);
  }

  /** Take what another receiver found: its frame has another RTP timestamp there than here. */
  #foundIn(name, message) {
    if (message.captureTime === null || this.clockOffset === null) return;
    const captured = message.captureTime - this.clockOffset - performance.timeOrigin;
    this.#on.faces({ ...message, rtpTimestamp: null, captured }, name);
  }

  #controlled(data) {
    const received = now();
    this.#heard = received;
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message?.type === "ping") {
      this.#say({ type: "pong", t: message.t, time: now() });
      this.recorded = message.recording === true;
    }
    if (message?.type === "pong" && Number.isFinite(message.t) && Number.isFinite(message.time)) {
      this.#clock.add(message.t, received, message.time);
    } else if (message?.type === "report") this.#reports.set(message.stream ?? null, readReport(message));
    else if (message?.type === "streams") this.#listed(message);
    else if (message?.type === "offer") this.#offered(message);
    else if (message?.type === "bye") this.#end(`the broadcaster left: ${message.reason}`, true);
  }

  #listed(message) {
    const streams = readStreams(message);
    if (streams === null) return;
    this.#streams.list(streams);
    this.#on.streams();
  }

  /** Take a further offer, after the answer to the one before; of several that came meanwhile, the newest. */
  #offered({ number, sdp, streams }) {
    if (!Number.isInteger(number) || number <= this.#number || typeof sdp !== "string") return;
    this.#number = number;
    this.#answered = this.#answered.then(() => this.#answerAgain(number, sdp, streams));
  }

  async #answerAgain(number, sdp, streams) {
    if (number !== this.#number || this.#timers.length === 0) return;
    try {
      this.#listed({ streams });
      await this.#peer.setRemoteDescription({ type: "offer", sdp });
      await this.#peer.setLocalDescription(await this.#peer.createAnswer());
      this.#say({ type: "answer", number, sdp: this.#peer.localDescription.sdp });
    } catch (error) {
      this.#on.log(`An offer is not taken: ${error.message}`);
      this.#say({ type: "refusal", number, reason: String(error.message).slice(0, 500) });
    }
  }

  #ping() {
    this.#say({ type: "ping", t: now() });
  }

  #say(message) {
    if (this.#control?.readyState === "open") this.#control.send(JSON.stringify(message));
  }

  #watch() {
    const time = now();
    if (time - this.#looked > 4 * WATCH_INTERVAL) this.#heard = time; // we slept: what came meanwhile is not read yet
    this.#looked = time;
    if (!this.up && time - this.#started > CONNECT_LIMIT) {
      this.#end(`no connection within ${CONNECT_LIMIT / 1_000} s`);
    } else if (this.up && time - this.#heard > SILENCE_LIMIT) {
      this.#end(`nothing came for ${SILENCE_LIMIT / 1_000} s`);
    }
  }

  async #measure() {
    this.#ping();
    const stats = await this.#peer.getStats().catch(() => new Map()); // closed meanwhile
    const incoming = [...stats.values()].filter(({ type }) => type === "inbound-rtp");
    const before = this.#packets;
    this.#packets = incoming.reduce((sum, { packetsReceived = 0 }) => sum + packetsReceived, 0);
    // Where no frames are shown, packets tell that somebody is there: messages may wait behind a file.
    if ((document.hidden || this.videos.length === 0) && this.#packets > before) this.#heard = now();
    this.#measureVideo(incoming.find(({ kind }) => kind === "video"));
  }

  #measureVideo(video) {
    if (video === undefined) return;
    const { id, timestamp, bytesReceived } = video;
    const before = this.#video;
    this.#video = { id, bytes: bytesReceived, time: timestamp };
    if (before.id === id && timestamp > before.time) {
      this.bitrate = ((bytesReceived - before.bytes) * 8_000) / (timestamp - before.time);
    }
  }

  #end(reason, left = false) {
    if (this.#timers.length === 0) return; // closed already
    this.close();
    this.#on.end(reason, left);
  }
}

/**
 * What stays the same in all that one peer connection describes until it restarts ICE: the id of its session (`o=`,
 * RFC 8866 5.2) and its ICE ufrag (RFC 8839 5.4); where either is missing, the whole text.
 */
export function origin(sdp) {
  const found = [/^o=\S+ (\S+) /m, /^a=ice-ufrag:(\S+)/m].map((pattern) => pattern.exec(sdp)?.[1]);
  return found.includes(undefined) ? sdp : found.join(" ");
}

/** What people call the sender of an offer. */
export function displayName({ name, sourceSession }) {
  return shownName(name) || `Broadcaster …${sourceSession.slice(-4)}`;
}

/** Whether the sender of an offer wants to be told when it is let go. */
export function acceptsBye({ accept }) {
  return Array.isArray(accept?.control) && accept.control.includes("control/1");
}
