// Which faces belong to the frame on screen.

const KEPT = 2_000; // ms that a message may wait for its frame
const STALE = 250; // ms after which faces of another frame are worse than none
const TRUST = 1_000; // ms after the last exact pair within which timestamps are known to agree
export const RTP_RATE = 90_000; // ticks of a video timestamp in a second (RFC 3551 section 5)

/** a - b for RTP timestamps, which wrap at 2^32. */
export const rtpDifference = (a, b) => (a - b) | 0;

export class Pairing {
  #messages = new Map(); // by RTP timestamp: { message, arrived }, in the order of arrival
  #newest = null; // { message, arrived }
  #agreed = -Infinity;

  /** Keep a faces message that arrived at `time` (ms). */
  add(message, time) {
    this.#newest = { message, arrived: time };
    if (message.rtpTimestamp !== null) this.#messages.set(message.rtpTimestamp, this.#newest);
    for (const [timestamp, { arrived }] of this.#messages) {
      if (time - arrived <= KEPT) break;
      this.#messages.delete(timestamp);
    }
  }

  /**
   * The message to draw at `time` on the frame of that RTP timestamp (undefined where the browser has none), and
   * whether it is that frame's own. Where it is not: the nearest frame's while timestamps agree, else the newest, and
   * none that is stale.
   */
  pick(rtpTimestamp, time) {
    const own = this.#messages.get(rtpTimestamp);
    if (own !== undefined) {
      this.#agreed = time;
      return { message: own.message, exact: true };
    }
    const message = time - this.#agreed < TRUST ? this.#nearest(rtpTimestamp) : this.#fresh(time);
    return { message, exact: false };
  }

  #nearest(rtpTimestamp) {
    let nearest = null;
    let least = (STALE / 1_000) * RTP_RATE;
    for (const [timestamp, { message }] of this.#messages) {
      const distance = Math.abs(rtpDifference(timestamp, rtpTimestamp));
      if (distance <= least) {
        nearest = message;
        least = distance;
      }
    }
    return nearest;
  }

  #fresh(time) {
    return this.#newest !== null && time - this.#newest.arrived <= STALE ? this.#newest.message : null;
  }
}
