// The page that shows one who publishes in a room of Janus, with faces, and says whether they are exact.

import { chooseMode, modeKeys, offerFullScreen, takeKeys, write } from "./controls.js";
import { decodeFaces } from "./faces.js";
import { note } from "./journal.js";
import { readMarked, Shift } from "./marks.js";
import { Overlay } from "./overlay.js";
import { Player } from "./player.js";
import { VideoRoom } from "./videoroom.js";

const SHOW_INTERVAL = 500; // ms
const HEAD = 12; // bytes of faces/1 up to its timestamp, and that
const RECENT = 16;

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const address = query.get("room");
const video = $("video");
const overlay = new Overlay($("overlay"), video);
const player = new Player(video, overlay, { sender: () => ({ clockOffset: null, report: null, way: null }), frame() {} });

let shown = null; // the video that is shown: { mid, name, track }
let sound = null;
let shift = new Shift();
let recent = []; // how the last faces messages began
let room = null;
try {
  room = new VideoRoom(address ?? "", query.get("from"), { changed, track, message, frame });
} catch {
  // it is no address, which show() says
}

function changed() {
  if (room?.peer === null && shown !== null) {
    [shown, sound, shift] = [null, null, new Shift()];
    player.stop();
  }
  show();
}

function track(track, mid, { name }) {
  if (track.kind === "audio") sound = track;
  else shown ??= { mid, name, track };
  if (shown === null) return;
  player.play(shown.track, sound).then(() => ($("play").hidden = true), (error) => {
    if (error.name !== "AbortError") $("play").hidden = false;
  });
}
$("play").onclick = () => video.play().then(() => ($("play").hidden = true), () => {});

function frame(mid, timestamp, mark) {
  if (mid === shown?.mid) shift.frame(timestamp, mark);
}

function message(data) {
  const marked = typeof data === "string" ? null : readMarked(data);
  if (marked === null || marked.name !== shown?.name) return;
  if (marked.mark !== 0) shift.mark(marked.timestamp, marked.mark);
  if (marked.faces === null || isCopy(marked.faces)) return;
  try {
    const faces = decodeFaces(marked.faces);
    const known = shift.value !== null && faces.rtpTimestamp !== null;
    player.take({ ...faces, rtpTimestamp: known ? (faces.rtpTimestamp + shift.value) >>> 0 : null });
  } catch (error) {
    note($("lines"), error.message);
  }
}

/** Whether faces came before: each message comes twice, and begins with what tells it from others. */
function isCopy(faces) {
  const head = String(new Uint8Array(faces, 0, Math.min(HEAD, faces.byteLength)));
  if (recent.includes(head)) return true;
  recent = [...recent.slice(1 - RECENT), head];
  return false;
}

/** Whether faces are on their own frames, in words. */
function exactness() {
  if (shown === null || !player.looked) return "";
  if (!VideoRoom.seesFrames) return "Faces may be some frames off: this browser shows pages no encoded frames";
  return shift.value === null ? "Faces may be some frames off, for now" : "Faces are on their own frames";
}

function state() {
  if (room === null) return ["No room", "Give one as ?room=ws://HOST:8188/ROOM in the address of this page."];
  if (player.picture) return ["Live", ""];
  if (room.trouble !== null) return ["Not connected, trying again…", room.trouble];
  return room.feed === null ? ["Nobody publishes yet", "The picture appears here by itself."] : ["Connecting…", ""];
}

function show() {
  const [words, hint] = state();
  document.body.toggleAttribute("data-picture", player.picture);
  for (const [id, text] of Object.entries({
    state: words,
    headline: words,
    hint,
    name: room?.feeds.get(room.feed) ?? "Janus",
    note: exactness(),
    fps: player.fps.toFixed(0),
    faces: player.faces,
  })) write($(id), text);
  $("modes").disabled = !player.picture;
}
setInterval(show, SHOW_INTERVAL);
show();

const setMode = chooseMode($("modes"), (mode) => {
  overlay.mode = mode;
  overlay.redraw();
});
takeKeys({
  ...modeKeys($("modes"), setMode),
  f: offerFullScreen($("fullscreen"), (text) => note($("lines"), text)),
  l: () => $("log").toggleAttribute("open"),
});

addEventListener("pagehide", () => room?.close());

window.synopticon = Object.freeze({
  get frames() { return player.frames; },
  get paired() { return player.paired; },
  get faces() { return player.faces; },
  get exact() { return shift.value !== null; },
  get name() { return room?.feeds.get(room.feed) ?? null; },
});
