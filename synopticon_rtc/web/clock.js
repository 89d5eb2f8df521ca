// The offset between two clocks, from pings and pongs (NTP's way, RFC 5905 section 8).

const KEPT = 10;

/** This page's clock, ms since the epoch; it never jumps. */
export const now = () => performance.timeOrigin + performance.now();

export class ClockOffset {
  #samples = [];

  /** Take one exchange: when the ping left and the pong came by our clock, and the other's clock in between, in ms. */
  add(sent, received, remote) {
    this.#samples.push({ roundTrip: received - sent, offset: remote - (sent + received) / 2 });
    if (this.#samples.length > KEPT) this.#samples.shift();
  }

  /** Ms that a message takes one way, half of the quickest of the recent exchanges; null before the first. */
  get way() {
    if (this.#samples.length === 0) return null;
    return Math.min(...this.#samples.map(({ roundTrip }) => roundTrip)) / 2;
  }

  /** How far the other's clock is ahead of ours in ms, by the quickest of the recent exchanges; null before the first. */
  get value() {
    if (this.#samples.length === 0) return null;
    return this.#samples.reduce((best, sample) => (sample.roundTrip < best.roundTrip ? sample : best)).offset;
  }
}
