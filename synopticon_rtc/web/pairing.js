// Which faces belong to the frame on screen.

const KEPT = 2_000; // ms that a message may wait for its frame
const MOST = 256; // messages that may
const STALE = 250; // ms after which faces of another frame are worse than none
const NEAR = 12; // ms by which the timestamp of a message may be off that was reckoned from when its frame was captured
const TRUST = 1_000; // ms after the last exact pair within which timestamps are known to agree
const BACK = 500; // ms that timestamps go back only where a sender starts them anew
const AHEAD = 10_000; // ms that they go ahead of time only there
export const RTP_RATE = 90_000; // ticks of a video timestamp in a second (RFC 3551 section 5)

/** a - b for RTP timestamps, which wrap at 2^32. */
export const rtpDifference = (a, b) => (a - b) | 0;

const ahead = (a, b) => (rtpDifference(a, b) * 1_000) / RTP_RATE; // ms
const distance = (a, b) => Math.abs(ahead(a, b));

export class Pairing {
  #messages = new Map(); // by RTP timestamp: { message, arrived }, in the order of arrival
  #newest = null; // { message, arrived }
  #frame = null; // the last one: { rtpTimestamp, time }
  #agreed = -Infinity;

  /** Keep a faces message that arrived at `time` (ms). */
  add(message, time) {
    const kept = { message, arrived: time };
    const { rtpTimestamp } = message;
    if (this.#isNewest(rtpTimestamp, time)) this.#newest = kept;
    if (rtpTimestamp !== null && !this.#messages.has(rtpTimestamp)) this.#messages.set(rtpTimestamp, kept);
    for (const [timestamp, { arrived }] of this.#messages) {
      if (time - arrived <= KEPT && this.#messages.size <= MOST) break;
      this.#messages.delete(timestamp);
    }
  }

  /**
   * The message to draw at `time` on the frame of that RTP timestamp (undefined where the browser has none), and
   * whether it is that frame's own. Where it is not: the nearest frame's while timestamps agree, else the newest, and
   * none that is stale. A message with `near` may be off by so many ms, as its place is only guessed, and never is exact.
   */
  pick(rtpTimestamp, time) {
    if (rtpTimestamp !== undefined) this.#follow(rtpTimestamp, time);
    const reckoned = ({ captured, near }, away) => captured !== undefined && away <= (near ?? NEAR);
    const own = this.#messages.get(rtpTimestamp)?.message ?? this.#nearest(rtpTimestamp, STALE, reckoned);
    if (own !== null) {
      this.#agreed = time;
      return { message: own, exact: own.near === undefined };
    }
    const message = time - this.#agreed < TRUST ? this.#nearest(rtpTimestamp, STALE) : this.#fresh(time);
    return { message, exact: false };
  }

  /** Whether faces are of a later frame than the newest, or of a new start: those are nearer to the last frame. */
  #isNewest(rtpTimestamp, time) {
    const newest = this.#newest?.message.rtpTimestamp ?? null;
    if (rtpTimestamp === null || newest === null) return true;
    const step = ahead(rtpTimestamp, newest);
    if (this.#frame === null) return step > 0 || step < -BACK;
    const nearer = distance(newest, this.#frame.rtpTimestamp) - distance(rtpTimestamp, this.#frame.rtpTimestamp);
    if (Math.abs(nearer) <= BACK) return step > 0;
    return nearer > 0 || time - this.#newest.arrived > BACK; // it is not only one that comes very late
  }

  /** Take note of a frame, and where its timestamps start anew forget what belongs to those of before. */
  #follow(rtpTimestamp, time) {
    if (this.#frame !== null) {
      const step = ahead(rtpTimestamp, this.#frame.rtpTimestamp);
      if (step < -BACK || step > time - this.#frame.time + AHEAD) this.#startAnew(rtpTimestamp, time);
    }
    this.#frame = { rtpTimestamp, time };
  }

  #startAnew(rtpTimestamp, time) {
    const isOf = (timestamp, arrived) => time - arrived <= STALE && distance(timestamp, rtpTimestamp) <= STALE;
    for (const [timestamp, { arrived }] of this.#messages) {
      if (!isOf(timestamp, arrived)) this.#messages.delete(timestamp);
    }
    const newest = this.#newest?.message.rtpTimestamp ?? null;
    if (newest !== null && !isOf(newest, this.#newest.arrived)) this.#newest = null;
  }

  /** The message whose timestamp is nearest, of those that are meant and no further away; null where there is none. */
  #nearest(rtpTimestamp, most, isMeant = () => true) {
    let nearest = null;
    let least = most;
    for (const [timestamp, { message }] of this.#messages) {
      const away = distance(timestamp, rtpTimestamp);
      if (away <= least && isMeant(message, away)) {
        nearest = message;
        least = away;
      }
    }
    return nearest;
  }

  #fresh(time) {
    return this.#newest !== null && time - this.#newest.arrived <= STALE ? this.#newest.message : null;
  }
}
