// Where the time between capture and display goes (docs/delay.md).

import { rtpDifference, RTP_RATE } from "./pairing.js";

const WINDOW = 1_000; // ms over which means are taken
const LATEST = 1e15; // of a capture time, in ms since the epoch
const LONGEST = 60_000; // ms: no part of a delay takes longer

/**
 * What a broadcaster says of its part, or null where a message is no such report.
 *
 * @returns {?{rtpTimestamp: number, captured: number, capture: ?number, encoding: ?number, detection: ?number}}
 *   the capture time of the frame with that RTP timestamp, in ms since the epoch by the broadcaster's clock, and in ms
 *   what frames take of late; null where it does not know
 */
export function readReport({ rtpTimestamp, captured, capture, encoding, detection }) {
  if (!Number.isInteger(rtpTimestamp) || rtpTimestamp < 0 || rtpTimestamp >= 2 ** 32) return null;
  if (typeof captured !== "number" || !(Math.abs(captured) <= LATEST)) return null;
  const part = (value) => (typeof value === "number" && value >= 0 && value <= LONGEST ? value : null);
  return { rtpTimestamp, captured, capture: part(capture), encoding: part(encoding), detection: part(detection) };
}

/** When a frame was captured, in ms since the epoch by the broadcaster's clock. */
export function captureTime(report, rtpTimestamp) {
  return report.captured + (rtpDifference(rtpTimestamp, report.rtpTimestamp) * 1_000) / RTP_RATE;
}

export class Delays {
  #samples = [];

  /**
   * Take a frame that came to the screen: ms from its capture to its arrival, in the decoder, and from its arrival to
   * the screen; NaN where the browser or the broadcaster does not tell.
   */
  add({ transit, decoding, local }, time) {
    this.#samples = [...this.#samples.filter((sample) => time - sample.time < WINDOW), { transit, decoding, local, time }];
  }

  /** From capture to display in ms, the mean of the last second; null where it is not known. */
  total(time) {
    return this.#mean(time, ({ transit, local }) => transit + local);
  }

  /** The same in parts, of which `detection` runs beside the others, with what the broadcaster reports (or null). */
  parts(report, time) {
    const { capture = null, encoding = null, detection = null } = report ?? {};
    const transit = this.#mean(time, (sample) => sample.transit);
    const known = transit !== null && capture !== null && encoding !== null;
    return {
      capture,
      encoding,
      network: known ? Math.max(0, transit - capture - encoding) : null, // clocks are aligned to half a round trip
      decoding: this.#mean(time, ({ decoding }) => decoding),
      waiting: this.#mean(time, ({ local, decoding }) => local - decoding),
      detection,
    };
  }

  #mean(time, value) {
    const values = this.#samples.filter((sample) => time - sample.time < WINDOW).map(value).filter(Number.isFinite);
    return values.length === 0 ? null : values.reduce((sum, each) => sum + each) / values.length;
  }
}
