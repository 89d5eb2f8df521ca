// The page that publishes: says what it asks for, sends what people let it, and says how that goes.

import { keepAwake } from "./awake.js";
import { Broadcaster } from "./broadcaster.js";
import { goTogether, offerDevices, showShared, showSwitch, write as writeTo } from "./controls.js";
import { problemOf } from "./devices.js";
import { FileList } from "./filelist.js";
import { clock, note } from "./journal.js";
import { measureLevel } from "./level.js";
import { shownName } from "./names.js";
import { Overlay } from "./overlay.js";
import { hostOf, readAddress, readToken } from "./places.js";
import { Preview } from "./preview.js";
import { refusalOf } from "./signaling.js";
import { publish, Sources } from "./sources.js";
import { recall, remember } from "./storage.js";
import { missing } from "./support.js";
import { called, cameraWords, curtainWords, describe, INSECURE, microphoneWords, recordedBy, refused, STOPPED, unsupported, voiceWords } from "./words.js";

const PASSING = 15_000; // ms that is said what counts only for a while
const AWAY = 2_000; // ms in the background after which it is said what that does

const $ = (id) => document.getElementById(id);
const { body } = document;
const { query, server, url, token } = readAddress(location, history);
const invited = readToken(token);
const lab = shownName(query.get("lab")); // who asks, as the link says
const canShare = typeof navigator.mediaDevices?.getDisplayMedia === "function"; // phones cannot

let phase = "welcome"; // "asking", "preview" (nothing is sent), "live", "stopped" or "problem"
let words = null; // [title, hint] in the last two
let lacking = null; // why there is no camera, once it was asked for
let retry = null; // what to do about a problem; null where nothing helps
let sending = false; // whether more is wanted than a preview
let broadcaster = null;
let passing = ""; // what is said for a while
let silence = () => {}; // ends what shows how loud the microphone is
let left = null; // when the page went into the background

const fileList = new FileList(() => broadcaster?.files ?? [], log);
const overlay = new Overlay($("overlay"), $("video"));
const preview = new Preview($("video"), $("still"), overlay);
const sources = new Sources({ changed: taken, log });

// What is sent

/** Open what people were told of, and send it if they want that. */
async function begin(open, failed) {
  if (phase === "asking") return;
  remember("called", $("called").value.trim());
  remember("voice", $("voice").checked);
  passing = "";
  if (sending) connect(); // while people are asked
  const before = phase;
  enter("asking");
  try {
    await open();
  } catch (error) {
    log(`${error.name}: ${error.message}`);
    failed(problemOf(error), before);
    return;
  }
  enter(sending ? "live" : "preview");
  if (phase === "live") for (const name of sources.names) send(name); // it may be refused by now
  list();
}

const beginCamera = () =>
  begin(
    () => sources.camera === null && sources.open($("voice").checked),
    (problem) => {
      end("problem", cameraWords(problem), beginCamera);
      lacking = problem;
    },
  );

const beginVoice = () =>
  begin(
    () => sources.openVoice(lacking),
    (problem) => end("problem", voiceWords(problem), beginVoice),
  );

const beginScreen = () =>
  begin(
    () => sources.share(),
    (problem, before) => {
      end(before, words, retry);
      if (problem === "system") say("Your system does not let the browser see the screen: allow it in its settings.");
    },
  );

function connect() {
  broadcaster ??= new Broadcaster(url, { name: invited.name || $("called").value.trim() }, {
    changed: show,
    faces: (message, stream) => stream === large() && !sources.off.camera && preview.take(message),
    log,
    files: fileList,
  });
}

/** A source came, went, or was switched. */
function taken(name) {
  if (phase === "live") send(name);
  if (name === "microphone") {
    silence();
    silence = sources.microphone === null ? () => {} : measureLevel(sources.microphone, showLevel);
  } else {
    play();
  }
  const nothing = sources.camera === null && sources.screen === null && sources.lack.camera === null;
  if (phase === "live" && nothing) end("stopped", STOPPED);
  show();
}

const send = (name) => publish(broadcaster, sources, name);

/** Send nothing any more, and close everything. */
function end(next, said, instead = null) {
  broadcaster?.close("the participant stopped");
  broadcaster = null;
  [phase, words, retry] = [next, said, instead];
  sources.close();
  enter(next);
}

// The name of what is large: the screen only where there is no camera
const large = () => (sources.camera === null && sources.lack.camera === null && sources.screen !== null ? "screen" : "camera");

async function play() {
  const shared = large() === "camera" ? sources.screen : null;
  if (($("shared").srcObject?.getTracks()[0] ?? null) !== shared) {
    $("shared").srcObject = shared === null ? null : new MediaStream([shared]);
  }
  try {
    await preview.play(sources[large()]);
  } catch (error) {
    if (error.name !== "AbortError") log(`The browser does not show the preview: ${error.message}`);
  }
}

// What it says

function enter(next) {
  phase = next;
  show();
  const hidden = document.activeElement === body || document.activeElement?.checkVisibility?.() === false;
  if (hidden) $(isOpen() ? "camera" : "title").focus({ preventScroll: true });
  keepAwake(isOpen() && !document.hidden);
}

const isOpen = () => phase === "preview" || phase === "live";

function show() {
  const watchers = broadcaster?.watchers ?? [];
  const seeing = watchers.filter(({ up }) => up);
  if (phase === "live" && broadcaster?.state === "refused" && seeing.length === 0) {
    end("problem", refused(broadcaster.refusal), reload); // nobody can come any more
    return;
  }
  const [state, hint] = says(watchers);
  body.dataset.phase = phase;
  body.toggleAttribute("data-picture", isOpen());
  body.toggleAttribute("data-seen", phase === "live" && seeing.length > 0);
  body.toggleAttribute("data-trouble", phase === "problem" || broadcaster?.state === "unreachable");
  write("state", state);
  write("name", isOpen() ? invited.name || $("called").value.trim() || "Your camera" : "Synopticon");
  write("recorded", recordedBy(watchers));
  write("note", [microphoneWords(sources.lack.microphone), hint, passing].filter(Boolean).join(" "));
  document.title = `${document.hidden && phase === "live" ? "In the background: may be slow" : state || "Your camera"} · Synopticon`;
  showCard();
  showSources();
  showWatchers(watchers, seeing.length);
}

function says(watchers) {
  if (phase === "live") return describe({ ...status(), watchers, server: hostOf(server) });
  if (phase === "preview") return ["Only you see this", "Nothing is sent yet."];
  if (phase === "asking") return ["Waiting for your permission", ""];
  return [words?.[0] ?? "", ""];
}

const status = () => ({ state: broadcaster.state, refusal: broadcaster.refusal, interrupted: broadcaster.interrupted });

function showCard() {
  const asks = phase === "asking";
  $("card").hidden = isOpen();
  document.querySelector("footer").hidden = !isOpen();
  const welcome = lab ? `${lab} asks for your camera` : "Send your camera";
  write("title", asks ? "Your browser asks you" : (words?.[0] ?? welcome));
  write("hint", asks ? "Choose “Allow” if you want to go on. Nothing is sent before." : (words?.[1] ?? passing));
  $("terms").hidden = phase !== "welcome";
  $("form").hidden = !["welcome", "stopped"].includes(phase);
  $("again").hidden = phase !== "problem" || retry === null;
  $("voice-alone").hidden = phase !== "problem" || retry !== beginCamera;
  $("instead").hidden = phase !== "problem" || retry !== beginCamera || !canShare;
}

function showSources() {
  const { camera, microphone, screen, off } = sources;
  showSwitch($("camera"), camera !== null && !off.camera, "the camera");
  showSwitch($("microphone"), microphone !== null && !off.microphone, "your voice");
  $("screen").hidden = !canShare || phase !== "live";
  showShared($("screen"), screen !== null);
  $("shared").hidden = screen === null || large() === "screen";
  const words = large() === "screen" ? "" : curtain();
  $("curtain").hidden = words === "";
  write("curtain", words);
  const rear = camera?.getSettings().facingMode === "environment";
  $("stage").classList.toggle("mirrored", $("mirror").checked && !rear && large() === "camera");
  $("send").hidden = phase !== "preview";
  write("stop", phase === "preview" ? "Close" : "Stop");
  $("stop").className = phase === "preview" ? "action plain" : "action danger";
}

function curtain() {
  const { camera, microphone, off, lack } = sources;
  const voice = microphone !== null && !off.microphone;
  return curtainWords({ off: off.camera, lack: lack.camera, paused: camera?.muted === true, voice });
}

function showLevel(level) {
  $("microphone").style.setProperty("--level", level.toFixed(2));
}

function showWatchers(watchers, count) {
  $("people").hidden = phase !== "live";
  write("count", `Sent to ${count}`);
  $("nobody").hidden = watchers.length > 0;
  const shape = JSON.stringify(watchers);
  if ($("watchers").dataset.shape === shape) return; // so that the focus stays where it is
  $("watchers").dataset.shape = shape;
  $("watchers").replaceChildren(...watchers.map(watcherItem));
}

function watcherItem(watcher) {
  const [item, text, more, button] = ["li", "div", "small", "button"].map((tag) => document.createElement(tag));
  const what = watcher.up ? `since ${clock(watcher.since)}${watcher.recorded ? ", records" : ""}` : "is about to";
  more.textContent = what;
  more.classList.toggle("recording", watcher.recorded);
  text.append(called(watcher), more);
  Object.assign(button, { type: "button", className: "action plain", textContent: "Send away" });
  button.setAttribute("aria-label", `Send away ${called(watcher)}`);
  button.onclick = () => broadcaster.sendAway(watcher.session, "the participant sent you away");
  item.append(text, button);
  return item;
}

function write(id, text) {
  writeTo($(id), text);
}

/** Say something that counts only for a while. */
function say(text) {
  passing = text;
  show();
  setTimeout(() => {
    if (passing !== text) return;
    passing = "";
    show();
  }, PASSING);
}

function log(text) {
  note($("lines"), text);
}

// What people do

$("form").onsubmit = (event) => {
  event.preventDefault();
  sending = true;
  beginCamera();
};
$("look").onclick = () => {
  sending = false;
  beginCamera();
};
$("send").onclick = () => {
  sending = true;
  beginCamera();
};
$("again").onclick = () => retry();
$("voice-alone").onclick = () => {
  sending = true;
  beginVoice();
};
for (const id of ["only-screen", "instead"]) {
  $(id).onclick = () => {
    sending = true;
    beginScreen();
  };
}
$("stop").onclick = () => (phase === "live" ? end("stopped", STOPPED) : end("welcome", null));
for (const name of ["camera", "microphone"]) {
  $(name).onclick = () => (sources[name] === null ? sources.choose(name).then(list) : sources.switch(name, !sources.off[name]));
  $(`${name}s`).onchange = ({ target }) => sources.choose(name, target.value).then(list);
}
$("screen").onclick = async () => {
  if (sources.screen !== null) return sources.unshare();
  try {
    await sources.share();
  } catch (error) {
    log(`${error.name}: ${error.message}`);
    if (problemOf(error) !== "denied") say("The screen could not be shared.");
  }
};
$("mirror").onchange = ({ target }) => {
  remember("camera.mirror", target.checked);
  show();
};
$("mesh").onchange = ({ target }) => {
  remember("camera.mesh", target.checked);
  setMesh(target.checked);
};

function setMesh(on) {
  overlay.mode = on ? "mesh" : "off";
  if (!on) preview.plain();
}

goTogether([...document.querySelectorAll(".tool-panel")]);

const list = () => offerDevices($("cameras"), $("microphones"), sources);

// What happens to the page

document.onvisibilitychange = () => {
  if (document.hidden) {
    left = performance.now();
  } else {
    if (phase === "live" && performance.now() - left > AWAY) {
      say("While this page was in the background, your picture may have slowed down or stopped: keep it in front.");
    }
  }
  keepAwake(isOpen() && !document.hidden);
  show();
};
addEventListener("pageshow", ({ persisted }) => persisted && reload());

const reload = () => location.reload();

/** Say what stands in the way before anybody is asked for anything. */
async function check() {
  const lacks = missing() ?? (window.isSecureContext && !navigator.mediaDevices ? "The use of cameras" : null);
  if (!window.isSecureContext) end("problem", INSECURE);
  else if (lacks !== null) end("problem", unsupported(lacks));
  else {
    navigator.mediaDevices.ondevicechange = () => isOpen() && list();
    const refusal = await refusalOf(url);
    if (refusal !== null && phase === "welcome") end("problem", refused(refusal), reload);
  }
}

$("asking").textContent = lab;
$("asking").parentElement.hidden = lab === "";
const room = shownName(query.get("room")) || invited.room;
$("goal").textContent = room ? `Into the room “${room}” of the server ${hostOf(server)}.` : `To the server ${hostOf(server)}.`;
$("called").value = query.get("name") ?? recall("called") ?? "";
$("naming").hidden = invited.name !== "";
$("named").hidden = invited.name === "";
$("named").textContent = `They see you as “${invited.name}”: your invitation says so.`;
$("voice").checked = recall("voice") !== "false";
$("only-screen").hidden = !canShare;
$("mirror").checked = recall("camera.mirror") !== "false";
$("mesh").checked = recall("camera.mesh") !== "false";
setMesh($("mesh").checked);
show();
check();

// What tests and people with a console read

window.synopticon = Object.freeze({
  get phase() { return phase; },
  get state() { return broadcaster?.state ?? null; },
  get broadcaster() { return broadcaster; },
  get session() { return broadcaster?.session ?? null; },
  get watchers() { return broadcaster?.watchers ?? []; },
  get faces() { return preview.faces; },
  get paired() { return preview.paired; },
  get age() { return preview.age; },
});
