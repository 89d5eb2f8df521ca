// SHA-256 (FIPS 180-4) of what comes piece by piece: browsers hash only what is there as a whole, and on https alone.

const ROUNDS = new Uint32Array(64);
const INITIAL = new Uint32Array(8);
for (let candidate = 2, found = 0; found < 64; candidate += 1) {
  let prime = true;
  for (let by = 2; by * by <= candidate; by += 1) if (candidate % by === 0) prime = false;
  if (!prime) continue;
  const bits = (root) => ((root % 1) * 2 ** 32) | 0; // the first 32 of the fraction
  if (found < 8) INITIAL[found] = bits(Math.sqrt(candidate));
  ROUNDS[found] = bits(Math.cbrt(candidate));
  found += 1;
}

export class Sha256 {
  #state = INITIAL.slice();
  #words = new Uint32Array(64);
  #block = new Uint8Array(64); // that is not full yet
  #length = 0;

  /** Take bytes, a Uint8Array. */
  update(bytes) {
    let at = 0;
    let filled = this.#length % 64;
    this.#length += bytes.length;
    if (filled > 0) {
      at = Math.min(64 - filled, bytes.length);
      this.#block.set(bytes.subarray(0, at), filled);
      filled += at;
      if (filled < 64) return this;
      this.#compress(this.#block, 0);
    }
    for (; at + 64 <= bytes.length; at += 64) this.#compress(bytes, at);
    this.#block.set(bytes.subarray(at));
    return this;
  }

  /** The hash of all that was taken, in hexadecimal digits; more may follow. */
  get hex() {
    const end = new Sha256();
    end.#state.set(this.#state);
    end.#block.set(this.#block);
    end.#length = this.#length;
    const padding = new Uint8Array(((119 - (this.#length % 64)) % 64) + 9);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(this.#length / 2 ** 29));
    view.setUint32(padding.length - 4, this.#length << 3);
    end.update(padding);
    return [...end.#state].map((word) => word.toString(16).padStart(8, "0")).join("");
  }

  #compress(bytes, at) {
    const w = this.#words;
    for (let i = 0; i < 16; i += 1, at += 4) {
      w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
    }
    for (let i = 16; i < 64; i += 1) {
      const [a, b] = [w[i - 15], w[i - 2]];
      const low = ((a >>> 7) | (a << 25)) ^ ((a >>> 18) | (a << 14)) ^ (a >>> 3);
      const high = ((b >>> 17) | (b << 15)) ^ ((b >>> 19) | (b << 13)) ^ (b >>> 10);
      w[i] = w[i - 16] + low + w[i - 7] + high;
    }
    const s = this.#state;
    let [a, b, c, d, e, f, g, h] = s;
    for (let i = 0; i < 64; i += 1) {
      const up = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const one = (h + up + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
      const down = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const two = (down + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + one) | 0;
      d = c;
      c = b;
      b = a;
      a = (one + two) | 0;
    }
    s[0] += a;
    s[1] += b;
    s[2] += c;
    s[3] += d;
    s[4] += e;
    s[5] += f;
    s[6] += g;
    s[7] += h;
  }
}
