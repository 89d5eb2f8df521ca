// Shows a track, and on each frame the faces that were found on it.

import { Arrivals } from "./arrivals.js";
import { captureTime as captureTimeOf, Delays } from "./delays.js";
import { Pairing, RTP_RATE } from "./pairing.js";

const WINDOW = 1_000; // ms over which rates and delays are taken
const WAITED = 250; // ms that a frame is to wait for its faces at most

export class Player {
  #video;
  #overlay;
  #sender;
  #pairing = new Pairing();
  #screen = null; // what the page was told of the last frame
  #pairedWith = null; // the timestamp of the last frame whose own faces were drawn
  #drawn = null; // the message whose faces are drawn
  #presented = []; // of the last two seconds: { time, count }
  #delays = new Delays();
  #arrivals = new Arrivals();
  #looked = -Infinity; // when the last message came of a frame in which faces were looked for
  #behind = []; // by how many ms messages of late came after their frames, where another receiver found them: { time, late }

  /** Frames that came to the screen, and of these, the ones whose own faces were drawn on them. */
  frames = 0;
  paired = 0;

  /**
   * @param {HTMLVideoElement} video
   * @param {Overlay} overlay
   * @param {object} on `sender()` (`clockOffset`, how far its clock is ahead in ms, `way`, how many ms a message takes from
   *   there, and `report`, what it says of its part in the delay; null where unknown), `frame()`
   */
  constructor(video, overlay, on) {
    this.#video = video;
    this.#overlay = overlay;
    this.#sender = on.sender;
    eachFrame(video, (metadata) => {
      this.#present(metadata);
      on.frame();
    });
  }

  /** Number of faces drawn now. */
  get faces() {
    return this.#drawn?.faces.length ?? 0;
  }

  /** Frames that come to the screen in a second. */
  get fps() {
    const samples = recent(this.#presented, WINDOW);
    if (samples.length < 2) return 0;
    const [first, last] = [samples[0], samples.at(-1)];
    return ((last.count - first.count) * 1_000) / (last.time - first.time);
  }

  /** From capture to display in ms, the mean of the last second; null where a clock or capture time is unknown. */
  get delay() {
    return this.#delays.total(performance.now());
  }

  /** The parts of it. */
  get delays() {
    return this.#delays.parts(this.#sender().report, performance.now());
  }

  /** Whether faces are looked for in what is shown. */
  get looked() {
    return performance.now() - this.#looked < 2 * WINDOW;
  }

  /** By how many ms the latest faces come after their frames where another receiver finds them; 0 where none does. */
  get behind() {
    return Math.max(0, ...recent(this.#behind, 2 * WINDOW).map(({ late }) => late));
  }

  /** Whether a frame of the track was shown yet. */
  get picture() {
    return this.#screen !== null;
  }

  /** Whether the picture still changes. */
  get moving() {
    return recent(this.#presented, 2 * WINDOW).length > 0;
  }

  /** Show a track, and play a sound in step with it, null where there is none; resolves when it plays. */
  play(track, sound) {
    const tracks = [track, sound].filter((each) => each !== null);
    const playing = this.#video.srcObject?.getTracks() ?? [];
    if (playing.length === tracks.length && tracks.every((each) => playing.includes(each))) return Promise.resolve();
    if (track === null || !playing.includes(track)) this.#reset();
    this.#video.srcObject = new MediaStream(tracks);
    return this.#video.play();
  }

  /** Show nothing. */
  stop() {
    this.#reset();
    this.#video.srcObject = null;
  }

  /** Take a faces message; one with `captured` is of the frame that was captured then, by performance.now(). */
  take(message) {
    if (!message.detected) return; // nothing was looked for: the faces of the nearest frame stay
    this.#looked = performance.now();
    this.#pairing.add(message.captured === undefined ? message : this.#placed(message), performance.now());
    this.#match();
  }

  /** Give a message the RTP timestamp that its frame has here, by when frames were captured. */
  #placed(message) {
    const { rtpTimestamp, receiveTime, captureTime = this.#reckoned } = this.#screen ?? {};
    if (rtpTimestamp === undefined || captureTime === null) return message;
    const near = this.#screen.captureTime === undefined ? this.#arrivals.interval / 2 : undefined;
    const late = performance.now() - message.captured - (receiveTime - captureTime);
    this.#behind = recent(this.#behind, 2 * WINDOW);
    if (late <= WAITED) this.#behind.push({ time: performance.now(), late });
    const ticks = Math.round(((message.captured - captureTime) * RTP_RATE) / 1_000);
    return { ...message, rtpTimestamp: (rtpTimestamp + ticks) >>> 0, near };
  }

  /** When the frame on screen was captured, where the browser does not tell; null where it cannot be reckoned either. */
  get #reckoned() {
    const { way } = this.#sender();
    return way === null ? null : this.#arrivals.captured(way);
  }

  #reset() {
    this.#pairing = new Pairing();
    this.#screen = this.#drawn = this.#pairedWith = null;
    this.#presented = [];
    this.#looked = -Infinity;
    this.#behind = [];
    this.#arrivals = new Arrivals();
    this.#delays = new Delays();
    this.#overlay.draw([]);
  }

  #present(metadata) {
    const { rtpTimestamp, presentedFrames, receiveTime } = metadata;
    this.frames += 1;
    this.#screen = metadata;
    if (rtpTimestamp !== undefined && receiveTime !== undefined) this.#arrivals.add(rtpTimestamp, receiveTime);
    this.#measure(metadata);
    this.#presented = [...recent(this.#presented, 2 * WINDOW), { time: performance.now(), count: presentedFrames }];
    this.#match();
  }

  /** Draw what belongs to the frame on screen: when it comes, and when its faces come after it. */
  #match() {
    if (this.#screen === null) return;
    const rtpTimestamp = shown(this.#video) ?? this.#screen.rtpTimestamp;
    const { message, exact } = this.#pairing.pick(rtpTimestamp, performance.now());
    if (exact && rtpTimestamp !== this.#pairedWith) {
      this.#pairedWith = rtpTimestamp;
      this.paired += 1;
    }
    if (message === this.#drawn) return;
    this.#drawn = message;
    this.#overlay.draw(message?.faces ?? []);
  }

  #measure({ rtpTimestamp, captureTime, receiveTime, processingDuration, expectedDisplayTime }) {
    const { clockOffset, report } = this.#sender();
    const known = report !== null && clockOffset !== null && rtpTimestamp !== undefined;
    const told = captureTime ?? NaN; // as the browser takes it from sender reports: a page that broadcasts writes no others
    const captured = known ? captureTimeOf(report, rtpTimestamp) - clockOffset - performance.timeOrigin : told;
    const sample = {
      transit: receiveTime - captured,
      decoding: processingDuration * 1_000,
      local: expectedDisplayTime - receiveTime,
    };
    this.#delays.add(sample, performance.now());
  }
}

/** Call back with each new frame; browsers that cannot tell of frames are asked at each repaint whether one came. */
function eachFrame(video, present) {
  if ("requestVideoFrameCallback" in video) {
    const next = (time, metadata) => {
      video.requestVideoFrameCallback(next);
      present(metadata);
    };
    video.requestVideoFrameCallback(next);
    return;
  }
  let frames = 0;
  const look = (time) => {
    requestAnimationFrame(look);
    const { totalVideoFrames } = video.getVideoPlaybackQuality();
    if (totalVideoFrames > frames) present({ expectedDisplayTime: time, presentedFrames: totalVideoFrames });
    frames = totalVideoFrames;
  };
  requestAnimationFrame(look);
}

/**
 * The RTP timestamp of the frame that a video shows, null where the browser does not say. Where frames come in bursts it
 * is ahead of the one that requestVideoFrameCallback tells of, by a frame.
 */
function shown(video) {
  try {
    const frame = new VideoFrame(video);
    const { rtpTimestamp } = frame.metadata?.() ?? {};
    frame.close();
    return rtpTimestamp ?? null;
  } catch {
    return null; // no VideoFrame here, or no picture yet
  }
}

function recent(samples, span) {
  const start = performance.now() - span;
  return samples.filter(({ time }) => time >= start);
}
