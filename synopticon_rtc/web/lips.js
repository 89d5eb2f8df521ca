// Keeps the picture in step with the sound. Browsers do so by themselves, but slowly, and let them be 30 ms apart.
// And holds both back where faces come later than their frames.

const MOST = 500; // ms by which the picture is held back; what is more is left to the browser
const PART = 1 / 4; // of what they are apart is made up for each time, as it takes a while to show

export class Lips {
  #picture = null; // the receiver of the picture that is held back
  #sound = null; // that of the sound; null where none is heard
  #held = 0; // ms

  /**
   * Hold back the picture of a receiver until the sound of another one, null for none, and both for `least` ms; to be called
   * a few times a second.
   */
  async keep(picture, sound, least) {
    if (picture !== this.#picture || sound !== this.#sound) this.release();
    [this.#picture, this.#sound] = [picture, sound];
    this.#held = Math.max(least, sound === null ? 0 : this.#held);
    hold(picture, this.#held);
    if (sound === null) return;
    hold(sound, least);
    const [shown, heard] = await Promise.all([picture, sound].map(played));
    if (shown === null || heard === null || picture !== this.#picture || sound !== this.#sound) return;
    this.#held = Math.max(least, Math.min(this.#held + (shown - heard) * PART, MOST));
    hold(picture, this.#held);
  }

  /** Play both as soon as they are there. */
  release() {
    for (const held of [this.#picture, this.#sound]) if (held !== null) hold(held, 0);
    this.#picture = this.#sound = null;
    this.#held = 0;
  }
}

/** Have a receiver give out what comes no sooner than some time after that, ms. */
export function hold(receiver, delay) {
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = delay;
  else if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = delay / 1_000;
}

/** When what is played now was captured, less the time now, ms; null where the browser does not tell. */
async function played(receiver) {
  const stats = await receiver.getStats().catch(() => new Map()); // closed meanwhile
  for (const { type, timestamp, estimatedPlayoutTimestamp: captured } of stats.values()) {
    if (type === "inbound-rtp" && captured) return captured - timestamp;
  }
  return null;
}
