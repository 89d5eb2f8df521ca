// What people send, with cameras that are slow, in use, unplugged and back: getUserMedia is the test's own.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Sources } from "./web/sources.js";

const failure = (name) => Object.assign(new Error(name), { name });

class Track {
  readyState = "live";
  enabled = true;

  constructor(id, kind) {
    Object.assign(this, { id, kind, label: id });
  }

  stop() {
    this.readyState = "ended";
  }

  getSettings() {
    return { deviceId: this.id };
  }

  unplug() {
    this.stop();
    this.onended();
  }
}

/** Sources of devices that open when they are told to: `asked` has each question, with `allow()` and `fail(name)`. */
function sources(devices = []) {
  const [asked, opened] = [[], []];
  const getUserMedia = (wanted) => {
    const [kind] = Object.keys(wanted);
    const id = wanted[kind].deviceId?.ideal ?? "any";
    return new Promise((resolve, reject) => {
      const allow = () => {
        const track = new Track(id, kind);
        opened.push(track);
        resolve({ getTracks: () => [track], getVideoTracks: () => [track] });
      };
      asked.push({ id, allow, fail: (name) => reject(failure(name)) });
    });
  };
  const mediaDevices = { getUserMedia, enumerateDevices: async () => devices };
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { mediaDevices } });
  const live = () => opened.filter(({ readyState }) => readyState === "live").map(({ id }) => id);
  return { sources: new Sources({ changed() {}, log() {} }), asked, live };
}

const soon = () => new Promise((resolve) => setImmediate(resolve));

test("of two cameras that are chosen at a time the last one counts, and they are opened one after the other", async () => {
  const { sources: sent, asked, live } = sources();
  const [first, second] = [sent.choose("camera", "slow"), sent.choose("camera", "quick")];
  assert.deepEqual(asked.map(({ id }) => id), ["slow"]);
  asked[0].allow();
  await first;
  await soon();
  assert.deepEqual(live(), []);
  asked[1].allow();
  await second;
  assert.equal(sent.camera.id, "quick");
  assert.deepEqual(live(), ["quick"]);
});

test("a camera that cannot be opened any more takes nothing from the one that was chosen after it", async () => {
  const { sources: sent, asked, live } = sources();
  const [first, second] = [sent.choose("camera", "busy"), sent.choose("camera", "free")];
  asked[0].fail("NotReadableError");
  await first;
  await soon();
  asked[1].allow();
  await second;
  assert.deepEqual([sent.camera.id, sent.lack.camera], ["free", null]);
  sent.close();
  assert.deepEqual(live(), []);
});

test("a camera that people switch off while it is being opened is off when it is there", async () => {
  const { sources: sent, asked } = sources();
  const chosen = sent.choose("camera", "slow");
  sent.switch("camera", true);
  asked[0].allow();
  await chosen;
  assert.deepEqual([sent.off.camera, sent.camera.enabled], [true, false]);
  const again = sent.choose("camera", "another");
  asked[1].allow();
  await again;
  assert.deepEqual([sent.off.camera, sent.camera.enabled], [false, true]);
});

test("a camera that is back is opened once, however often the browser tells of it, and stays off if it was", async () => {
  const { sources: sent, asked } = sources();
  const chosen = sent.choose("camera", "usb");
  asked[0].allow();
  await chosen;
  sent.switch("camera", true);
  sent.camera.unplug();
  assert.equal(sent.lack.camera, "unplugged");
  const looks = [1, 2, 3].map(() => sent.look([{ deviceId: "usb" }]));
  assert.equal(asked.length, 2);
  asked[1].allow();
  await Promise.all(looks);
  assert.deepEqual([sent.camera.id, sent.camera.enabled, sent.off.camera, sent.lack.camera], ["usb", false, true, null]);
});

test("people who take their leave back are not told to plug the camera in", async () => {
  for (const [deviceId, lack] of [["", "denied"], ["another", "unplugged"]]) {
    const { sources: sent, asked } = sources([{ kind: "audioinput", deviceId: "" }, { kind: "videoinput", deviceId }]);
    const chosen = sent.choose("camera", "one");
    asked[0].allow();
    await chosen;
    sent.camera.unplug();
    await soon();
    assert.deepEqual([sent.camera, sent.lack.camera], [null, lack]);
  }
});

test("a camera that is opened too late is closed at once", async () => {
  const { sources: sent, asked, live } = sources();
  const chosen = sent.choose("camera", "slow");
  sent.close();
  asked[0].allow();
  await chosen;
  assert.deepEqual([sent.camera, live()], [null, []]);
});
