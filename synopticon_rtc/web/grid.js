// The page that shows everybody in a room at once.

import { chooseMode, goWith, modeKeys, offerFullScreen, takeKeys, write } from "./controls.js";
import { note } from "./journal.js";
import { shownName } from "./names.js";
import { People } from "./people.js";
import { readAddress } from "./places.js";
import { missing } from "./support.js";
import { Tiles } from "./tiles.js";
import { absent, views } from "./views.js";

const MOST = 16; // people that are shown
const SHOW_INTERVAL = 500; // ms
const LOST_KEPT = 60_000; // ms for which a tile stays of somebody who went without a goodbye

const $ = (id) => document.getElementById(id);
const { body } = document;
const { query, server, url } = readAddress(location, history);

body.dataset.view = "grid";
$("tiles").hidden = false;
for (const id of ["video", "overlay", "mirror", "inset"]) $(id).hidden = true; // there are tiles instead
write($("name"), shownName(query.get("room")) || "Everybody");
document.title = `${$("name").textContent} · Synopticon`;

let from = query.get("from"); // whose tile is to be large as soon as it is there
const tiles = new Tiles($("tiles"), {
  large() {},
  silenced: () => setSound(false),
  log,
});
const lacks = missing();
const people =
  lacks === null
    ? new People(url, { most: MOST }, {
        changed: () => show(),
        streams: () => show(),
        faces: (person, message, name) => tiles.faces(person, message, name),
        log,
      })
    : { list: [], more: 0, declined: new Map(), refusal: null, reachable: true, session: null, close() {} };
if (lacks !== null) log(`${lacks} is missing or switched off in this browser`);

addEventListener("pagehide", () => people.close("the viewer was closed"));
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) location.reload();
});

// What it says

function show() {
  for (const person of people.list) {
    if (person.since !== null && person.connection === null && Date.now() - person.since > LOST_KEPT) people.forget(person);
  }
  const shown = views(people.list);
  tiles.show(shown);
  const wanted = shown.find(({ person }) => [person.name, person.session].includes(from));
  if (wanted) {
    from = null;
    tiles.enlarge(wanted.key);
  }
  body.dataset.state = state();
  body.toggleAttribute("data-picture", shown.length > 0);
  const [words, hint] = describe();
  for (const id of ["state", "headline"]) write($(id), words);
  write($("hint"), hint);
  write($("note"), absent(people));
  $("modes").disabled = shown.length === 0;
  $("sound").hidden = shown.every(({ sound }) => sound === null);
}
setInterval(show, SHOW_INTERVAL);
show();

function state() {
  if (lacks !== null) return "unsupported";
  if (people.list.some((person) => person.state === "connected")) return "connected";
  if (people.refusal !== null) return "refused";
  if (!people.reachable) return "unreachable";
  return people.list.length > 0 ? "connecting" : "seeking";
}

function describe() {
  switch (state()) {
    case "unsupported":
      return [
        "This browser cannot show live video",
        `${lacks} is missing or switched off in it. Current versions of Chrome, Edge, Firefox and Safari will do.`,
      ];
    case "refused":
      return ["The signaling server does not let you in", people.refusal];
    case "unreachable":
      return ["The signaling server is not reachable, trying again…", server];
    case "seeking":
      return ["Looking for people…", "Everybody who broadcasts appears here, as they come and go."];
    default: {
      const count = people.list.filter(({ connection }) => connection !== null).length + people.more;
      return [count === 1 ? "One is here" : `${count} are here`, ""];
    }
  }
}

function log(text) {
  note($("lines"), text);
}

// What people change

function setSound(on) {
  tiles.heard = on;
  $("sound").setAttribute("aria-pressed", on);
  $("sound").setAttribute("aria-label", on ? "Sound off" : "Sound on");
}

const showOne = () => goWith({ grid: null, ...(tiles.largest && { from: tiles.largest.name }) });
$("grid").setAttribute("aria-pressed", true);
$("grid").onclick = showOne;
$("sound").onclick = () => setSound(!tiles.heard);
const setMode = chooseMode($("modes"), (mode) => (tiles.mode = mode));
takeKeys({
  ...modeKeys($("modes"), setMode),
  s: () => $("sound").hidden || setSound(!tiles.heard),
  f: offerFullScreen($("fullscreen"), log),
  g: showOne,
  l: () => $("log").toggleAttribute("open"),
  Escape: () => tiles.large !== null && tiles.enlarge(null),
});

// What tests and people with a console read

window.synopticon = Object.freeze({
  get state() { return state(); },
  get session() { return people.session; },
  get large() { return tiles.large; },
  get people() { return tiles.summary; },
});
