// Shows a track, and on each frame the faces that were found on it.

import { Pairing } from "./pairing.js";

const WINDOW = 1_000; // ms over which rates and delays are taken

export class Player {
  #video;
  #overlay;
  #clockOffset;
  #pairing = new Pairing();
  #screen = null; // the frame on screen: { rtpTimestamp, displayed, paired }
  #drawn = null; // the message whose faces are drawn
  #presented = []; // of the last two seconds: { time, count }
  #delays = []; // of the last second: { time, delay }

  /** Frames that came to the screen, and of these, the ones whose own faces were drawn on them. */
  frames = 0;
  paired = 0;

  /**
   * @param {HTMLVideoElement} video
   * @param {Overlay} overlay
   * @param {object} on `clockOffset()` (how far the sender's clock is ahead, ms or null), `frame()`
   */
  constructor(video, overlay, on) {
    this.#video = video;
    this.#overlay = overlay;
    this.#clockOffset = on.clockOffset;
    const present = (time, metadata) => {
      video.requestVideoFrameCallback(present);
      this.#present(metadata);
      on.frame();
    };
    video.requestVideoFrameCallback(present);
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

  /** From capture to display in ms, the median of the last second; null where a clock or capture time is unknown. */
  get delay() {
    const delays = recent(this.#delays, WINDOW).map(({ delay }) => delay);
    return delays.length === 0 ? null : delays.sort((a, b) => a - b)[delays.length >> 1];
  }

  /** Whether a frame of the track was shown yet. */
  get picture() {
    return this.#screen !== null;
  }

  /** Whether the picture still changes. */
  get moving() {
    return recent(this.#presented, 2 * WINDOW).length > 0;
  }

  /** Show another track; resolves when it plays. */
  play(track) {
    this.#reset();
    this.#video.srcObject = new MediaStream([track]);
    return this.#video.play();
  }

  /** Show nothing. */
  stop() {
    this.#reset();
    this.#video.srcObject = null;
  }

  /** Take a faces message. */
  take(message) {
    if (!message.detected) return; // nothing was looked for: the faces of the nearest frame stay
    this.#pairing.add(message, performance.now());
    this.#match();
  }

  #reset() {
    this.#pairing = new Pairing();
    this.#screen = this.#drawn = null;
    this.#presented = [];
    this.#delays = [];
    this.#overlay.draw([]);
  }

  #present({ rtpTimestamp, expectedDisplayTime, presentedFrames }) {
    this.frames += 1;
    this.#screen = { rtpTimestamp, displayed: performance.timeOrigin + expectedDisplayTime, paired: false };
    this.#presented = [...recent(this.#presented, 2 * WINDOW), { time: performance.now(), count: presentedFrames }];
    this.#match();
  }

  /** Draw what belongs to the frame on screen: when it comes, and when its faces come after it. */
  #match() {
    if (this.#screen === null) return;
    const { message, exact } = this.#pairing.pick(this.#screen.rtpTimestamp, performance.now());
    if (exact && !this.#screen.paired) {
      this.#screen.paired = true;
      this.paired += 1;
      this.#measure(message);
    }
    if (message === this.#drawn) return;
    this.#drawn = message;
    this.#overlay.draw(message?.faces ?? []);
  }

  #measure({ captureTime }) {
    const offset = this.#clockOffset();
    if (captureTime === null || offset === null) return;
    const delay = this.#screen.displayed + offset - captureTime;
    this.#delays = [...recent(this.#delays, WINDOW), { time: performance.now(), delay }];
  }
}

function recent(samples, span) {
  const start = performance.now() - span;
  return samples.filter(({ time }) => time >= start);
}
