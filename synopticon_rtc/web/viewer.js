// The page that shows one broadcaster, and says how it goes.

import { chooseMode, goWith, modeKeys, offerFullScreen, takeKeys, write as writeTo } from "./controls.js";
import { FileList } from "./filelist.js";
import { clock, note } from "./journal.js";
import { measureLevel } from "./level.js";
import { Overlay } from "./overlay.js";
import { choices, readAddress } from "./places.js";
import { Player } from "./player.js";
import { Receiver } from "./receiver.js";
import { recall, remember } from "./storage.js";
import { missing } from "./support.js";

const SHOW_INTERVAL = 500; // ms between updates of the figures
const STEP_INTERVAL = 250; // ms between looks whether picture and sound are in step

const $ = (id) => document.getElementById(id);
const { body } = document;
const { query, server, url } = readAddress(location, history);
const from = query.get("from");

// The stream

const video = $("video");
const overlay = new Overlay($("overlay"), video);
const player = new Player(video, overlay, {
  sender: () => ({
    clockOffset: receiver.connection?.clockOffset ?? null,
    way: receiver.connection?.way ?? null,
    report: receiver.connection?.report(large?.name ?? null) ?? null,
  }),
  frame() {
    receiver.connection?.sawFrame();
    if (!body.hasAttribute("data-picture")) show();
  },
});
const fileList = new FileList(() => receiver.files ?? [], log);
let shown = null; // the connection whose picture the player has
let chosen = recall("stream"); // the name of the video that is to be large
let large = null; // the video that is: { name, hint, muted, faces, track }
let small = null; // another one, in the corner
const lacks = missing();
const receiver =
  lacks === null ? receive() : { state: "unsupported", connection: null, session: null, broadcasters: [], close() {} };
if (lacks !== null) log(`${lacks} is missing or switched off in this browser`);

function receive() {
  return new Receiver(url, from, {
    changed() {
      if (receiver.connection !== shown) player.stop();
      shown = receiver.connection;
      arrange();
      show();
    },
    streams() {
      arrange();
      show();
    },
    faces(message, name) {
      const { connection } = receiver;
      if (large === null || name === large.name || (name === null && connection?.isFirst(large.name))) player.take(message);
    },
    log,
    files: fileList,
  });
}

/** Give each video that comes its place: the chosen one is large, and another one in its corner. */
function arrange() {
  const videos = receiver.connection?.videos ?? [];
  large = videos.find(({ name }) => name === chosen) ?? videos[0] ?? null;
  small = videos.find((video) => video !== large) ?? null;
  const sound = receiver.connection?.sound?.track ?? null;
  if (large !== null) start(player.play(large.track, sound));
  else if (receiver.connection !== null) player.stop();
  const inset = $("inset-video");
  if ((inset.srcObject?.getTracks()[0] ?? null) !== (small?.track ?? null)) {
    inset.srcObject = small === null ? null : new MediaStream([small.track]);
    if (small !== null) inset.play().catch(() => {}); // it is muted, and starts with the next click at the latest
  }
  $("inset").hidden = small === null;
  $("inset").setAttribute("aria-label", `Show ${titled(small)} large`);
  $("inset").title = `Show ${titled(small)} large (V)`;
  $("sound").hidden = sound === null;
  showStreams(videos);
  mirrored();
}

/** Let people choose between several videos. */
function showStreams(videos) {
  const row = $("streams");
  row.hidden = videos.length < 2;
  const shape = JSON.stringify(videos.map(({ name, muted }) => [name, muted]));
  if (row.dataset.shape !== shape) {
    row.dataset.shape = shape;
    row.replaceChildren(row.querySelector("legend"), ...videos.map(({ name, muted }) => choiceOf(name, muted)));
  }
  for (const input of row.querySelectorAll("input")) input.checked = input.value === large?.name;
}

function choiceOf(name, muted) {
  const [label, input, text] = ["label", "input", "span"].map((tag) => document.createElement(tag));
  Object.assign(input, { type: "radio", name: "stream", value: name });
  text.textContent = muted ? `${name} (muted)` : name;
  label.append(input, text);
  return label;
}

function titled(stream) {
  return stream?.name ?? "the other video";
}

function choose(name) {
  chosen = name;
  remember("stream", name);
  arrange();
  show();
}

async function start(playing) {
  try {
    await playing;
    $("play").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return; // another track took its place
    log(`The browser does not start the video: ${error.message}`);
    $("play").hidden = false;
  }
}
$("play").onclick = () => start(video.play());
$("streams").onchange = ({ target }) => choose(target.value);
$("inset").onclick = () => small !== null && choose(small.name);
$("sound").onclick = () => toggleSound();

// Sound is off until somebody asks for it: browsers start no video that is heard.

let unmeasure = () => {}; // ends what shows how loud it is

function toggleSound() {
  video.muted = !video.muted;
  $("sound").setAttribute("aria-pressed", !video.muted);
  $("sound").setAttribute("aria-label", video.muted ? "Sound on" : "Sound off");
  unmeasure();
  unmeasure = () => {};
  if (video.muted) return;
  start(video.play());
  const track = receiver.connection?.sound?.track;
  if (track) unmeasure = measureLevel(track, (level) => $("sound").style.setProperty("--level", level.toFixed(2)));
}

setInterval(() => {
  const heard = video.muted ? null : receiver.connection?.sound?.track;
  receiver.connection?.keepInStep(large?.track ?? null, heard ?? null, overlay.mode === "off" ? 0 : player.behind);
}, STEP_INTERVAL);

addEventListener("pagehide", () => receiver.close("the viewer was closed"));
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) location.reload();
});

// What it says

function describe() {
  switch (receiver.state) {
    case "connected":
      if (large?.muted) return ["Paused by the broadcaster", ""];
      return player.moving || (player.picture && (document.hidden || large?.hint === "screen"))
        ? ["Live", ""]
        : ["Connected, waiting for the picture…", ""];
    case "connecting":
      return ["Connecting…", receiver.connection.name];
    case "interrupted":
      return ["Connection interrupted, trying again…", lost(receiver.interrupted)];
    case "unreachable":
      return ["The signaling server is not reachable, trying again…", server];
    case "unsupported":
      return [
        "This browser cannot show live video",
        `${lacks} is missing or switched off in it. Current versions of Chrome, Edge, Firefox and Safari will do.`,
      ];
    case "refused":
      return ["The signaling server does not let you in", receiver.refusal];
    default:
      if (receiver.declined !== null) return [`${receiver.declined.name} does not let you watch`, receiver.declined.reason];
      return [
        from === null ? "Looking for a broadcaster…" : `Looking for “${from}”…`,
        `The picture appears here by itself as soon as ${from === null ? "one" : "it"} starts.`,
      ];
  }
}

/** Who was lost, and since when. */
function lost(interrupted) {
  return interrupted === null ? "" : `${interrupted.name} has been gone since ${clock(interrupted.since)}.`;
}

/** What a mesh that was asked for is missing. */
function missed() {
  if (receiver.state !== "connected" || !player.picture || overlay.mode === "off" || player.faces > 0) return "";
  if (!tellsFaces()) {
    if (large?.hint === "screen") return "";
    return receiver.connection.videos.length > 1 ? "No faces are looked for in it" : "This broadcaster looks for no faces";
  }
  return player.looked ? "No face in the picture" : "";
}

/** Whether faces can come for what is large. */
function tellsFaces() {
  const { connection } = receiver;
  return connection !== null && large !== null && connection.tellsFaces(large);
}

function show() {
  const [words, hint] = describe();
  const { connection } = receiver;
  body.dataset.state = receiver.state;
  body.toggleAttribute("data-picture", player.picture);
  write("state", words);
  write("headline", words);
  write("hint", hint);
  write("note", missed());
  $("modes").disabled = !player.picture || !tellsFaces();
  $("mirror").disabled = !player.picture || large?.hint === "screen"; // it has to be read
  write("name", connection?.name ?? "Synopticon");
  $("recorded").hidden = connection?.recorded !== true;
  showChoices();
  document.title = connection === null ? "Synopticon" : `${connection.name} · Synopticon`;
  write("fps", player.fps.toFixed(0));
  write("faces", player.faces);
  write("delay", player.delay === null ? "–" : `${player.delay.toFixed(0)} ms`);
  for (const [name, part] of Object.entries(player.delays)) write(`part-${name}`, part === null ? "–" : part.toFixed(1));
  write("size", video.videoWidth ? `${video.videoWidth}×${video.videoHeight}` : "–");
  write("bitrate", bits(connection?.bitrate ?? null));
}
setInterval(show, SHOW_INTERVAL);
show();

/** Where there are several broadcasters, or not the one that was asked for, let people choose. */
function showChoices() {
  const { broadcasters, connection } = receiver;
  const others = broadcasters.filter(({ session }) => session !== connection?.source);
  $("choice").hidden = others.length === 0 || (broadcasters.length === 1 && from === null);
  const options = choices(broadcasters, from);
  const named = !$("choice").hidden && options.some(({ value, text }) => value === from && text === connection?.name);
  $("name").classList.toggle("unseen", named); // the list says it already
  const shape = JSON.stringify(options);
  if ($("choice").dataset.shape === shape || document.activeElement === $("choice")) return; // it may be open
  $("choice").dataset.shape = shape;
  $("choice").replaceChildren(...options.map(({ value, text }) => new Option(text, value, false, value === (from ?? ""))));
}

function write(id, text) {
  writeTo($(id), text);
}

function bits(rate) {
  if (rate === null) return "–";
  return rate >= 1e6 ? `${(rate / 1e6).toFixed(1)} Mbit/s` : `${(rate / 1e3).toFixed(0)} kbit/s`;
}

function log(text) {
  note($("lines"), text);
}

// What people change

function setMirror(on) {
  $("mirror").setAttribute("aria-pressed", on);
  mirrored();
  remember("mirror", on);
}

function mirrored() {
  const on = $("mirror").getAttribute("aria-pressed") === "true";
  $("stage").classList.toggle("mirrored", on && large?.hint !== "screen");
}

const toggleMirror = () => setMirror($("mirror").getAttribute("aria-pressed") !== "true");

$("choice").onchange = ({ target }) => goWith({ from: target.value || null });
$("mirror").onclick = toggleMirror;
setMirror(recall("mirror") === "true");

const showEverybody = () => goWith({ grid: "" });
$("grid").onclick = showEverybody;
const setMode = chooseMode($("modes"), (mode) => {
  overlay.mode = mode;
  overlay.redraw();
});
const toggleFullscreen = offerFullScreen($("fullscreen"), log);
takeKeys({
  ...modeKeys($("modes"), setMode),
  r: () => $("mirror").disabled || toggleMirror(),
  s: () => $("sound").hidden || toggleSound(),
  v: () => small !== null && choose(small.name),
  f: toggleFullscreen,
  g: showEverybody,
  d: () => $("parts").toggleAttribute("open"),
  l: () => $("log").toggleAttribute("open"),
});

// What tests and people with a console read

window.synopticon = Object.freeze({
  get state() { return receiver.state; },
  get session() { return receiver.session; },
  get streams() { return (receiver.connection?.videos ?? []).map(({ name }) => name); },
  get stream() { return large?.name ?? null; },
  get name() { return receiver.connection?.name ?? null; },
  get recorded() { return receiver.connection?.recorded ?? false; },
  get fps() { return player.fps; },
  get faces() { return player.faces; },
  get frames() { return player.frames; },
  get paired() { return player.paired; },
  get delay() { return player.delay; },
  get delays() { return player.delays; },
});
