// When frames were captured, as near as their arrival tells: for browsers that do not say it.

import { rtpDifference, RTP_RATE } from "./pairing.js";

const WINDOW = 5_000; // ms over which the quickest frame is looked for
const SENDING = 12; // ms that the quickest frame takes until it is sent, about: to be encoded, and for its packets
const APART = 1_000; // ms by which timestamps and arrivals differ only where a sender starts its timestamps anew
const STEPS = 15; // frames, the middle one of whose intervals counts

export class Arrivals {
  #frames = []; // { rtpTimestamp, time, received }: `time` counts ms by timestamps alone

  /** Take a frame that was received at `received` (ms). */
  add(rtpTimestamp, received) {
    const last = this.#frames.at(-1);
    const frame = { rtpTimestamp, received, time: last === undefined ? 0 : last.time + passed(last, { rtpTimestamp }) };
    if (last !== undefined && Math.abs(early(frame) - early(last)) > APART) this.#frames = [];
    this.#frames.push(frame);
    while (received - this.#frames[0].received > WINDOW) this.#frames.shift();
  }

  /** Ms from frame to frame; null before it is known. */
  get interval() {
    const last = this.#frames.slice(-STEPS - 1);
    const steps = last.slice(1).map((frame, at) => passed(last[at], frame)).sort((a, b) => a - b);
    return steps[steps.length >> 1] ?? null;
  }

  /** When the last frame was captured, if its packets took `way` ms from the sender to us; null before that is known. */
  captured(way) {
    const { interval } = this;
    if (interval === null) return null;
    const quickest = Math.min(...this.#frames.map(early));
    return this.#frames.at(-1).time + quickest - way - Math.min(SENDING, interval / 2);
  }
}

const passed = (from, to) => (rtpDifference(to.rtpTimestamp, from.rtpTimestamp) * 1_000) / RTP_RATE; // ms
const early = ({ received, time }) => received - time;
