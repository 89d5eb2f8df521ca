// Shows people in tiles, one of them large if somebody wants that.

import { write } from "./controls.js";
import { arrange } from "./layout.js";
import { Overlay } from "./overlay.js";
import { Player } from "./player.js";
import { Preview } from "./preview.js";
import { Levels, Voice } from "./voices.js";

const LISTEN_INTERVAL = 100; // ms between looks who speaks
const STEP_INTERVAL = 250; // ms between looks whether picture and sound are in step, and the picture moves

export class Tiles {
  #list;
  #on;
  #tiles = new Map(); // by the key of what they show
  #levels = new Levels();
  #mode = "off";
  #heard = false;

  /** The key of the one that is large, null where none is. */
  large = null;

  /**
   * @param {HTMLUListElement} list in which they are
   * @param {object} on `large(view)` (null where none is any more), `silenced()` (the browser plays no sound before somebody
   *   clicks), `log(text)`
   */
  constructor(list, on) {
    this.#list = list;
    this.#on = on;
    new ResizeObserver(() => this.#place()).observe(list);
    setInterval(() => this.#listen(), LISTEN_INTERVAL);
    setInterval(() => this.#step(), STEP_INTERVAL);
  }

  /** Show these views (views.js), and no others, in their order. */
  show(views) {
    const keys = views.map(({ key }) => key);
    for (const [key, tile] of this.#tiles) if (!keys.includes(key)) this.#remove(key, tile);
    for (const [index, view] of views.entries()) {
      const tile = this.#tiles.get(view.key) ?? this.#add(view);
      tile.show(view);
      if (this.#list.children[index] !== tile.element) this.#list.insertBefore(tile.element, this.#list.children[index] ?? null);
    }
    this.#levels.keep(views.map(({ sound }) => sound));
    this.#place();
  }

  /** Draw faces on the tile that they belong to. */
  faces(person, message, name) {
    for (const tile of this.#tiles.values()) {
      const { view } = tile;
      if (view.person === person && isOf(view, name) && view.words === "") tile.player.take(message);
    }
  }

  /** Whom the large tile shows, null where none is large. */
  get largest() {
    return this.#tiles.get(this.large)?.view.person ?? null;
  }

  /** What each tile shows, and how it goes. */
  get summary() {
    return [...this.#tiles.values()].map(({ view, player, voice }) => {
      const { key, name, state, words, recorded, silent } = view;
      const { frames, paired, faces } = player;
      return { key, name, state, words, recorded, silent, frames, paired, faces, speaks: voice.speaks };
    });
  }

  /** How faces are drawn (overlay.js). */
  set mode(mode) {
    this.#mode = mode;
    for (const { overlay } of this.#tiles.values()) {
      overlay.mode = mode;
      overlay.redraw();
    }
  }

  /** Whether people are heard. */
  get heard() {
    return this.#heard;
  }

  set heard(on) {
    this.#heard = on;
    for (const tile of this.#tiles.values()) tile.hear(on);
  }

  /** Make a tile large, or all alike where it is so already, or by null. */
  enlarge(key) {
    this.large = key === this.large ? null : key;
    this.#place();
    this.#on.large(this.#tiles.get(this.large)?.view ?? null);
  }

  #add({ key, own = false }) {
    const tile = new Tile({ ...this.#on, enlarge: () => this.enlarge(key) }, own);
    tile.overlay.mode = this.#mode;
    tile.hear(this.#heard);
    this.#tiles.set(key, tile);
    return tile;
  }

  #remove(key, tile) {
    const next = tile.element.nextElementSibling ?? tile.element.previousElementSibling;
    const focused = tile.element.contains(document.activeElement);
    tile.player.stop();
    tile.element.remove();
    this.#tiles.delete(key);
    if (focused) next?.querySelector("button").focus();
    if (this.large === key) this.enlarge(null);
  }

  #place() {
    const tiles = this.#list.children;
    const large = [...tiles].indexOf(this.#tiles.get(this.large)?.element);
    const { clientWidth: width, clientHeight: height } = this.#list;
    for (const [index, box] of arrange(tiles.length, { width, height }, large).entries()) {
      for (const [side, length] of Object.entries(box)) tiles[index].style[side] = `${length}px`;
      tiles[index].toggleAttribute("data-small", box.width < 200);
    }
    for (const tile of this.#tiles.values()) tile.press(tile.element === tiles[large]);
  }

  #listen() {
    const now = performance.now();
    for (const tile of this.#tiles.values()) {
      const { person, sound } = tile.view;
      const level = sound === null ? null : (person?.connection?.loudness ?? this.#levels.of(sound));
      tile.voice.add(level, now);
      tile.element.toggleAttribute("data-speaking", tile.voice.speaks);
    }
  }

  #step() {
    for (const tile of this.#tiles.values()) {
      const { person, first, track, sound } = tile.view;
      const behind = this.#mode === "off" ? 0 : tile.player.behind;
      if (first) person?.connection?.keepInStep(track, this.#heard ? sound : null, behind);
      tile.refresh();
    }
  }
}

class Tile {
  #on;
  #video = element("video", { autoplay: true, muted: true, playsInline: true, disablePictureInPicture: true });
  #picture = element("div", { className: "picture" });
  #button = element("button", { type: "button", className: "enlarge" });
  #words = element("p", { className: "words" });
  #name = element("span", { className: "name" });
  #silent = notice("silent", "microphone off", "The microphone is off");
  #recorded = notice("recorded", "recorded", "Somebody records what is sent");

  /** What it shows (views.js). */
  view = null;
  voice = new Voice();

  /** @param {boolean} own whether it shows people themselves: they are not heard, and see what was found in each frame on it */
  constructor(on, own) {
    this.#on = on;
    const canvas = element("canvas", { ariaHidden: "true" });
    const still = element("canvas", { className: "still", hidden: true });
    this.#picture.append(this.#video, still, canvas);
    const speaks = element("span", { className: "speaks", title: "Speaks", ariaHidden: "true" });
    const plate = element("p", { className: "plate" });
    plate.append(speaks, this.#name, this.#silent, this.#recorded);
    this.element = element("li", { className: "tile" });
    this.element.append(this.#picture, this.#words, plate, this.#button);
    this.#button.onclick = on.enlarge;
    this.overlay = new Overlay(canvas, this.#video);
    this.player = own ? new Own(this.#video, new Preview(this.#video, still, this.overlay)) : this.#player();
  }

  #player() {
    return new Player(this.#video, this.overlay, {
      sender: () => ({ clockOffset: null, report: null, way: this.view?.person?.connection?.way ?? null }),
      frame: () => {
        this.view.person?.connection?.sawFrame();
        if (!this.element.hasAttribute("data-picture")) this.refresh();
      },
    });
  }

  show(view) {
    this.view = view;
    const { name, track, sound } = view;
    write(this.#name, name);
    this.#silent.hidden = !view.silent;
    this.#recorded.hidden = !view.recorded;
    this.#picture.classList.toggle("mirrored", view.mirrored === true);
    this.element.dataset.state = view.state;
    if (track !== null || sound !== null) this.#start(this.player.play(track, sound));
    else if (this.#video.srcObject !== null) this.player.stop();
    this.refresh();
  }

  /** Play it with or without its sound. */
  hear(on) {
    this.#video.muted = !on || this.view?.own === true;
    if (on && this.view !== null && this.#video.srcObject !== null) this.#start(this.#video.play());
  }

  press(large) {
    this.#button.setAttribute("aria-pressed", large);
    this.#button.setAttribute("aria-label", `Show ${this.view?.name ?? ""} large`);
    this.element.toggleAttribute("data-large", large);
  }

  /** Say why there is no picture, or why it stands still. */
  refresh() {
    const { words, hint } = this.view;
    const alive = this.player.moving || (this.player.picture && (document.hidden || hint === "screen"));
    const seen = words === "" && this.player.picture;
    write(this.#words, words === "" && !alive ? "Waiting for the picture…" : words);
    this.element.toggleAttribute("data-picture", seen);
    this.element.toggleAttribute("data-still", seen && !alive);
  }

  async #start(playing) {
    try {
      await playing;
    } catch (error) {
      if (error.name === "AbortError") return; // another track took its place
      if (error.name !== "NotAllowedError" || this.#video.muted) this.#on.log(`The browser does not start the video: ${error.message}`);
      else this.#on.silenced();
    }
  }
}

/** Plays what people send themselves, as far as a `Player` does so. */
class Own {
  #video;
  #preview;
  moving = true; // there is nothing to say of it: it is their own
  frames = 0;
  behind = 0;

  constructor(video, preview) {
    this.#video = video;
    this.#preview = preview;
  }

  get picture() {
    return this.#video.videoWidth > 0;
  }

  get faces() {
    return this.#preview.faces;
  }

  get paired() {
    return this.#preview.paired;
  }

  play(track) {
    return this.#preview.play(track);
  }

  stop() {
    this.#preview.play(null);
  }

  take(message) {
    this.#preview.take(message);
  }
}

/** Whether faces of a name, null for those of the first offer's video, belong to what a tile shows. */
function isOf({ person, stream }, name) {
  return name === stream || (name === null && person?.connection?.isFirst(stream) === true);
}

/** A sign, and words that a small tile leaves to those who cannot see it. */
function notice(className, text, title) {
  const notice = element("span", { className, title });
  notice.append(element("span", { className: "sign", ariaHidden: "true" }), element("span", { textContent: text }));
  return notice;
}

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
