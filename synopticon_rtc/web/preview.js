// Shows people what they send: each frame as it comes or, while faces come back, each frame together with its own.

import { Retained } from "./retained.js";

const GONE = 500; // ms without faces after which the plain picture is shown
const DISPLAYED = 16; // ms from capture to display, for browsers that do not tell when a frame was captured

export class Preview {
  #video;
  #still;
  #overlay;
  #retained = new Retained();
  #faces = [];
  #expected = false; // whether faces come
  #expiry; // timer
  #paired = 0; // when that was last so

  /** Frames that were shown with their own faces. */
  paired = 0;

  /** From the capture of the last of them to its drawing, ms; null before the first. */
  age = null;

  /**
   * @param {HTMLVideoElement} video
   * @param {HTMLCanvasElement} still lies on the video, for frames that are shown later than they come
   * @param {Overlay} overlay
   */
  constructor(video, still, overlay) {
    this.#video = video;
    this.#still = still;
    this.#overlay = overlay;
    if (!("requestVideoFrameCallback" in video)) return;
    const next = (time, { captureTime }) => {
      video.requestVideoFrameCallback(next);
      if (this.#expected) this.#retain(captureTime ?? time - DISPLAYED);
    };
    video.requestVideoFrameCallback(next);
  }

  /** Number of faces drawn now. */
  get faces() {
    return this.#expected ? this.#faces.length : 0;
  }

  /** Show a track, null for nothing; resolves when it plays. */
  async play(track) {
    if ((this.#video.srcObject?.getTracks()[0] ?? null) === track) return;
    this.plain();
    this.#video.srcObject = track === null ? null : new MediaStream([track]);
    if (track !== null) await this.#video.play();
  }

  /** Take faces that came back: `captured` tells of which frame, where the browser knows that. */
  take(message) {
    if (this.#video.srcObject === null || this.#overlay.mode === "off") return;
    const now = performance.now();
    if (!this.#expected) this.#paired = now;
    this.#expected = true;
    clearTimeout(this.#expiry);
    this.#expiry = setTimeout(() => this.plain(), GONE);
    if (message.captured !== undefined) this.#show(this.#retained.take(message));
    if (now - this.#paired <= GONE) return;
    // No frame was found for long, as where the browser does not tell which one it is: then they lie on the newest.
    this.#still.hidden = true;
    this.#draw(message);
  }

  /** Show the plain picture, until faces come again. */
  plain() {
    clearTimeout(this.#expiry);
    this.#expected = false;
    this.#still.hidden = true;
    this.#retained.clear();
    this.#overlay.draw([]);
  }

  #draw({ detected, faces }) {
    if (detected) this.#faces = faces; // else none were looked for, and those of the frame before stay
    this.#overlay.draw(this.#faces);
  }

  /** Show a frame and its faces, which have met; null where they have not. */
  #show(met) {
    if (met === null) return;
    const { width, height } = met.picture;
    this.#still.hidden = false;
    if (this.#still.width !== width || this.#still.height !== height) Object.assign(this.#still, { width, height });
    this.#still.getContext("bitmaprenderer").transferFromImageBitmap(met.picture);
    this.#draw(met.message);
    this.#paired = performance.now();
    this.age = this.#paired - met.message.captured;
    this.paired += 1;
  }

  async #retain(captured) {
    try {
      const picture = await createImageBitmap(this.#video); // a copy: cameras have only so many buffers
      if (this.#expected) this.#show(this.#retained.add(captured, picture));
      else picture.close();
    } catch {} // no picture any more
  }
}
