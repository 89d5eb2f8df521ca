// The page: shows what a receiver finds, and says how it goes.

import { MODES, Overlay } from "./overlay.js";
import { choices, signalingBeside } from "./places.js";
import { Player } from "./player.js";
import { Receiver } from "./receiver.js";
import { missing } from "./support.js";

const LOG_LINES = 200;
const SHOW_INTERVAL = 500; // ms between updates of the figures

const $ = (id) => document.getElementById(id);
const { body } = document;
const query = new URLSearchParams(location.search);
const from = query.get("from");
const server = query.get("url") ?? signalingBeside(location);
const token = query.get("token") ?? history.state?.token;
const url = withQuery(server, { room: query.get("room"), token });

// The token stays with this entry of the history, so that the page can be loaded again, but not in its address.
if (query.has("token")) {
  query.delete("token");
  history.replaceState({ token }, "", `?${query}${location.hash}`);
}

function withQuery(address, parameters) {
  try {
    const url = new URL(address);
    for (const [key, value] of Object.entries(parameters)) if (value) url.searchParams.set(key, value);
    return url.href;
  } catch {
    return address; // it is none, and will be said to be
  }
}

// The stream

const video = $("video");
const overlay = new Overlay($("overlay"), video);
const player = new Player(video, overlay, {
  sender: () => receiver.connection ?? { clockOffset: null, report: null },
  frame() {
    receiver.connection?.sawFrame();
    if (!body.hasAttribute("data-picture")) show();
  },
});
let shown = null; // the connection whose picture the player has
const lacks = missing();
const receiver =
  lacks === null ? receive() : { state: "unsupported", connection: null, session: null, broadcasters: [], close() {} };
if (lacks !== null) log(`${lacks} is missing or switched off in this browser`);

function receive() {
  return new Receiver(url, from, {
    changed() {
      if (receiver.connection !== shown) player.stop();
      shown = receiver.connection;
      show();
    },
    track: (track) => start(player.play(track)),
    faces: (message) => player.take(message),
    log,
  });
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

addEventListener("pagehide", () => receiver.close("the viewer was closed"));
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) location.reload();
});

// What it says

function describe() {
  switch (receiver.state) {
    case "connected":
      return player.moving || (player.picture && document.hidden)
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
  if (!receiver.connection.tellsFaces) return "This broadcaster looks for no faces";
  return player.looked ? "No face in the picture" : "";
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
  $("modes").disabled = !player.picture || connection?.tellsFaces !== true;
  $("mirror").disabled = !player.picture;
  write("name", connection?.name ?? "Synopticon");
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

/** Change a text only where it differs, so that it is not read aloud again. */
function write(id, text) {
  if ($(id).textContent !== String(text)) $(id).textContent = text;
}

function bits(rate) {
  if (rate === null) return "–";
  return rate >= 1e6 ? `${(rate / 1e6).toFixed(1)} Mbit/s` : `${(rate / 1e3).toFixed(0)} kbit/s`;
}

function clock(date) {
  return date.toTimeString().slice(0, 8);
}

function log(text) {
  const lines = $("lines");
  const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 8;
  const line = document.createElement("li");
  const time = document.createElement("time");
  const date = new Date();
  time.dateTime = date.toISOString();
  time.textContent = clock(date);
  line.append(time, String(text).slice(0, 300));
  lines.append(line);
  while (lines.childElementCount > LOG_LINES) lines.firstElementChild.remove();
  if (atEnd) lines.scrollTop = lines.scrollHeight;
}

// What people change

function setMode(mode) {
  overlay.mode = mode;
  overlay.redraw();
  $("modes").querySelector(`[value="${mode}"]`).checked = true;
  remember("mode", mode);
}

function setMirror(on) {
  $("stage").classList.toggle("mirrored", on);
  $("mirror").setAttribute("aria-pressed", on);
  remember("mirror", on);
}

function toggleFullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen().catch((error) => log(`No full screen: ${error.message}`));
}

const toggleMirror = () => setMirror($("mirror").getAttribute("aria-pressed") !== "true");

$("choice").onchange = ({ target }) => {
  const chosen = new URLSearchParams(location.search); // the token is in the history, and stays there
  if (target.value === "") chosen.delete("from");
  else chosen.set("from", target.value);
  history.replaceState(history.state, "", `?${chosen}${location.hash}`);
  location.reload();
};
$("modes").onchange = ({ target }) => setMode(target.value);
$("mirror").onclick = toggleMirror;
$("fullscreen").onclick = toggleFullscreen;
$("fullscreen").hidden = !document.fullscreenEnabled;
setMode(MODES.includes(recall("mode")) ? recall("mode") : "mesh");
setMirror(recall("mirror") === "true");

const KEYS = {
  c: () => $("modes").disabled || setMode("contours"),
  p: () => $("modes").disabled || setMode("points"),
  m: () => $("modes").disabled || setMode("mesh"),
  o: () => $("modes").disabled || setMode("off"),
  r: () => $("mirror").disabled || toggleMirror(),
  f: () => document.fullscreenEnabled && toggleFullscreen(),
  d: () => $("parts").toggleAttribute("open"),
  l: () => $("log").toggleAttribute("open"),
};
addEventListener("keydown", (event) => {
  if (!event.ctrlKey && !event.altKey && !event.metaKey && !event.repeat) KEYS[event.key.toLowerCase()]?.();
});

/** Storage may be forbidden, and everything works without it. */
function remember(key, value) {
  try {
    localStorage.setItem(`synopticon.${key}`, value);
  } catch {}
}

function recall(key) {
  try {
    return localStorage.getItem(`synopticon.${key}`);
  } catch {
    return null;
  }
}

// What tests and people with a console read

window.synopticon = Object.freeze({
  get state() { return receiver.state; },
  get session() { return receiver.session; },
  get name() { return receiver.connection?.name ?? null; },
  get fps() { return player.fps; },
  get faces() { return player.faces; },
  get frames() { return player.frames; },
  get paired() { return player.paired; },
  get delay() { return player.delay; },
  get delays() { return player.delays; },
});
