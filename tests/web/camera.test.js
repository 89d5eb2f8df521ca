import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { choices, problemOf } from "./web/devices.js";
import { readToken } from "./web/places.js";
import { Retained } from "./web/retained.js";
import { curtainWords, describe, microphoneWords, recordedBy } from "./web/words.js";

test("a token tells people what it says of them, and one that is none says nothing", () => {
  const token = (claims) => `x.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.y`;
  assert.deepEqual(readToken(token({ name: "Zoë ", room: "lab" })), { name: "Zoë", room: "lab" });
  const told = readToken(token({ name: `a${"😀".repeat(100)}`, room: "lab\u202e\n" }));
  assert.deepEqual([told.name.isWellFormed(), told.room], [true, "lab"], "no half of a character, nor what turns words round");
  for (const none of [null, "", "x", "x.y.z", token(null), token({ name: 7 })]) {
    assert.deepEqual(readToken(none), { name: "", room: "" }, none);
  }
});

/** Pictures at 30 a second, kept as far as they can be. */
function retained(count) {
  const kept = new Retained();
  const pictures = Array.from({ length: count }, (_, at) => ({ at, close: mock.fn() }));
  pictures.forEach((picture, at) => kept.add(at * 33.3, picture));
  return { kept, closed: () => pictures.filter(({ close }) => close.mock.callCount() > 0).map(({ at }) => at) };
}

test("a picture meets what was found in it, and those before it are let go", () => {
  const { kept, closed } = retained(5);
  const message = { captured: 2 * 33.3 + 8 };
  const met = kept.take(message);
  assert.deepEqual([met.picture.at, met.message], [2, message]);
  assert.deepEqual(closed(), [0, 1]);
  assert.equal(kept.take({ captured: 33.3 }), null, "it never goes back");
  assert.equal(kept.take({ captured: 2.5 * 33.3 }), null, "between two pictures is neither");
  assert.equal(kept.take({ captured: 4 * 33.3 }).picture.at, 4);
});

test("what was found in a picture may be there before it is", () => {
  const { kept } = retained(3);
  const messages = [3, 4].map((at) => ({ captured: at * 33.3 }));
  for (const message of messages) assert.equal(kept.take(message), null);
  for (const [at, message] of messages.entries()) {
    assert.equal(kept.add((at + 3) * 33.3 - 5, { close() {} }).message, message);
  }
});

test("no more than twelve pictures and four messages wait", () => {
  const { kept, closed } = retained(15);
  assert.deepEqual(closed(), [0, 1, 2]);
  for (let at = 15; at < 20; at += 1) kept.take({ captured: at * 33.3 });
  assert.equal(kept.add(15 * 33.3, { close() {} }), null);
  assert.notEqual(kept.add(16 * 33.3, { close() {} }), null);
  assert.equal(closed().length, 15);
});

test("devices are called what they are called, and by their number before that is told", () => {
  const device = (kind, deviceId, label) => ({ kind, deviceId, label });
  const devices = [device("videoinput", "a", "Front"), device("audioinput", "b", "Mic"), device("videoinput", "c", "")];
  assert.deepEqual(choices(devices, "videoinput"), [{ id: "a", label: "Front" }, { id: "c", label: "Camera 2" }]);
  assert.deepEqual(choices([device("audioinput", "", "")], "audioinput"), []);
});

test("what keeps a camera from being opened is told apart", () => {
  const problem = (name, message = "") => problemOf({ name, message });
  assert.equal(problem("NotAllowedError", "Permission denied"), "denied");
  assert.equal(problem("NotAllowedError", "Permission denied by system"), "system");
  assert.equal(problem("NotReadableError"), "busy");
  assert.equal(problem("NotFoundError"), "none");
  assert.equal(problem("TypeError"), "other");
});

const watching = (up, more) => ({ session: "ws_4711", name: "", up, recorded: false, ...more });
const said = (state, watchers, more) => describe({ state, refusal: null, watchers, interrupted: null, server: "host", ...more })[0];

test("how it goes is said in words, and who watches counts more than the server", () => {
  assert.equal(said("connecting", []), "Connecting with the server…");
  assert.equal(said("ready", []), "Waiting for somebody to watch");
  assert.equal(said("ready", [watching(false)]), "Somebody comes to watch…");
  assert.equal(said("ready", [watching(true)]), "Sent to 1 receiver");
  assert.equal(said("unreachable", [watching(true), watching(true)]), "Sent to 2 receivers");
  assert.equal(said("unreachable", []), "The server cannot be reached, trying again…");
  assert.equal(said("ready", [], { interrupted: { name: "lab" } }), "The connection was interrupted, trying again…");
  assert.deepEqual(describe({ state: "refused", refusal: "It has expired", watchers: [], interrupted: null }), [
    "The server does not let you in",
    "It has expired.",
  ]);
});

test("it is said who records, and what stands in for a picture that is not there", () => {
  assert.equal(recordedBy([watching(true)]), "");
  assert.equal(recordedBy([watching(true, { recorded: true, name: "lab" }), watching(true)]), "Recorded by lab");
  assert.equal(curtainWords({ off: false, lack: null, paused: false }), "");
  assert.match(curtainWords({ off: true, lack: "unplugged", paused: false }), /Plug it in again/);
  assert.equal(curtainWords({ off: false, lack: "none", paused: false, voice: true }), "No camera was found. Only your voice is sent.");
  assert.match(curtainWords({ off: true, lack: null, paused: true }), /Nobody sees you/);
  assert.match(curtainWords({ off: false, lack: null, paused: true }), /paused the camera/);
  assert.match(microphoneWords("none"), /only your picture is sent/);
});
