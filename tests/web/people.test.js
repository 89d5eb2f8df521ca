import assert from "node:assert/strict";
import { test } from "node:test";

import { arrange } from "./web/layout.js";
import { People } from "./web/people.js";
import { absent, views } from "./web/views.js";
import { Voice } from "./web/voices.js";

/** People over a socket and connections that this test plays the other ends of. */
function room(t, options = {}) {
  t.mock.timers.enable();
  const peers = [];
  globalThis.RTCPeerConnection = class {
    localDescription = { type: "answer", sdp: "v=0" };
    connectionState = "new";
    constructor() {
      peers.push(this);
    }
    async setRemoteDescription() {}
    async setLocalDescription() {}
    async createAnswer() {}
    async getStats() {
      return new Map();
    }
    getReceivers() {
      return [];
    }
    close() {
      this.connectionState = "closed";
    }
  };
  globalThis.document = { hidden: false };
  t.after(() => ["RTCPeerConnection", "document"].forEach((name) => delete globalThis[name]));
  let socket;
  globalThis.WebSocket = class {
    sent = [];
    constructor() {
      socket = this;
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {}
  };
  globalThis.addEventListener = () => {};
  const on = { changed() {}, streams() {}, faces() {}, log() {} };
  const people = new People("ws://server/ws", { most: 3, ...options }, on);
  t.mock.timers.tick(0);
  const receive = (content) => socket.onmessage({ data: JSON.stringify(content) });
  receive({ type: "connected", sessionId: "ws_0" });
  const offer = (session, name, ufrag = session) =>
    receive({
      type: "webrtc_offer", sourceSession: session, name, accept: { control: ["control/1"] },
      sdp: { type: "offer", sdp: `o=- ${session} 1 IN IP4 0\r\na=ice-ufrag:${ufrag}\r\n` },
    });
  const connect = (session, name) => {
    offer(session, name);
    const peer = peers.filter(({ connectionState }) => connectionState === "new").at(-1);
    peer.connectionState = "connected";
    peer.onconnectionstatechange();
    return peer;
  };
  const sent = (type) => socket.sent.filter((message) => message.type === type);
  return { people, receive, offer, connect, sent, pass: (time) => t.mock.timers.tick(time) };
}

const told = (people) => people.list.map(({ name, state }) => `${name} ${state}`);

test("everybody who answers is taken, over one session, until there is no room for more", (t) => {
  const { people, receive, offer, connect, sent } = room(t);
  const broadcasters = ["a", "b", "c", "d"].map((name) => ({ session: `ws_${name}`, name }));
  receive({ type: "broadcasters", broadcasters });
  for (const { session, name } of broadcasters.slice(0, 3)) connect(session, name);
  offer("ws_d", "d");
  assert.deepEqual(told(people), ["a connected", "b connected", "c connected"]);
  assert.equal(people.more, 1);
  assert.match(absent(people), /One more is not shown/);
  assert.deepEqual(sent("webrtc_ice").map(({ targetSession, bye }) => [targetSession, bye]), [["ws_d", "another broadcaster was chosen"]]);
});

test("who is there is not asked again, nor is the page itself", (t) => {
  const { connect, receive, sent, pass } = room(t, { own: () => ["ws_own"] });
  receive({ type: "broadcasters", broadcasters: [{ session: "ws_own", name: "own" }] });
  connect("ws_a", "a");
  pass(10_000);
  const last = sent("request_offer").at(-1);
  assert.deepEqual([last.targetSession, last.unwanted], [undefined, ["ws_own", "ws_a"]]);
  receive({ type: "broadcaster_available", session: "ws_b", name: "b" });
  assert.equal(sent("request_offer").at(-1).targetSession, "ws_b");
  const count = sent("request_offer").length;
  receive({ type: "broadcaster_available", session: "ws_own", name: "own" });
  receive({ type: "broadcaster_available", session: "ws_a", name: "a" });
  assert.equal(sent("request_offer").length, count);
});

test("while a page is there that would begin anew, those alone are asked that the server tells of", (t) => {
  const { people, receive, sent, pass } = room(t);
  receive({ type: "broadcasters", broadcasters: [] });
  receive({ type: "webrtc_offer", sourceSession: "ws_page", sdp: { type: "offer", sdp: "v=0" } });
  assert.equal(people.list.length, 1);
  const count = sent("request_offer").length;
  pass(9_000);
  assert.equal(sent("request_offer").length, count);
});

test("who says goodbye is gone, and who is lost keeps their place until they are back", (t) => {
  const { people, receive, connect } = room(t);
  const [lost] = [connect("ws_a", "a"), connect("ws_b", "b"), connect("ws_c", "c")];
  receive({ type: "webrtc_ice", sourceSession: "ws_b", bye: "enough" });
  const closed = connect("ws_d", "d");
  closed.connectionState = "closed";
  closed.onconnectionstatechange();
  receive({ type: "webrtc_ice", sourceSession: "ws_d", bye: "whose connection was closed a moment before" });
  lost.connectionState = "failed";
  lost.onconnectionstatechange();
  assert.deepEqual(told(people), ["a interrupted", "c connected"]);
  const [{ id }] = people.list;
  connect("ws_a2", "a");
  assert.deepEqual(told(people), ["a connected", "c connected"]);
  assert.equal(people.list[0].id, id);
});

test("who was lost gives way to others", (t) => {
  const { people, connect } = room(t);
  const lost = connect("ws_a", "a");
  lost.connectionState = "failed";
  lost.onconnectionstatechange();
  for (const name of ["b", "c", "d"]) connect(`ws_${name}`, name);
  assert.deepEqual(told(people), ["b connected", "c connected", "d connected"]);
});

test("who does not let us watch is asked no more, and said", (t) => {
  const { people, receive, connect, sent, pass } = room(t);
  receive({ type: "broadcasters", broadcasters: [{ session: "ws_b", name: "b" }] });
  connect("ws_a", "a");
  for (const session of ["ws_a", "ws_b"]) receive({ type: "webrtc_ice", sourceSession: session, bye: "not you", refused: true });
  assert.deepEqual(people.list, []);
  assert.equal(absent(people), "a does not let you watch: not you. b does not let you watch: not you");
  pass(10_000);
  assert.deepEqual(sent("request_offer").at(-1).unwanted, ["ws_a", "ws_b"]);
  receive({ type: "broadcaster_gone", session: "ws_a" });
  assert.equal(absent(people), "b does not let you watch: not you");
});

test("a server that lists nonsense is believed nothing, and the rest goes on", (t) => {
  const { people, receive, connect } = room(t);
  connect("ws_a", "a");
  for (const broadcasters of [0, true, "ws_b", { a: 1 }, [null, 7, {}, { session: [] }]]) receive({ type: "broadcasters", broadcasters });
  assert.deepEqual(people.broadcasters, []);
  receive({ type: "broadcasters", broadcasters: [null, { session: "ws_b", name: "b" }] });
  assert.deepEqual(people.broadcasters, [{ session: "ws_b", name: "b" }]);
  assert.deepEqual(told(people), ["a connected"]);
});

/** Somebody as People gives them. */
function someone(id, changed, connection) {
  const nothing = { videos: [], sound: null, recorded: false, silent: false };
  return { id, name: `p${id}`, state: "connected", since: null, ...changed, connection: connection && { ...nothing, ...connection } };
}

test("everybody has a tile for each video, and one without any", () => {
  const [camera, screen] = [{ name: "camera", hint: "camera", muted: false, track: 1 }, { name: "screen", hint: "screen", muted: false, track: 2 }];
  const shown = views([
    someone(1, {}, { videos: [camera, screen], sound: { track: 3 } }),
    someone(2, {}, { sound: { track: 4 }, recorded: true }),
    someone(3, { state: "connecting" }, {}),
    someone(4, { state: "interrupted", since: new Date(2026, 0, 1, 12, 30) }, null),
    someone(5, {}, { videos: [{ ...camera, muted: true }], silent: true }),
  ]);
  assert.deepEqual(shown.map(({ key, name, words }) => [key, name, words]), [
    ["1", "p1", ""], ["1 screen", "p1 · screen", ""], ["2", "p2", "Sound alone"], ["3", "p3", "Connecting…"],
    ["4", "p4", "Gone since 12:30:00"], ["5", "p5", "Camera off"],
  ]);
  assert.deepEqual(shown.map(({ sound }) => sound), [3, null, 4, null, null, null]);
  assert.deepEqual([shown[2].recorded, shown[5].silent], [true, true]);
});

test("tiles fill their area, lie on none other, and are as large as they can be", () => {
  for (const [width, height] of [[288, 480], [358, 640], [736, 900], [812, 270], [1408, 760]]) {
    for (let count = 1; count <= 17; count++) {
      for (const large of [-1, 0, count - 1]) {
        const boxes = arrange(count, { width, height }, large);
        assert.equal(boxes.length, count);
        boxes.forEach((box, index) => {
          const { left, top } = box;
          assert.ok(left >= 0 && top >= 0 && left + box.width <= width && top + box.height <= height, `${[width, height, count, large]}`);
          assert.ok(box.width >= 34 && (index === large || box.width >= box.height), `${[width, height, count, large]}`);
          for (const other of boxes.slice(index + 1)) {
            const apart = left + box.width <= other.left || other.left + other.width <= left;
            assert.ok(apart || top + box.height <= other.top || other.top + other.height <= top, `${[width, height, count, large]}`);
          }
        });
        if (large >= 0 && count > 1) assert.ok(boxes.every(({ width }, index) => index === large || width < boxes[large].width));
      }
    }
  }
  assert.deepEqual(arrange(1, { width: 1600, height: 900 }), [{ left: 0, top: 0, width: 1600, height: 900 }]);
  assert.equal(arrange(2, { width: 0, height: 0 })[0].width, 0); // while nothing is laid out yet
});

test("somebody speaks from the second loud moment on, through pauses between words, and not at a click", () => {
  const voice = new Voice();
  const speaks = (level, now) => (voice.add(level, now), voice.speaks);
  assert.deepEqual([speaks(0.3, 0), speaks(0, 100), speaks(null, 200)], [false, false, false]);
  assert.deepEqual([speaks(0.1, 300), speaks(0.1, 400), speaks(0.008, 500)], [false, true, true]);
  assert.deepEqual([speaks(0, 1_100), speaks(0.008, 1_199), speaks(0.001, 1_898), speaks(0.001, 1_899)], [true, true, true, false]);
});
