// Who speaks, by how loud everybody is.

const LOUD = 0.012; // root mean square of samples of -1 to 1 from which on somebody speaks, about -38 dB
const STILL = 0.006; // below which somebody who spoke is silent
const SURE = 2; // times in a row that it has to be loud: a click is no speech
const PAUSE = 700; // ms between words that are no end of speech

/** Tells from the loudness of a sound whether somebody speaks. */
export class Voice {
  #times = 0;
  #last = -Infinity;

  /** Whether somebody speaks. */
  speaks = false;

  /** Take how loud it is now, null where that is not known; `now` in ms. */
  add(level, now) {
    this.#times = level !== null && level >= (this.speaks ? STILL : LOUD) ? this.#times + 1 : 0;
    if (this.speaks ? this.#times > 0 : this.#times >= SURE) this.#last = now;
    this.speaks = now - this.#last < PAUSE;
  }
}

/** Measures how loud tracks are. A browser lets it begin only once somebody has clicked or pressed a key. */
export class Levels {
  #context = null;
  #meters = new Map(); // by track: { source, analyser }
  #samples = new Float32Array(1_024);

  /** How loud a track is, null where that cannot be told. */
  of(track) {
    if (this.#context === null && navigator.userActivation?.hasBeenActive !== false) this.#context = new AudioContext();
    if (this.#context?.state !== "running") return null;
    if (!this.#meters.has(track)) this.#meters.set(track, this.#meter(track));
    this.#meters.get(track).analyser.getFloatTimeDomainData(this.#samples);
    return Math.sqrt(this.#samples.reduce((sum, sample) => sum + sample * sample, 0) / this.#samples.length);
  }

  /** Measure no other tracks than these any more. */
  keep(tracks) {
    for (const [track, { source }] of this.#meters) {
      if (tracks.includes(track)) continue;
      source.disconnect();
      this.#meters.delete(track);
    }
  }

  #meter(track) {
    const analyser = new AnalyserNode(this.#context, { fftSize: this.#samples.length });
    const source = this.#context.createMediaStreamSource(new MediaStream([track]));
    source.connect(analyser);
    return { source, analyser };
  }
}
