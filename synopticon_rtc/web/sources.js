// What people send: a camera, a microphone and the screen, each of which can be missing, switched off, or unplugged meanwhile.

import { isHidden, open, openBoth, problemOf } from "./devices.js";
import { recall, remember } from "./storage.js";

const KINDS = { camera: "video", microphone: "audio" };
const SCREEN = { frameRate: { ideal: 15 } };

export class Sources {
  #on;
  #unplugged = null; // the id of the camera that went
  #closed = 0; // how often everything was closed: what is opened before and comes after is not wanted any more
  #chosen = { camera: 0, microphone: 0 }; // how often another one was: what is opened before that is not wanted either
  #opening = { camera: null, microphone: null }; // resolves when that which is being opened is there, or is not to be had

  names = ["camera", "microphone", "screen"]; // the first video is that of the first offer

  /** The tracks, null where there is none. */
  camera = null;
  microphone = null;
  screen = null;

  /** Which of them people have switched off. */
  off = { camera: false, microphone: false };

  /** Why there is none: a problem of devices.js, or "unplugged"; null where nobody is to be told. */
  lack = { camera: null, microphone: null };

  /** @param {object} on `changed(name)` of "camera", "microphone" or "screen", `log(text)` */
  constructor(on) {
    this.#on = on;
  }

  /** Ask for camera and microphone; a camera that cannot be had is an error. */
  async open(voice) {
    const wanted = { video: recall("camera"), audio: recall("microphone") };
    const closed = this.#closed;
    const { camera, microphone, lack } = await openBoth(wanted, voice);
    if (closed !== this.#closed) return [camera, microphone].forEach((track) => track?.stop());
    this.#take("camera", camera);
    this.#take("microphone", microphone);
    if (lack !== null) this.#miss("microphone", problemOf(lack), lack.message);
  }

  /** Ask for a microphone alone, where there is no camera for the reason `problem`; one that cannot be had is an error. */
  async openVoice(problem) {
    const closed = this.#closed;
    const microphone = await open("audio", recall("microphone"));
    if (closed !== this.#closed) return microphone.stop();
    this.lack.camera = problem;
    this.#take("microphone", microphone);
  }

  /** Take this camera or microphone in place of the one before; without an id, any. */
  async choose(name, id = recall(name)) {
    this.off[name] = false; // now, as people may switch it off again before it is there
    await this.#change(name, id);
  }

  /** Ask for the screen, or a window; throws where people or the system do not want that. */
  async share() {
    const closed = this.#closed;
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: SCREEN, audio: false });
    const [track] = stream.getVideoTracks();
    if (closed === this.#closed) this.#take("screen", track);
    else track.stop();
  }

  unshare() {
    this.screen?.stop();
    this.screen = null;
    this.#on.changed("screen");
  }

  /** Switch camera or microphone off, and on again. */
  switch(name, off) {
    this.off[name] = off;
    if (this[name] !== null) this[name].enabled = !off;
    this.#on.changed(name);
  }

  /** Devices came or went, of which browsers tell several times: where the camera is back that was unplugged, go on with it. */
  async look(devices) {
    const back = this.#opening.camera === null ? this.#unplugged : null;
    if (back !== null && devices.some(({ deviceId }) => deviceId === back)) await this.#change("camera", back);
  }

  /** Close everything. */
  close() {
    this.#closed += 1;
    this.#unplugged = null;
    this.off = { camera: false, microphone: false };
    this.lack = { camera: null, microphone: null };
    for (const name of this.names) {
      this[name]?.stop();
      this[name] = null;
      this.#on.changed(name);
    }
  }

  /** Open another one, on or off as people have it. Of several that are chosen at a time, the last one counts. */
  async #change(name, id) {
    const [closed, chosen] = [this.#closed, (this.#chosen[name] += 1)];
    const isWanted = () => closed === this.#closed && chosen === this.#chosen[name];
    this[name]?.stop(); // phones open one camera at a time
    while (this.#opening[name] !== null) await this.#opening[name];
    if (!isWanted()) return;
    const opened = open(KINDS[name], id);
    this.#opening[name] = opened.catch(() => {}).then(() => (this.#opening[name] = null));
    try {
      const track = await opened;
      if (!isWanted()) return track.stop();
      this.#take(name, track);
      remember(name, track.getSettings().deviceId ?? "");
    } catch (error) {
      if (isWanted()) this.#miss(name, problemOf(error), error.message);
    }
  }

  #take(name, track) {
    this[name]?.stop();
    this[name] = track;
    if (name === "camera") this.#unplugged = null;
    if (name !== "screen") this.lack[name] = null;
    if (track !== null) {
      track.onmute = track.onunmute = () => this.#on.changed(name); // by the system, as while a phone rings
      track.onended = () => (name === "screen" ? this.unshare() : this.#lose(name, track));
      if (name !== "screen") track.enabled = !this.off[name];
    }
    this.#on.changed(name);
  }

  async #lose(name, track) {
    this.#miss(name, "unplugged", track.label);
    if (name === "camera") this.#unplugged = track.getSettings().deviceId ?? null;
    const isTakenBack = await isHidden(KINDS[name]).catch(() => false);
    if (isTakenBack && this.lack[name] === "unplugged") this.#miss(name, "denied", "people have taken their leave back");
  }

  #miss(name, problem, message) {
    this.#on.log(`There is no ${name} (${problem}): ${message}`);
    this[name] = null;
    this.lack[name] = problem;
    this.#on.changed(name);
  }
}

/** Publish what there is of a source, mute what is away for now, and end what is gone. */
export function publish(broadcaster, sources, name) {
  if (sources[name] !== null) {
    broadcaster.publish(name, sources[name], name);
    broadcaster.mute(name, sources.off[name] === true);
  } else if (sources.lack[name]) {
    broadcaster.mute(name, true); // until there is another
  } else {
    broadcaster.unpublish(name);
  }
}
