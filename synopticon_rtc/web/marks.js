// Which faces that came through Janus belong to which frame: docs/janus.md says what goes through it.

const VERSION = 1;
const REMEMBERED = 256; // frames and marks
const LENGTH = 64; // bytes of a frame that its fingerprint is made of

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The fingerprint of an encoded frame: the CRC-32 of its last bytes, from the last start code of H.264 among them on. */
export function fingerprint(buffer) {
  const bytes = new Uint8Array(buffer, Math.max(0, buffer.byteLength - LENGTH));
  let begin = 0;
  for (let at = bytes.length - 3; at >= 0 && begin === 0; at--) {
    if (bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 2] === 1) begin = at + 3;
  }
  let crc = 0xffffffff;
  for (let at = begin; at < bytes.length; at++) crc = (crc >>> 8) ^ CRC[(crc ^ bytes[at]) & 0xff];
  return (crc ^ 0xffffffff) >>> 0;
}

/** Read a binary message: the stream's name, the mark of a frame, and faces/1 if there are any; null for what is none. */
export function readMarked(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 2 || view.getUint8(0) !== VERSION) return null;
  const at = 2 + view.getUint8(1);
  if (buffer.byteLength < at + 8) return null;
  const name = new TextDecoder().decode(new Uint8Array(buffer, 2, at - 2));
  const faces = buffer.byteLength > at + 8 ? buffer.slice(at + 8) : null;
  return { name, timestamp: view.getUint32(at), mark: view.getUint32(at + 4), faces };
}

/** By how much Janus has moved the timestamps of a stream: known once two frames in a row say the same. */
export class Shift {
  #frames = new Map(); // timestamps by fingerprint; null where several frames have it
  #marks = new Map();
  #doubted = null; // another shift, and the fingerprint that told it

  /** What is to be added to the broadcaster's timestamps; null while it is not known. */
  value = null;

  /** A frame came. */
  frame(timestamp, mark) {
    this.#frames.set(mark, this.#frames.has(mark) ? null : timestamp);
    bound(this.#frames);
    this.#compare(mark);
  }

  /** The broadcaster says what timestamp it has given to a frame. */
  mark(timestamp, mark) {
    this.#marks.set(mark, timestamp);
    bound(this.#marks);
    this.#compare(mark);
  }

  #compare(mark) {
    const came = this.#frames.get(mark) ?? null;
    const sent = this.#marks.get(mark) ?? null;
    if (came === null || sent === null) return;
    const shift = (came - sent) >>> 0;
    if (shift === this.value) this.#doubted = null;
    else if (this.#doubted?.shift !== shift) this.#doubted = { shift, mark };
    else if (this.#doubted.mark !== mark) [this.value, this.#doubted] = [shift, null];
  }
}

function bound(kept) {
  while (kept.size > REMEMBERED) kept.delete(kept.keys().next().value);
}
