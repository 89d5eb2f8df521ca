// Reads faces messages: the binary format faces/1 (docs/faces-1.md) and the JSON of other broadcasters.

import table from "./basis.js";

const MAX_FACES = 32;
const MAX_LENGTH = 1 << 21; // longer messages are refused unread
const POINTS = 478;
const POINTS_WITHOUT_IRISES = 468;
const FARTHEST = 8; // of a landmark, in frames
const LATEST = 1e15; // of a capture time, in ms since the epoch

const MAGIC = 0xfa;
const VERSION = 1;
const HAS_TIMESTAMP = 1;
const HAS_CAPTURE_TIME = 2;
const NOT_DETECTED = 4;
const NO_IRISES = 1;
const HAS_BLENDSHAPES = 2;
const HAS_MATRIX = 4;
const ABSENT = 255;

const POSE = 5;
const COEFFICIENTS = 96;
const MODELLED = POSE + COEFFICIENTS;
const BLOCK = 16;
const PRECISE_ROWS = 17; // of the table, of 16 bits; the others have 8
const POSE_STEP = 0.5;
const COEFFICIENT_STEP = 2;
const XY_STEP = 1.4;
const Z_STEP = 1.96;

/** MediaPipe's names, in MediaPipe's order. */
export const BLENDSHAPES = `
  _neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
  cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
  eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft
  eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft
  mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight
  mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft
  mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft
  noseSneerRight
`.trim()
  .split(/\s+/);

/**
 * Read a message in faces/1.
 *
 * @param {ArrayBuffer} buffer
 * @returns {{rtpTimestamp: ?number, captureTime: ?number, width: number, height: number, faces: Array<{
 *   id: number, landmarks: Float32Array, blendshapes: ?Object<string, number>, matrix: ?Float32Array}>,
 *   detected: boolean}} captureTime in ms since the epoch on the sender's clock; width and height of the frame in
 *   pixels, 0 where unknown; the id of a face the same from frame to frame, 0 where unknown; landmarks x, y, z,
 *   x, y, z ... (478 or 468 of them); the matrix row by row.
 *   Where `detected` is false no faces were looked for in this frame.
 * @throws {Error} on anything else
 */
export function decodeFaces(buffer) {
  if (buffer.byteLength > MAX_LENGTH) throw new Error(`A faces message of ${buffer.byteLength} bytes is too long`);
  const reader = new Reader(buffer);
  if (reader.u8() !== MAGIC) throw new Error("The bytes are no faces/1 message: they do not begin with 0xFA");
  const version = reader.u8();
  const flags = reader.u8();
  if (version !== VERSION || flags & ~(HAS_TIMESTAMP | HAS_CAPTURE_TIME | NOT_DETECTED)) {
    throw new Error(`The faces message is of a newer format than faces/1 (version ${version}, flags ${flags})`);
  }
  const detected = !(flags & NOT_DETECTED);
  const count = reader.u8();
  if (count > 0 && !detected) throw new Error("The faces message has faces, and says that none were looked for");
  if (count > MAX_FACES) throw new Error(`The faces message claims ${count} faces, more than ${MAX_FACES}`);
  const width = reader.u16();
  const height = reader.u16();
  const rtpTimestamp = flags & HAS_TIMESTAMP ? reader.u32() : null;
  const captureTime = flags & HAS_CAPTURE_TIME ? reader.f64() * 1000 : null;
  if (captureTime !== null && !(Math.abs(captureTime) <= LATEST)) {
    throw new Error(`A capture time of ${captureTime} ms is no time`);
  }
  const known = width > 0 && height > 0;
  const faces = Array.from({ length: count }, () => decodeFace(reader, known ? width : 1280, known ? height : 720));
  if (reader.left > 0) throw new Error(`The faces message goes on for ${reader.left} bytes after its last face`);
  return { rtpTimestamp, captureTime, width, height, faces, detected };
}

/**
 * Read a message as other broadcasters write it, in JSON: `landmarks` must be there, all else may be missing.
 *
 * @param {string} text
 * @returns as decodeFaces
 * @throws {Error} on anything else
 */
export function decodeJson(text) {
  if (text.length > MAX_LENGTH) throw new Error(`A faces message of ${text.length} characters is too long`);
  const message = JSON.parse(text);
  if (!Array.isArray(message?.landmarks)) throw new Error("The text is no faces message: it has no landmarks");
  if (message.landmarks.length > MAX_FACES) throw new Error(`The faces message holds more than ${MAX_FACES} faces`);
  const { timestamp, videoWidth, videoHeight, rtpTimestamp } = message;
  return {
    rtpTimestamp: whole(rtpTimestamp, 32),
    captureTime: number(timestamp),
    width: whole(videoWidth, 16) ?? 0,
    height: whole(videoHeight, 16) ?? 0,
    faces: message.landmarks.map((points) => ({ id: 0, landmarks: flat(points), blendshapes: null, matrix: null })),
    detected: true,
  };
}

const number = (value) => (typeof value === "number" && Math.abs(value) <= LATEST ? value : null);
const whole = (value, bits) => (Number.isInteger(value) && value >= 0 && value < 2 ** bits ? value : null);

function flat(points) {
  if (!Array.isArray(points) || (points.length !== POINTS && points.length !== POINTS_WITHOUT_IRISES)) {
    throw new Error(`A face has not ${POINTS} or ${POINTS_WITHOUT_IRISES} landmarks`);
  }
  const landmarks = points.flatMap((point) => [point?.x, point?.y, point?.z === undefined ? 0 : point.z]);
  if (!landmarks.every((value) => typeof value === "number" && Math.abs(value) <= FARTHEST)) {
    throw new Error(`A landmark is no number, or more than ${FARTHEST} frames away`);
  }
  return Float32Array.from(landmarks);
}

function decodeFace(reader, width, height) {
  const flags = reader.u8();
  if (flags & ~(NO_IRISES | HAS_BLENDSHAPES | HAS_MATRIX)) {
    throw new Error(`A face is of a newer format than faces/1 (flags ${flags})`);
  }
  const points = flags & NO_IRISES ? POINTS_WITHOUT_IRISES : POINTS;
  const id = reader.u16();
  const tolerance = reader.u16() / 256;
  const inXY = reader.u16();
  const inZ = reader.u16();
  if (!tolerance || inXY > 2 * points || inZ > points) {
    throw new Error("A face has no tolerance, or more residuals than landmarks");
  }
  const length = reader.u16();
  const orders = Array.from(reader.bytes(6)).flatMap((byte) => [byte & 15, byte >> 4]);
  const lengths = [POSE, ...Array(COEFFICIENTS / BLOCK).fill(BLOCK), inXY, inZ, inXY, inZ];
  const symbols = decodeSymbols(reader.bytes(length), orders, lengths);

  // Lengths in tolerances.
  const [real, imaginary, left, top, depth] = symbols.subarray(0, POSE).map((u) => unfold(u) * POSE_STEP);
  const coefficients = symbols.subarray(POSE, MODELLED).map((u) => unfold(u) * COEFFICIENT_STEP);
  const size = Math.hypot(real, imaginary);
  const cosine = size ? real / size : 1;
  const sine = size ? imaginary / size : 0;
  const { mean, basis } = points === POINTS ? model : modelWithoutIrises;
  const place = combined(mean, size, basis, coefficients);
  const zStep = Z_STEP * Math.max(1, 0.5 / tolerance);
  for (let i = 0, at = -1; i < inXY + inZ; i++) {
    at += symbols[MODELLED + inXY + inZ + i] + 1;
    if (at >= (i < inXY ? 2 : 3) * points) {
      throw new Error("A face of the faces message has a residual for a landmark that it has not");
    }
    place[at] += unfold(symbols[MODELLED + i] + 1) * (at < 2 * points ? XY_STEP : zStep);
  }

  const landmarks = new Float32Array(points * 3);
  for (let i = 0; i < points; i++) {
    const x = place[i];
    const y = place[points + i];
    landmarks[3 * i] = ((x * cosine - y * sine + left) * tolerance) / width;
    landmarks[3 * i + 1] = ((x * sine + y * cosine + top) * tolerance) / height;
    landmarks[3 * i + 2] = ((place[2 * points + i] + depth) * tolerance) / width;
  }
  return {
    id,
    landmarks,
    blendshapes: flags & HAS_BLENDSHAPES ? decodeBlendshapes(reader.bytes(BLENDSHAPES.length)) : null,
    matrix: flags & HAS_MATRIX ? decodeMatrix(reader) : null,
  };
}

/** The mean at its size and the components, in sums of four: the additions of one sum would wait for each other. */
function combined(mean, size, basis, coefficients) {
  const place = new Float32Array(mean.length);
  for (let i = 0, at = 0; i < place.length; i++) {
    let a = mean[i] * size;
    let b = 0;
    let c = 0;
    let d = 0;
    for (let k = 0; k < COEFFICIENTS; k += 4, at += 4) {
      a += coefficients[k] * basis[at];
      b += coefficients[k + 1] * basis[at + 1];
      c += coefficients[k + 2] * basis[at + 2];
      d += coefficients[k + 3] * basis[at + 3];
    }
    place[i] = a + b + c + d;
  }
  return place;
}

/** Rice codes: the unary parts of all symbols, then the binary parts of all, most significant bit first. */
function decodeSymbols(bytes, orders, lengths) {
  const symbols = new Float64Array(lengths.reduce((sum, length) => sum + length));
  const end = bytes.length * 8;
  const isSet = (bit) => (bytes[bit >> 3] >> (7 - (bit & 7))) & 1;
  let bit = 0;
  for (let i = 0; i < symbols.length; i++) {
    const start = bit;
    while (bit < end && !isSet(bit)) bit++;
    symbols[i] = bit++ - start;
  }
  let i = 0;
  lengths.forEach((length, block) => {
    const order = orders[block];
    for (const stop = i + length; i < stop; i++) {
      let value = 0;
      for (const next = bit + order; bit < next; bit++) value = (value << 1) | isSet(bit);
      symbols[i] = symbols[i] * (1 << order) + value;
    }
  });
  if (bit > end) throw new Error("A face of the faces message is cut short");
  return symbols;
}

/** 0, 1, 2, 3, 4 ... as 0, -1, 1, -2, 2 ... */
const unfold = (u) => (u % 2 ? -(u + 1) / 2 : u / 2);

function decodeBlendshapes(bytes) {
  return Object.fromEntries(BLENDSHAPES.map((name, i) => [name, bytes[i] / 254]).filter((_, i) => bytes[i] !== ABSENT));
}

function decodeMatrix(reader) {
  const matrix = Float32Array.from({ length: 16 }, () => reader.f32());
  if (!matrix.every(Number.isFinite)) throw new Error("A facial transformation matrix holds what is no number");
  return matrix;
}

class Reader {
  #view;
  #at = 0;

  constructor(buffer) {
    this.#view = new DataView(buffer);
  }

  get left() {
    return this.#view.byteLength - this.#at;
  }

  bytes(count) {
    return new Uint8Array(this.#view.buffer, this.#take(count), count);
  }

  u8() {
    return this.#view.getUint8(this.#take(1));
  }

  u16() {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32() {
    return this.#view.getUint32(this.#take(4), true);
  }

  f32() {
    return this.#view.getFloat32(this.#take(4), true);
  }

  f64() {
    return this.#view.getFloat64(this.#take(8), true);
  }

  #take(count) {
    if (count > this.left) throw new Error("The faces message is cut short");
    this.#at += count;
    return this.#at - count;
  }
}

/**
 * The mean face (x of all landmarks, then y, then z), centred on 0, and how far each of these numbers goes with each
 * coefficient, coefficient by coefficient.
 */
function readModel(points) {
  const view = new DataView(Uint8Array.from(atob(table), (character) => character.charCodeAt(0)).buffer);
  const mean = new Float32Array(3 * points);
  const basis = new Float32Array(3 * points * COEFFICIENTS);
  let at = 4 * (1 + COEFFICIENTS); // after the scale of each row
  for (let row = 0; row <= COEFFICIENTS; row++) {
    const scale = view.getFloat32(4 * row, true);
    const bytes = row < PRECISE_ROWS ? 2 : 1;
    for (let i = 0; i < 3 * points; i++) {
      const column = at + bytes * (POINTS * Math.floor(i / points) + (i % points));
      const value = scale * (bytes === 2 ? view.getInt16(column, true) : view.getInt8(column));
      if (row === 0) mean[i] = value;
      else basis[i * COEFFICIENTS + row - 1] = value;
    }
    at += bytes * 3 * POINTS;
  }
  for (const start of [0, points, 2 * points]) {
    const axis = mean.subarray(start, start + points);
    const centre = axis.reduce((sum, value) => sum + value, 0) / points;
    axis.forEach((value, i) => (axis[i] = value - centre));
  }
  return { mean, basis };
}

const model = readModel(POINTS);
const modelWithoutIrises = readModel(POINTS_WITHOUT_IRISES);
