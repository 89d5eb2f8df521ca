// The page of a call: sends what people let it, and shows everybody else who does so.

import { keepAwake } from "./awake.js";
import { Broadcaster } from "./broadcaster.js";
import { goTogether, offerDevices, showShared, showSwitch, takeKeys, write as writeTo } from "./controls.js";
import { problemOf } from "./devices.js";
import { note } from "./journal.js";
import { shownName } from "./names.js";
import { People } from "./people.js";
import { hostOf, readAddress, readToken } from "./places.js";
import { refusalOf } from "./signaling.js";
import { publish, Sources } from "./sources.js";
import { recall, remember } from "./storage.js";
import { missing } from "./support.js";
import { Tiles } from "./tiles.js";
import { absent, views } from "./views.js";
import { called, cameraWords, curtainWords, INSECURE, microphoneWords, recordedBy, refused, unsupported } from "./words.js";

const MOST = 8; // people, with oneself
const SHOW_INTERVAL = 500; // ms
const LOST_KEPT = 60_000; // ms for which a tile stays of somebody who went without a goodbye
const LEFT = ["You have left", "Nothing is sent any more, and camera and microphone are off. You can close this page, or join again."];

const $ = (id) => document.getElementById(id);
const { body } = document;
const { query, server, url, token } = readAddress(location, history);
const invited = readToken(token);
const lab = shownName(query.get("lab")); // who asks, as the link says
const room = shownName(query.get("room")) || invited.room;
const canShare = typeof navigator.mediaDevices?.getDisplayMedia === "function"; // phones cannot

let phase = "welcome"; // "asking", "live", "left" or "problem"
let words = null; // [title, hint] in the last two
let retry = null; // what to do about a problem; null where nothing helps
let broadcaster = null; // while there is anything to send, or there was
let people = null;

const tiles = new Tiles($("tiles"), { large() {}, silenced: () => setSound(false), log });
const sources = new Sources({ changed: taken, log });

// Who is here

/** Open what people were told of, and join. */
async function join(open) {
  if (phase === "asking") return;
  remember("called", $("called").value.trim());
  remember("voice", $("voice").checked);
  enter("asking");
  try {
    await open();
  } catch (error) {
    log(`${error.name}: ${error.message}`);
    leave("problem", cameraWords(problemOf(error)), joinSending);
    return;
  }
  people = new People(url, { most: MOST - 1, own, name: ownName() || undefined }, {
    changed: show,
    streams: show,
    faces: (person, message, name) => tiles.faces(person, message, name),
    log,
  });
  setSound(true);
  enter("live");
  for (const name of sources.names) send(name);
  list();
}

const joinSending = () =>
  join(() => {
    connect(); // while people are asked
    return sources.open($("voice").checked);
  });
const joinWatching = () => join(() => {});
const ownName = () => invited.name || $("called").value.trim();
const own = () => [broadcaster?.session].filter((session) => typeof session === "string");

/** Send nothing any more, see nobody, and close everything. */
function leave(next, said, instead = null) {
  broadcaster?.close("they left the room");
  people?.close("they left the room");
  broadcaster = people = null;
  [phase, words, retry] = [next, said, instead];
  sources.close();
  enter(next);
}

/** A source came, went, or was switched. */
function taken(name) {
  if (phase === "live") send(name);
  show();
}

function connect() {
  broadcaster ??= new Broadcaster(url, { name: ownName() }, {
    changed: show,
    faces: (message, stream) => tiles.faces(null, message, stream),
    log,
  });
}

function send(name) {
  if (sources[name] !== null) connect();
  if (broadcaster !== null) publish(broadcaster, sources, name);
}

/** What people see of themselves (views.js has what they see of others). */
function ownViews() {
  const { camera, microphone, screen, off, lack } = sources;
  const view = { person: null, own: true, state: "connected", recorded: false, silent: false, sound: null };
  const me = ownName() ? `${ownName()} (you)` : "You";
  const nothing = camera === null && lack.camera === null;
  const shown = [
    {
      ...view,
      key: "own",
      name: me,
      words: nothing ? "You send no picture" : curtainWords({ off: off.camera, lack: lack.camera, paused: camera?.muted === true }),
      stream: "camera",
      hint: "camera",
      track: camera,
      sound: off.microphone ? null : microphone,
      silent: microphone === null || off.microphone,
      mirrored: $("mirror").checked && camera?.getSettings().facingMode !== "environment",
    },
  ];
  if (screen !== null) {
    shown.push({ ...view, key: "own screen", name: `${me} · screen`, words: "", stream: "screen", hint: "screen", track: screen });
  }
  return shown;
}

// What it says

function enter(next) {
  phase = next;
  show();
  const hidden = document.activeElement === body || document.activeElement?.checkVisibility?.() === false;
  if (hidden) $(phase === "live" ? "camera" : "title").focus({ preventScroll: true });
  keepAwake(phase === "live" && !document.hidden);
}

function show() {
  const live = phase === "live";
  const others = people?.list.filter((person) => person.state === "connected") ?? [];
  const refusal = people?.refusal ?? broadcaster?.refusal ?? null;
  if (live && refusal !== null && others.length === 0) {
    leave("problem", refused(refusal), reload);
    return;
  }
  if (people !== null) forgetLost();
  tiles.show(live ? [...ownViews(), ...views(people.list)] : []);
  const [state, hint] = says(others.length + (people?.more ?? 0));
  body.dataset.phase = phase;
  body.toggleAttribute("data-picture", live);
  body.toggleAttribute("data-seen", live && others.length > 0);
  body.toggleAttribute("data-trouble", phase === "problem" || (live && !reachable()));
  write("name", room || "Room");
  write("state", state);
  write("recorded", recordedBy(broadcaster?.watchers ?? []));
  write("note", live ? [microphoneWords(sources.lack.microphone), hint, absent(people)].filter(Boolean).join(" ") : "");
  document.title = `${state || room || "Room"} · Synopticon`;
  showCard();
  showControls();
  showWatchers();
}
setInterval(() => phase === "live" && show(), SHOW_INTERVAL);

const reachable = () => people.reachable && broadcaster?.state !== "unreachable";

function forgetLost() {
  for (const person of people.list) {
    if (person.connection === null && Date.now() - person.since > LOST_KEPT) people.forget(person);
  }
}

function says(count) {
  if (phase === "asking") return ["Waiting for your permission", ""];
  if (phase !== "live") return [words?.[0] ?? "", ""];
  const away = "The server cannot be reached: those who are here go on, and nobody else can come.";
  if (count === 0 && !reachable()) return ["The server cannot be reached, trying again…", ""];
  if (count === 0) return ["You are alone here", "Give the address of this page to those who are to come."];
  return [count === 1 ? "One other is here" : `${count} others are here`, reachable() ? "" : away];
}

function showCard() {
  const [asks, live] = [phase === "asking", phase === "live"];
  $("card").hidden = live;
  $("tiles").hidden = document.querySelector("footer").hidden = !live;
  const welcome = room ? `Join the room “${room}”` : "Join the room";
  write("title", asks ? "Your browser asks you" : (words?.[0] ?? welcome));
  write("hint", asks ? "Choose “Allow” if you want to go on. Nothing is sent before." : (words?.[1] ?? ""));
  $("terms").hidden = phase !== "welcome";
  $("form").hidden = !["welcome", "left"].includes(phase);
  $("again").hidden = phase !== "problem" || retry === null;
  $("instead").hidden = phase !== "problem" || retry !== joinSending;
}

function showControls() {
  const { camera, microphone, screen, off } = sources;
  showSwitch($("camera"), camera !== null && !off.camera, "the camera");
  showSwitch($("microphone"), microphone !== null && !off.microphone, "your voice");
  showSwitch($("sound"), tiles.heard, "the sound of the others");
  $("screen").hidden = !canShare;
  showShared($("screen"), screen !== null);
}

function showWatchers() {
  const watchers = (broadcaster?.watchers ?? []).filter(({ up }) => up);
  write("count", `Sent to ${watchers.length}`);
  $("nobody").hidden = watchers.length > 0;
  const lines = watchers.map((watcher) => called(watcher) + (watcher.recorded ? ", records" : ""));
  const shape = JSON.stringify(lines);
  if ($("watchers").dataset.shape === shape) return;
  $("watchers").dataset.shape = shape;
  $("watchers").replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

function write(id, text) {
  writeTo($(id), text);
}

function log(text) {
  note($("lines"), text);
}

// What people do

$("form").onsubmit = (event) => {
  event.preventDefault();
  joinSending();
};
$("watch").onclick = $("instead").onclick = joinWatching;
$("again").onclick = () => retry();
$("leave").onclick = () => leave("left", LEFT);
for (const name of ["camera", "microphone"]) {
  $(name).onclick = () => (sources[name] === null ? sources.choose(name).then(list) : sources.switch(name, !sources.off[name]));
  $(`${name}s`).onchange = ({ target }) => sources.choose(name, target.value).then(list);
}
$("screen").onclick = async () => {
  if (sources.screen !== null) return sources.unshare();
  await sources.share().catch((error) => log(`The screen is not shared: ${error.message}`));
};
$("sound").onclick = () => setSound(!tiles.heard);
$("mirror").onchange = ({ target }) => {
  remember("camera.mirror", target.checked);
  show();
};
$("mesh").onchange = ({ target }) => {
  remember("camera.mesh", target.checked);
  setMesh(target.checked);
};
takeKeys({ Escape: () => document.querySelector(".tool-panel[open]") ?? tiles.enlarge(null) });
goTogether([...document.querySelectorAll(".tool-panel")]);

function setSound(on) {
  tiles.heard = on;
  show();
}

function setMesh(on) {
  tiles.mode = on ? "mesh" : "off";
}

const list = () => offerDevices($("cameras"), $("microphones"), sources);

// What happens to the page

document.onvisibilitychange = () => keepAwake(phase === "live" && !document.hidden);
addEventListener("pagehide", () => people?.close("they left the room"));
addEventListener("pageshow", ({ persisted }) => persisted && reload());

const reload = () => location.reload();

/** Say what stands in the way before anybody is asked for anything. */
async function check() {
  const lacks = missing() ?? (window.isSecureContext && !navigator.mediaDevices ? "The use of cameras" : null);
  if (!window.isSecureContext) return leave("problem", INSECURE);
  if (lacks !== null) return leave("problem", unsupported(lacks));
  navigator.mediaDevices.ondevicechange = () => phase === "live" && list();
  const refusal = await refusalOf(url);
  if (refusal !== null && phase === "welcome") leave("problem", refused(refusal), reload);
}

$("asking").textContent = lab;
$("asking").parentElement.hidden = lab === "";
const where = room ? `the room “${room}” of the server ${hostOf(server)}` : `the room of the server ${hostOf(server)}`;
$("goal").textContent = `To everybody in ${where}, ${MOST} people at most, straight from your browser to theirs.`;
$("called").value = query.get("name") ?? recall("called") ?? "";
$("naming").hidden = invited.name !== "";
$("named").hidden = invited.name === "";
$("named").textContent = `They see you as “${invited.name}”: your invitation says so.`;
$("voice").checked = recall("voice") !== "false";
$("mirror").checked = recall("camera.mirror") !== "false";
$("mesh").checked = recall("camera.mesh") !== "false";
setMesh($("mesh").checked);
show();
check();

// What tests and people with a console read

window.synopticon = Object.freeze({
  get phase() { return phase; },
  get session() { return broadcaster?.session ?? null; },
  get watchers() { return broadcaster?.watchers ?? []; },
  get large() { return tiles.large; },
  get people() { return tiles.summary; },
});
