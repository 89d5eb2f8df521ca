import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Broadcaster } from "./web/broadcaster.js";
import { Arrivals } from "./web/arrivals.js";
import { ClockOffset } from "./web/clock.js";
import { origin } from "./web/connection.js";
import { captureTime, Delays, readReport } from "./web/delays.js";
import { containedBox } from "./web/geometry.js";
import { Lips } from "./web/lips.js";
import { fingerprint, readMarked, Shift } from "./web/marks.js";
import { shownName } from "./web/names.js";
import { Pairing, rtpDifference } from "./web/pairing.js";
import { choices, readAddress, signalingBeside } from "./web/places.js";
import { withStartBitrate } from "./web/quality.js";
import { Receiver } from "./web/receiver.js";
import { Signaling } from "./web/signaling.js";
import { missing } from "./web/support.js";

const message = (rtpTimestamp) => ({ rtpTimestamp, captureTime: null, faces: [] });
const requirements = { role: ["receive"], tell: ["peers", "ice"] };
const frame = (number) => (number * 3_000) >>> 0; // RTP timestamps at 30 frames a second

/** A pairing that has seen the first frame with its faces, at time 0. */
function agreed() {
  const pairing = new Pairing();
  const first = message(frame(0));
  pairing.add(first, 0);
  assert.deepEqual(pairing.pick(frame(0), 0), { message: first, exact: true });
  return { pairing, first };
}

test("a frame gets its own faces, whether newer ones have come or not", () => {
  const { pairing } = agreed();
  const own = message(frame(1));
  pairing.add(own, 30);
  pairing.add(message(frame(2)), 60);
  assert.deepEqual(pairing.pick(frame(1), 70), { message: own, exact: true });
});

test("faces that come after their frame are its own", () => {
  const { pairing } = agreed();
  assert.equal(pairing.pick(frame(1), 33).exact, false);
  const late = message(frame(1));
  pairing.add(late, 50);
  assert.deepEqual(pairing.pick(frame(1), 50), { message: late, exact: true });
});

test("a frame without faces of its own gets those of the nearest frame, before or after it", () => {
  const { pairing, first } = agreed();
  assert.equal(pairing.pick(frame(1), 33).message, first);
  const next = message(frame(4));
  pairing.add(next, 100);
  assert.equal(pairing.pick(frame(3), 100).message, next);
});

test("faces more than 250 ms away are not shown", () => {
  const { pairing, first } = agreed();
  assert.equal(pairing.pick(22_500, 250).message, first);
  assert.equal(pairing.pick(22_501, 251).message, null);
});

test("a timestamp that was reckoned from the time of capture is that of the frame next to it", () => {
  const { pairing } = agreed();
  const found = { ...message(frame(2) + 900), captured: 77 }; // 10 ms off
  pairing.add(found, 100);
  assert.deepEqual(pairing.pick(frame(2), 100), { message: found, exact: true });
  assert.deepEqual(pairing.pick(frame(3), 120), { message: found, exact: false });
  pairing.add(message(frame(4) + 900), 130); // which tells its frame itself, so it is another one's
  assert.equal(pairing.pick(frame(4), 140).exact, false);
});

test("faces whose place is only guessed lie on the nearest frame, and are not called exact", () => {
  const { pairing } = agreed();
  const found = { ...message(frame(2) + 1_350), captured: 77, near: 16 }; // 15 ms off
  pairing.add(found, 80);
  assert.deepEqual(pairing.pick(frame(2), 80), { message: found, exact: false });
  const other = { ...found, rtpTimestamp: frame(9) + 1_500 }; // 17 ms off
  pairing.add(other, 300);
  assert.notEqual(pairing.pick(frame(9), 5_000).message, other);
});

test("when frames were captured is reckoned from the quickest of them", () => {
  const arrivals = new Arrivals();
  assert.equal(arrivals.captured(3), null);
  for (let number = 0; number < 60; number += 1) arrivals.add(frame(number), 1_000 + (number * 100) / 3 + (number % 7) * 5);
  assert.ok(Math.abs(arrivals.interval - 100 / 3) < 0.1);
  assert.ok(Math.abs(arrivals.captured(3) - (1_000 + (59 * 100) / 3 - 3 - 12)) < 0.1);
});

test("a frame is reckoned anew where a sender starts its timestamps anew, and where they wrap goes on", () => {
  const arrivals = new Arrivals();
  for (let number = -5; number < 5; number += 1) arrivals.add(frame(number), 1_000 + (number * 100) / 3);
  assert.ok(Math.abs(arrivals.captured(0) - (1_000 + 400 / 3 - 12)) < 0.1);
  arrivals.add(frame(90_000), 1_200);
  assert.equal(arrivals.captured(0), null);
});

test("pairing goes on when the RTP timestamp wraps", () => {
  const pairing = new Pairing();
  const last = message(2 ** 32 - 1_500);
  pairing.add(last, 0);
  assert.equal(pairing.pick(2 ** 32 - 1_500, 0).message, last);
  assert.deepEqual(pairing.pick(1_500, 33), { message: last, exact: false });
  const own = message(1_500);
  pairing.add(own, 40);
  assert.deepEqual(pairing.pick(1_500, 40), { message: own, exact: true });
  assert.equal(rtpDifference(1_500, 2 ** 32 - 1_500), 3_000);
  assert.equal(rtpDifference(2 ** 32 - 1_500, 1_500), -3_000);
});

test("without timestamps in the browser the newest faces are shown, while they are fresh", () => {
  const pairing = new Pairing();
  const newest = message(frame(2));
  pairing.add(message(frame(1)), 0);
  pairing.add(newest, 33);
  assert.deepEqual(pairing.pick(undefined, 60), { message: newest, exact: false });
  assert.equal(pairing.pick(undefined, 284).message, null);
});

test("without timestamps in the messages the newest faces are shown, while they are fresh", () => {
  const pairing = new Pairing();
  const newest = message(null);
  pairing.add(newest, 0);
  assert.deepEqual(pairing.pick(frame(7), 250), { message: newest, exact: false });
  assert.equal(pairing.pick(frame(8), 251).message, null);
});

test("when timestamps no longer agree the newest faces are shown after a second", () => {
  const { pairing } = agreed();
  const foreign = message(2_000_000_000);
  pairing.add(foreign, 990);
  assert.equal(pairing.pick(frame(30), 990).message, null);
  assert.equal(pairing.pick(frame(30), 1_000).message, foreign);
});

test("one who joins late pairs the frames from then on, and has none of the faces of before", () => {
  const pairing = new Pairing();
  assert.deepEqual(pairing.pick(frame(500), 0), { message: null, exact: false }); // from the keyframe that was kept
  const own = message(frame(501));
  pairing.add(own, 20);
  assert.deepEqual(pairing.pick(frame(501), 30), { message: own, exact: true });
});

test("a lost message costs its frame alone, which borrows from a neighbour", () => {
  const { pairing } = agreed();
  for (const number of [1, 3]) pairing.add(message(frame(number)), 33 * number);
  assert.equal(pairing.pick(frame(1), 100).exact, true);
  assert.equal(pairing.pick(frame(2), 133).exact, false);
  assert.ok([frame(1), frame(3)].includes(pairing.pick(frame(2), 133).message.rtpTimestamp));
  assert.equal(pairing.pick(frame(3), 166).exact, true);
});

test("a lost frame leaves its faces unused, and the others theirs", () => {
  const { pairing } = agreed();
  for (const number of [1, 2, 3, 4]) pairing.add(message(frame(number)), 33 * number);
  for (const number of [1, 3, 4]) {
    const picked = pairing.pick(frame(number), 33 * number + 20);
    assert.deepEqual([picked.exact, picked.message.rtpTimestamp], [true, frame(number)]);
  }
});

test("messages that overtake each other find their frames", () => {
  const { pairing } = agreed();
  for (const number of [3, 1, 4, 2]) pairing.add(message(frame(number)), 33);
  for (const number of [1, 2, 3, 4]) assert.equal(pairing.pick(frame(number), 66).message.rtpTimestamp, frame(number));
});

test("another size, another picture and a pause change nothing", () => {
  const { pairing } = agreed();
  const other = { ...message(frame(90)), width: 640, height: 480 };
  pairing.add(other, 3_000);
  assert.deepEqual(pairing.pick(frame(90), 3_010), { message: other, exact: true });
});

test("another broadcaster, with timestamps of its own, is paired at once", () => {
  agreed(); // a connection has a pairing of its own
  const pairing = new Pairing();
  const own = message(3_000_000_000);
  pairing.add(own, 0);
  assert.deepEqual(pairing.pick(3_000_000_000, 10), { message: own, exact: true });
});

test("a frame that waited two seconds finds its faces no more, and memory stays bounded", () => {
  const { pairing } = agreed();
  for (let number = 1; number <= 10_000; number++) pairing.add(message(frame(number)), (number * 1_000) / 30);
  assert.equal(pairing.pick(frame(9_930), 333_333).exact, false);
  assert.equal(pairing.pick(frame(9_945), 333_333).exact, true);
});

test("without timestamps in the browser a late copy does not take the place of newer faces", () => {
  const pairing = new Pairing();
  const newest = message(frame(2));
  pairing.add(newest, 0);
  for (const late of [message(frame(1)), message(frame(2))]) pairing.add(late, 5);
  assert.equal(pairing.pick(undefined, 10).message, newest);
  assert.equal(pairing.pick(undefined, 251).message, null);
});

test("a copy changes nothing", () => {
  const { pairing, first } = agreed();
  pairing.add(message(frame(0)), 20);
  assert.equal(pairing.pick(frame(0), 30).message, first);
});

for (const jump of [-90_000_000, -90_000, 2 ** 30, 2 ** 31 - 1]) {
  for (const delay of [-10, 10]) {
    test(`timestamps that start anew are followed: ${jump} ticks, faces ${delay} ms after their frames`, () => {
      const pairing = new Pairing();
      const events = [];
      for (let number = 0; number < 120; number++) {
        const timestamp = (2 ** 31 + number * 3_000 + (number < 60 ? 0 : jump + 1)) >>> 0;
        events.push({ time: (number * 1_000) / 30, number, timestamp });
        const own = { ...message(timestamp), number };
        events.push({ time: (number * 1_000) / 30 + delay, own });
      }
      let seen;
      const exact = new Set();
      for (const { time, number, timestamp, own } of events.sort((a, b) => a.time - b.time)) {
        if (own) pairing.add(own, time);
        else seen = { number, timestamp };
        if (!seen) continue;
        const picked = pairing.pick(seen.timestamp, time);
        if (picked.exact) exact.add(seen.number);
        if (picked.exact) assert.equal(picked.message.number, seen.number);
        // What is borrowed is of a frame nearby, and none of before the start.
        if (seen.number > 60 && picked.message) assert.ok(picked.message.number >= 60);
      }
      assert.equal(exact.size, 120);
    });
  }
}

test("faces of before a new start that come late are not shown", () => {
  const { pairing } = agreed();
  pairing.add(message(frame(100)), 3_330);
  assert.equal(pairing.pick(frame(100), 3_333).exact, true);
  pairing.pick(frame(0), 3_366);
  pairing.add(message(frame(99)), 3_370);
  assert.equal(pairing.pick(frame(0), 3_370).message, null);
});

test("a flood of messages takes bounded memory", () => {
  const pairing = new Pairing();
  for (let number = 0; number < 10_000; number++) pairing.add(message(number * 3_000), 0);
  const found = Array.from({ length: 10_000 }, (_, number) => pairing.pick(number * 3_000, 1).exact);
  assert.equal(found.lastIndexOf(false), 10_000 - 257);
});

test("whatever comes late, twice or never, a frame gets none but its own faces as its own", () => {
  let seed = 7;
  const chance = () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647; // Park and Miller's
  for (let round = 0; round < 50; round++) {
    const pairing = new Pairing();
    const events = [];
    let base = Math.floor(chance() * 2 ** 32);
    for (let number = 0; number < 100; number++) {
      if (chance() < 0.03) base = Math.floor(chance() * 2 ** 32);
      const timestamp = (base + number * 3_000) >>> 0;
      const time = (number * 1_000) / 30;
      const own = { ...message(timestamp), number };
      events.push({ time, number, timestamp });
      for (let copy = 0; copy < Math.floor(chance() * 3); copy++) events.push({ time: time + chance() * 200, own });
    }
    for (const { time, number, timestamp, own } of events.sort((a, b) => a.time - b.time)) {
      if (own) {
        pairing.add(own, time);
        continue;
      }
      const { message: picked, exact } = pairing.pick(timestamp, time);
      if (exact) assert.equal(picked.number, number);
    }
  }
});

test("the clock offset is that of the exchange which took least", () => {
  const clock = new ClockOffset();
  assert.equal(clock.value, null);
  clock.add(0, 100, 1_080); // 50 ms of it in the queue of one direction
  assert.equal(clock.value, 1_030);
  clock.add(1_000, 1_010, 2_005);
  clock.add(2_000, 2_100, 3_080);
  assert.equal(clock.value, 1_000);
});

test("an exchange counts for the next nine only, so that the offset follows a clock that drifts", () => {
  const clock = new ClockOffset();
  clock.add(0, 10, 1_005);
  for (let i = 1; i <= 10; i++) clock.add(i * 1_000, i * 1_000 + 20, i * 1_000 + 510);
  assert.equal(clock.value, 500);
});

test("a wide picture has bars above and below, a tall one at the sides", () => {
  const element = { width: 800, height: 600 };
  const wide = containedBox(element, { width: 1280, height: 720 }, 1);
  const tall = containedBox(element, { width: 300, height: 600 }, 2);
  assert.deepEqual(wide, { left: 0, top: 75, width: 800, height: 450 });
  assert.deepEqual(tall, { left: 250, top: 0, width: 300, height: 600 });
});

test("the picture's edges lie on device pixels", () => {
  const box = containedBox({ width: 733, height: 611 }, { width: 1280, height: 720 }, 1.5);
  for (const edge of [box.left, box.top, box.left + box.width, box.top + box.height]) {
    assert.ok(Math.abs(edge * 1.5 - Math.round(edge * 1.5)) < 1e-9);
  }
});

test("a picture that is not there yet takes no room", () => {
  const nothing = { left: 0, top: 0, width: 0, height: 0 };
  assert.deepEqual(containedBox({ width: 800, height: 600 }, { width: 0, height: 0 }, 1), nothing);
  assert.deepEqual(containedBox({ width: 0, height: 0 }, { width: 1280, height: 720 }, 1), nothing);
});

const listeners = {};

/** A signaling session over sockets that this test plays the server of. */
function signaling(t) {
  t.mock.timers.enable();
  t.mock.method(globalThis, "fetch", async () => ({ status: 426 }));
  const sockets = [];
  class Socket {
    sent = [];
    closed = false;
    constructor() {
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.closed = true;
    }
    receive(content) {
      this.onmessage({ data: typeof content === "string" ? content : JSON.stringify(content) });
    }
    welcome(sessionId) {
      this.receive({ type: "connected", sessionId });
    }
  }
  globalThis.WebSocket = Socket;
  globalThis.addEventListener = (name, listener, { signal }) => (listeners[name] ??= []).push({ listener, signal });
  const on = { opened: mock.fn(), iceServers: mock.fn(), received: mock.fn(), lost: mock.fn(), refused: mock.fn() };
  const session = new Signaling("ws://server/ws", on, requirements);
  t.mock.timers.tick(0);
  return { session, sockets, on, pass: (time) => t.mock.timers.tick(time) };
}

test("a session says what it is and wants to be told, before all else", (t) => {
  const { sockets, on } = signaling(t);
  sockets[0].welcome("ws_1");
  assert.deepEqual(sockets[0].sent, [{ type: "configure", requirements }]);
  sockets[0].receive({ type: "configured", sessionId: "ws_1", requirements });
  assert.equal(on.received.mock.callCount(), 0);
});

test("a session asks for fresh credentials before those that it has expire", (t) => {
  const { sockets, on, pass } = signaling(t);
  const iceServers = [{ urls: "stun:host" }];
  sockets[0].receive({ type: "connected", sessionId: "ws_1", iceServers, iceServersTtl: 40 });
  assert.deepEqual(on.iceServers.mock.calls.at(-1).arguments, [iceServers]);
  const asked = () => sockets[0].sent.filter(({ type }) => type === "configure").length;
  const live = () => {
    pass(10_000);
    sockets[0].receive({ type: "webrtc_ice", sourceSession: "ws_1" });
    return asked();
  };
  assert.deepEqual([live(), live(), live()], [1, 1, 2]);
  sockets[0].receive({ type: "configured", sessionId: "ws_1", iceServers: [], iceServersTtl: 3_600 });
  assert.deepEqual([live(), live(), live()], [2, 2, 2]);
  assert.deepEqual(on.iceServers.mock.calls.at(-1).arguments, [[]]);
});

test("a server that does not let a page in is asked why, and not tried again", async (t) => {
  const { sockets, on, pass } = signaling(t);
  t.mock.method(globalThis, "fetch", async () => ({ status: 401, json: async () => ({ message: "It has expired" }) }));
  await sockets[0].onclose({ code: 1006, reason: "" });
  assert.deepEqual(on.refused.mock.calls[0].arguments, ["It has expired"]);
  pass(60_000);
  assert.equal(sockets.length, 1);
  assert.equal(on.lost.mock.callCount(), 0);
});

test("a link that was opened once more in the same browser is left to the newer page", async (t) => {
  const { sockets, on, pass } = signaling(t);
  sockets[0].welcome("ws_1");
  await sockets[0].onclose({ code: 4409, reason: "Opened once more" });
  assert.deepEqual(on.refused.mock.calls[0].arguments, ["Opened once more"]);
  pass(60_000);
  assert.equal(sockets.length, 1);
});

test("a session that was refused or closed does not come back with the network", async (t) => {
  for (const end of ["refused", "closed"]) {
    const { session, sockets, pass } = signaling(t);
    const online = listeners.online.at(-1);
    t.mock.method(globalThis, "fetch", async () => ({ status: 403, json: async () => ({ message: "No" }) }));
    if (end === "refused") await sockets[0].onclose({ code: 1006, reason: "" });
    else session.close();
    online.listener();
    pass(60_000);
    assert.equal(sockets.length, 1, end);
    assert.ok(online.signal.aborted, "and its listener is gone");
    t.mock.timers.reset();
  }
});

test("a session that is lost comes back at once with the network", async (t) => {
  const { sockets } = signaling(t);
  await sockets[0].onclose({ code: 1006, reason: "" });
  listeners.online.at(-1).listener();
  assert.equal(sockets.length, 2);
});

test("a session sends a ping and a message to itself every ten seconds", (t) => {
  const { sockets, pass } = signaling(t);
  sockets[0].welcome("ws_1");
  pass(10_000);
  assert.deepEqual(sockets[0].sent.slice(1).map(({ type, targetSession }) => [type, targetSession]), [
    ["ping", undefined],
    ["webrtc_ice", "ws_1"],
  ]);
});

test("a session that no longer hears itself is left for a new one", (t) => {
  const { session, sockets, on, pass } = signaling(t);
  sockets[0].welcome("ws_1");
  pass(10_000);
  sockets[0].receive({ type: "webrtc_ice", sourceSession: "ws_1" });
  pass(10_000);
  sockets[0].receive({ type: "pong", sessionId: "ws_1" });
  assert.equal(on.lost.mock.callCount(), 0);
  pass(4_000);
  assert.equal(on.lost.mock.callCount(), 1);
  assert.ok(sockets[0].closed);
  assert.equal(session.session, null);
  pass(500);
  sockets[1].welcome("ws_2");
  assert.equal(session.session, "ws_2");
});

test("a session that is in doubt is left soon, unless it hears itself", (t) => {
  const { session, sockets, on, pass } = signaling(t);
  session.doubt(); // there is none yet
  sockets[0].welcome("ws_1");
  session.doubt();
  sockets[0].receive({ type: "webrtc_ice", sourceSession: "ws_1" });
  pass(1_500);
  assert.equal(on.lost.mock.callCount(), 0);
  session.doubt();
  pass(1_500);
  assert.equal(on.lost.mock.callCount(), 1);
});

test("echoes of a session are not passed on, messages of others are, and what is no message is ignored", (t) => {
  const { sockets, on } = signaling(t);
  sockets[0].welcome("ws_1");
  sockets[0].receive({ type: "webrtc_ice", sourceSession: "ws_1" });
  for (const hostile of ["", "{", "null", "7", '"text"']) sockets[0].receive(hostile);
  sockets[0].receive({ type: "webrtc_offer", sourceSession: "ws_2" });
  assert.deepEqual(on.received.mock.calls.map((call) => call.arguments[0].type), ["webrtc_offer"]);
});

test("a server that is away is tried less and less often, at least every four seconds", async (t) => {
  const { sockets, pass } = signaling(t);
  for (let i = 0; i < 8; i++) {
    const socket = sockets.at(-1);
    await socket.onclose({ code: 1006, reason: "" });
    pass(Math.min(250 * 2 ** i, 2_000) - 1);
    assert.equal(sockets.at(-1), socket);
    pass(Math.min(500 * 2 ** i, 4_000));
    assert.notEqual(sockets.at(-1), socket);
  }
});

test("a server that does not welcome is tried again", (t) => {
  const { sockets, on, pass } = signaling(t);
  pass(5_000);
  assert.equal(on.lost.mock.callCount(), 1);
  pass(500);
  assert.equal(sockets.length, 2);
});

test("offers of one peer connection are told by their session and their ICE ufrag", () => {
  const sdp = (session, version, ufrag) =>
    `v=0\r\no=- ${session} ${version} IN IP4 127.0.0.1\r\ns=-\r\na=ice-ufrag:${ufrag}\r\n`;
  assert.equal(origin(sdp(4711, 2, "abcd")), origin(sdp(4711, 3, "abcd")));
  assert.notEqual(origin(sdp(4711, 2, "abcd")), origin(sdp(4712, 2, "abcd")));
  assert.notEqual(origin(sdp(4711, 2, "abcd")), origin(sdp(4711, 2, "else")));
  assert.notEqual(origin("v=0"), origin("v=0\r\n"));
});

test("what is sent while there is no session is lost without an error", (t) => {
  const { session, sockets } = signaling(t);
  session.relay("request_offer", null, {});
  assert.deepEqual(sockets[0].sent, []);
});

test("a broadcaster with which the browser can make no connection is let go, and looked for again", (t) => {
  t.mock.timers.enable();
  const sockets = [];
  globalThis.WebSocket = class {
    sent = [];
    constructor() {
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {}
  };
  globalThis.addEventListener = () => {};
  globalThis.RTCPeerConnection = class {
    constructor() {
      throw new Error("Cannot create so many PeerConnections");
    }
  };
  const said = [];
  const on = { changed() {}, track() {}, faces() {}, log: (text) => said.push(text) };
  const receiver = new Receiver("ws://server/ws", null, on);
  t.mock.timers.tick(0);
  const [socket] = sockets;
  const receive = (content) => socket.onmessage({ data: JSON.stringify(content) });
  receive({ type: "connected", sessionId: "ws_1" });
  const sdp = { type: "offer", sdp: "v=0" };
  receive({ type: "webrtc_offer", sourceSession: "ws_2", sdp, accept: { control: ["control/1"] } });
  assert.match(said.at(-1), /No connection can be made: Cannot create so many/);
  assert.equal(receiver.state, "seeking");
  assert.deepEqual(socket.sent.at(-1).bye, "the browser can make no connection");
  const asked = socket.sent.length;
  t.mock.timers.tick(2_000);
  assert.ok(socket.sent.length > asked);
  delete globalThis.RTCPeerConnection;
});

test("what a browser lacks is told", () => {
  const { WebSocket, RTCPeerConnection, RTCDataChannel } = globalThis;
  class Peer {
    createDataChannel() {}
    close() {}
  }
  class Forbidden extends Peer {
    constructor() {
      super();
      throw new Error("forbidden");
    }
  }
  const without = { WebSocket: class {}, RTCPeerConnection: Peer, RTCDataChannel: class {} };
  const lacking = (changed) => {
    Object.assign(globalThis, without, changed);
    return missing();
  };
  assert.equal(lacking({}), null);
  assert.equal(lacking({ RTCPeerConnection: undefined }), "WebRTC");
  assert.equal(lacking({ RTCPeerConnection: null }), "WebRTC");
  assert.equal(lacking({ RTCPeerConnection: Forbidden }), "WebRTC");
  assert.equal(lacking({ RTCPeerConnection: class {} }), "The data channel of WebRTC");
  assert.equal(lacking({ RTCDataChannel: undefined }), "The data channel of WebRTC");
  assert.equal(lacking({ WebSocket: undefined }), "WebSocket");
  Object.assign(globalThis, { WebSocket, RTCPeerConnection, RTCDataChannel });
});

const REPORT = { type: "report", rtpTimestamp: 2 ** 32 - 9_000, captured: 5_000, capture: 1, encoding: 6, detection: 9 };

test("the parts make up the delay", () => {
  const delays = new Delays();
  for (const time of [0, 500, 900]) delays.add({ transit: 20, decoding: 2, local: 14 }, time);
  assert.equal(delays.total(900), 34);
  assert.deepEqual(delays.parts(readReport(REPORT), 900), {
    capture: 1, encoding: 6, network: 13, decoding: 2, waiting: 12, detection: 9,
  });
});

test("only the last second counts", () => {
  const delays = new Delays();
  delays.add({ transit: 900, decoding: 2, local: 14 }, 0);
  delays.add({ transit: 20, decoding: 2, local: 14 }, 800);
  assert.equal(delays.total(1_100), 34);
  assert.equal(delays.total(1_900), null);
});

test("what a broadcaster or a browser does not tell is unknown, and the rest is not", () => {
  const nothing = { capture: null, encoding: null, network: null, decoding: null, waiting: null, detection: null };
  const delays = new Delays();
  assert.deepEqual([delays.total(0), delays.parts(null, 0)], [null, nothing]);
  delays.add({ transit: NaN, decoding: 2, local: 14 }, 0); // of a page
  assert.deepEqual([delays.total(0), delays.parts(null, 0)], [null, { ...nothing, decoding: 2, waiting: 12 }]);
  const older = new Delays();
  older.add({ transit: NaN, decoding: NaN, local: NaN }, 0); // without requestVideoFrameCallback
  assert.deepEqual([older.total(0), older.parts(readReport(REPORT), 0)], [
    null, { ...nothing, capture: 1, encoding: 6, detection: 9 },
  ]);
});

test("a way that clocks make too short takes no time", () => {
  const delays = new Delays();
  delays.add({ transit: 5, decoding: 2, local: 14 }, 0);
  assert.equal(delays.parts(readReport(REPORT), 0).network, 0);
});

test("capture times follow the RTP timestamps around their wrap", () => {
  assert.equal(captureTime(REPORT, 2 ** 32 - 9_000), 5_000);
  assert.equal(captureTime(REPORT, 9_000), 5_200);
  assert.equal(captureTime(REPORT, 2 ** 32 - 18_000), 4_900);
});

test("a report that is none is not believed", () => {
  for (const wrong of [-1, 2 ** 32, 1.5, "1", null, undefined]) {
    assert.equal(readReport({ ...REPORT, rtpTimestamp: wrong }), null);
  }
  for (const wrong of [NaN, Infinity, 1e16, "now", undefined]) {
    assert.equal(readReport({ ...REPORT, captured: wrong }), null);
  }
  for (const wrong of [-1, 1e9, NaN, "6", null, undefined]) {
    assert.equal(readReport({ ...REPORT, encoding: wrong }).encoding, null);
  }
});

/** A receiver that plays what was captured some ms ago, and what it is held back more. */
function receiver(age) {
  const each = {
    jitterBufferTarget: 0,
    age,
    getStats: async () =>
      new Map([
        ["codec", { type: "codec" }],
        ["in", { type: "inbound-rtp", timestamp: 1e6, estimatedPlayoutTimestamp: 1e6 - each.age - each.jitterBufferTarget }],
      ]),
  };
  return each;
}

test("the picture is held back until its sound is there, and no longer once that comes sooner", async () => {
  const [lips, picture, sound] = [new Lips(), receiver(20), receiver(90)];
  for (let count = 0; count < 20; count += 1) await lips.keep(picture, sound, 0);
  assert.ok(Math.abs(picture.jitterBufferTarget - 70) < 1);
  sound.age = 40;
  for (let count = 0; count < 20; count += 1) await lips.keep(picture, sound, 0);
  assert.ok(Math.abs(picture.jitterBufferTarget - 20) < 1);
  sound.age = 10;
  for (let count = 0; count < 20; count += 1) await lips.keep(picture, sound, 0);
  assert.deepEqual([picture.jitterBufferTarget, sound.jitterBufferTarget], [0, 0]);
});

test("both are held back until faces are there that come later than their frames", async () => {
  const [lips, picture, sound] = [new Lips(), receiver(20), receiver(90)];
  for (let count = 0; count < 20; count += 1) await lips.keep(picture, sound, 100);
  assert.equal(sound.jitterBufferTarget, 100);
  assert.ok(Math.abs(picture.jitterBufferTarget - 170) < 1);
  await lips.keep(picture, null, 80); // it is not heard any more
  assert.deepEqual([picture.jitterBufferTarget, sound.jitterBufferTarget], [80, 0]);
  lips.release();
  assert.deepEqual([picture.jitterBufferTarget, sound.jitterBufferTarget], [0, 0]);
});

test("a picture that goes with no sound any more is shown at once", async () => {
  const [lips, one, other, sound] = [new Lips(), receiver(0), receiver(0), receiver(1_000)];
  for (let count = 0; count < 20; count += 1) await lips.keep(one, sound, 0);
  assert.equal(one.jitterBufferTarget, 500);
  await lips.keep(other, sound, 0);
  assert.deepEqual([one.jitterBufferTarget, other.jitterBufferTarget], [0, 250]);
  lips.release();
  assert.equal(other.jitterBufferTarget, 0);
});

test("where a browser does not tell when it plays what, all stays as it has it", async () => {
  const [lips, picture, sound] = [new Lips(), receiver(0), receiver(50)];
  sound.getStats = async () => new Map([["in", { type: "inbound-rtp", timestamp: 1e6 }]]);
  await lips.keep(picture, sound, 0);
  sound.getStats = () => Promise.reject(new Error("closed"));
  await lips.keep(picture, sound, 0);
  assert.equal(picture.jitterBufferTarget, 0);
});

test("the signaling is beside the page, below whatever prefix", () => {
  const at = (href) => signalingBeside({ href });
  assert.equal(at("http://127.0.0.1:8081/"), "ws://127.0.0.1:8081/ws");
  assert.equal(at("https://host/cam/?room=lab#x"), "wss://host/cam/ws");
  assert.equal(at("https://host:444/a/b/index.html?from=x"), "wss://host:444/a/b/ws");
  assert.equal(at("http://[::1]:8081/"), "ws://[::1]:8081/ws");
});

test("a token leaves the address of a page, and lets it in when it is loaded again", () => {
  const history = {
    state: null,
    replaceState(state, _, address) {
      [this.state, this.address] = [state, address];
    },
  };
  const at = (search) => readAddress({ href: `https://host/cam/${search}`, search, hash: "#x" }, history);
  const known = /^wss:\/\/host\/cam\/ws\?room=lab&token=secret&holder=[0-9a-f]{24}$/;
  assert.match(at("?room=lab&token=secret").url, known);
  assert.equal(history.address, "?room=lab#x");
  assert.match(at("?room=lab").url, known);
  assert.equal(at("?url=wss%3A%2F%2Felsewhere%2Fws").server, "wss://elsewhere/ws");
  assert.equal(at("?url=nonsense").url, "nonsense");
});

test("a page with a token is known by the same word each time, where a browser can remember it", () => {
  const kept = new Map();
  const url = () => readAddress({ href: "https://host/", search: "?token=x", hash: "" }, { replaceState() {} }).url;
  assert.notEqual(url(), url());
  globalThis.localStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  assert.equal(url(), url());
  delete globalThis.localStorage;
  assert.equal(readAddress({ href: "https://host/", search: "", hash: "" }, {}).url, "wss://host/ws");
});

test("broadcasters are chosen by name, and by session where names do not tell them apart", () => {
  const present = [{ session: "ws_1", name: "lab" }, { session: "ws_2", name: "lab" }, { session: "ws_3", name: "hall" }];
  assert.deepEqual(choices(present, null).map(({ value }) => value), ["", "ws_1", "ws_2", "hall"]);
  assert.deepEqual(choices([{ session: "ws_4567", name: "" }], null)[1], { value: "ws_4567", text: "Broadcaster …4567" });
});

test("who is asked for stays in the list when gone", () => {
  assert.deepEqual(choices([{ session: "ws_1", name: "lab" }], "hall").at(-1), { value: "hall", text: "hall (not there)" });
  assert.equal(choices([{ session: "ws_1", name: "lab" }], "lab").length, 2);
  assert.equal(choices([{ session: "ws_1", name: "lab" }], "ws_1").length, 2);
});

/** A broadcaster over sockets that this test plays the server of; its connections never come about. */
function publishing(t) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const [sockets, peers, said] = [[], [], []];
  const [senders, channel] = [[], { readyState: "connecting", send: (text) => said.push(JSON.parse(text)) }];
  globalThis.WebSocket = class {
    sent = [];
    constructor() {
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {}
  };
  globalThis.RTCPeerConnection = class {
    signalingState = "stable";
    addTransceiver(given) {
      const track = typeof given === "string" ? null : given;
      const sender = { track, replaceTrack: async (other) => (sender.track = other) };
      senders.push(sender);
      return { sender, receiver: { track: given }, mid: `${senders.length - 1}`, currentDirection: "sendonly" };
    }
    createDataChannel() {
      return channel;
    }
    async setLocalDescription() {
      peers.push(this);
      this.signalingState = "have-local-offer";
      this.localDescription = { type: "offer", sdp: `v=0 ${peers.length}` };
    }
    async setRemoteDescription() {
      this.signalingState = "stable";
    }
    close() {
      this.isClosed = true;
    }
  };
  globalThis.RTCRtpSender = { getCapabilities: () => null };
  globalThis.MediaStream = class {};
  globalThis.addEventListener = () => {};
  const on = { changed() {}, faces() {}, log() {} };
  const broadcaster = new Broadcaster("ws://server/ws", { name: "Ada" }, on);
  const accept = { control: ["control/1"], streams: ["streams/1"] };
  const receive = async (content) => {
    sockets.at(-1).onmessage({ data: JSON.stringify(content) });
    await new Promise(setImmediate);
  };
  return {
    broadcaster, on, peers, receive, senders,
    told: (kind) => said.filter(({ type }) => type === kind),
    open: () => (Object.assign(channel, { readyState: "open" }), channel.onopen(), new Promise(setImmediate)),
    tell: (content) => (channel.onmessage({ data: JSON.stringify(content) }), new Promise(setImmediate)),
    pass: (time) => t.mock.timers.tick(time),
    welcome: (sessionId) => (t.mock.timers.tick(5_000), receive({ type: "connected", sessionId })),
    seek: (content = {}) => receive({ type: "request_offer", sourceSession: "ws_r", accept, ...content }),
    answer: () => receive({ type: "webrtc_answer", sourceSession: "ws_r", sdp: { type: "answer", sdp: "v=0" } }),
    sent: (kind) => sockets.flatMap(({ sent }) => sent).filter(({ type }) => type === kind),
  };
}

test("a broadcaster makes one offer a handshake, and another one to who asks anew", async (t) => {
  const { broadcaster, peers, welcome, seek, answer, sent } = publishing(t);
  broadcaster.publish("camera", { kind: "video" });
  await welcome("ws_b");
  await seek();
  await seek({ type: "webrtc_seek_broadcaster" });
  assert.equal(sent("webrtc_offer").length, 1);
  const { targetSession, name, accept } = sent("webrtc_offer")[0];
  assert.deepEqual([targetSession, name, accept.return], ["ws_r", "Ada", ["faces/1"]]);
  await answer();
  await seek();
  assert.equal(sent("webrtc_offer").length, 2);
  assert.deepEqual(peers.map(({ isClosed }) => isClosed === true), [true, false]);
});

test("an offer that is not answered is made once more, and then given up", async (t) => {
  const { broadcaster, welcome, seek, pass, sent } = publishing(t);
  broadcaster.publish("camera", { kind: "video" });
  await welcome("ws_b");
  await seek();
  pass(1_000);
  assert.equal(sent("webrtc_offer").length, 2);
  assert.equal(sent("webrtc_offer")[1].sdp.sdp, sent("webrtc_offer")[0].sdp.sdp);
});

test("who asks before anything is published is answered then, and a page once there is video", async (t) => {
  const { broadcaster, welcome, seek, sent } = publishing(t);
  await welcome("ws_b");
  await seek();
  await seek({ sourceSession: "ws_page", accept: undefined });
  assert.deepEqual(sent("webrtc_offer"), []);
  const asked = () => sent("webrtc_offer").map(({ targetSession }) => targetSession);
  broadcaster.publish("microphone", { kind: "audio" });
  await new Promise(setImmediate);
  assert.deepEqual(asked(), ["ws_r"]);
  broadcaster.publish("camera", { kind: "video" });
  assert.deepEqual(broadcaster.watchers.map(({ session }) => session), ["ws_r"]);
  await new Promise(setImmediate);
  assert.deepEqual(broadcaster.watchers.map(({ session }) => session), ["ws_r", "ws_page"]);
});

test("a broadcaster that is not meant, or that somebody has already, keeps silent", async (t) => {
  const { broadcaster, welcome, seek, sent } = publishing(t);
  broadcaster.publish("camera", { kind: "video" });
  await welcome("ws_b");
  await seek({ want: "Grace" });
  await seek({ unwanted: ["ws_x", "ws_b"] });
  assert.deepEqual(sent("webrtc_offer"), []);
  for (const [sourceSession, want] of [["ws_1", "Ada"], ["ws_2", "ws_b"]]) await seek({ sourceSession, want });
  assert.equal(sent("webrtc_offer").length, 2);
});

test("who is not admitted is told so each time that they ask, and asked about once", async (t) => {
  const { broadcaster, peers, welcome, seek, sent } = publishing(t);
  broadcaster.publish("camera", { kind: "video" });
  broadcaster.admit = t.mock.fn(async ({ name }) => name === "Grace");
  await welcome("ws_b");
  await seek();
  await seek();
  const refusal = { bye: "the broadcaster does not admit you", refused: true };
  assert.deepEqual(sent("webrtc_ice").map(({ bye, refused }) => ({ bye, refused })), [refusal, refusal]);
  assert.equal(peers.length, 0);
  await seek({ sourceSession: "ws_g", name: "Grace" });
  assert.deepEqual(sent("webrtc_offer").map(({ targetSession }) => targetSession), ["ws_g"]);
  assert.equal(broadcaster.admit.mock.callCount(), 2);
});

test("who is admitted only once the broadcaster is closed gets no connection, nor who waited for a picture", async (t) => {
  const { broadcaster, peers, welcome, seek } = publishing(t);
  let decide;
  await welcome("ws_b");
  await seek();
  broadcaster.admit = () => new Promise((resolve) => (decide = resolve));
  await seek({ sourceSession: "ws_asked" });
  broadcaster.publish("camera", { kind: "video" });
  broadcaster.close();
  decide(true);
  await new Promise(setImmediate);
  assert.deepEqual([peers.length, broadcaster.watchers], [0, []]);
});

test("a receiver that floods a page with faces takes a part of its time, and has so many channels", async (t) => {
  const { broadcaster, on, peers, welcome, seek } = publishing(t);
  let [time, taken] = [5_000, 0];
  t.mock.method(performance, "now", () => time);
  on.faces = () => {
    taken += 1;
    time += 50; // it takes so long to draw them
  };
  broadcaster.publish("camera", { kind: "video" });
  await welcome("ws_b");
  await seek();
  const channels = Array.from({ length: 9 }, (_, i) => ({
    label: `returned:${i}`, protocol: "faces/1", close() { this.isClosed = true; },
  }));
  for (const channel of channels) peers[0].ondatachannel({ channel });
  assert.deepEqual(channels.map(({ isClosed }) => isClosed === true), [...Array(8).fill(false), true]);
  const nobody = Uint8Array.of(0xfa, 1, 0, 0, 0, 0, 0, 0).buffer;
  for (let count = 0; count < 100; count += 1) channels[count % 8].onmessage({ data: nobody });
  assert.equal(taken, 8);
  time += 1_000;
  channels[0].onmessage({ data: nobody });
  assert.equal(taken, 9);
});

test("who is sent away is told why, and gets nothing any more", async (t) => {
  const { broadcaster, peers, welcome, seek, sent } = publishing(t);
  broadcaster.publish("camera", { kind: "video" });
  await welcome("ws_b");
  await seek();
  broadcaster.sendAway("ws_r", "it is over");
  await seek();
  const { bye, refused } = sent("webrtc_ice").at(-1);
  assert.deepEqual([bye, refused], ["the broadcaster has sent you away: it is over", true]);
  assert.deepEqual([sent("webrtc_offer").length, peers[0].isClosed], [1, true]);
});

test("what a receiver has not agreed to, or what is muted or published no more, is not sent", async (t) => {
  const { broadcaster, welcome, seek, answer, open, tell, told, senders } = publishing(t);
  const [camera, screen] = [{ kind: "video" }, { kind: "video" }];
  broadcaster.publish("camera", camera);
  broadcaster.mute("camera", true);
  await welcome("ws_b");
  await seek();
  await answer();
  assert.equal(senders[0].track, null);
  broadcaster.mute("camera", false);
  assert.equal(senders[0].track, camera);
  await open();
  broadcaster.publish("screen", screen);
  await new Promise(setImmediate);
  const [{ number, streams }] = told("offer");
  assert.deepEqual(streams.map(({ name, mid, muted }) => [name, mid, muted]), [["camera", "0", false], ["screen", "1", false]]);
  broadcaster.unpublish("screen");
  await tell({ type: "answer", number: number - 1, sdp: "v=0" }); // to another offer
  await tell({ type: "answer", number, sdp: "v=0" });
  assert.deepEqual(senders.map(({ track }) => track), [camera, null]);
  assert.deepEqual(told("streams").at(-1).streams.map(({ name }) => name), ["camera"]);
  broadcaster.publish("desk", screen);
  await new Promise(setImmediate);
  assert.equal(told("offer").at(-1).streams[1].mid, "1"); // the section that is left over
  assert.equal(senders[1].track, null);
  await tell({ type: "answer", number: number + 1, sdp: "v=0" });
  assert.equal(senders[1].track, screen);
});

test("a receiver whose signaling ends is let go if it does not answer at once", async (t) => {
  const { broadcaster, peers, welcome, seek, answer, open, receive, pass } = publishing(t);
  broadcaster.publish("camera", { kind: "video" });
  await welcome("ws_b");
  await seek();
  await answer();
  peers[0].connectionState = "connected";
  peers[0].onconnectionstatechange();
  await open();
  await receive({ type: "peer_left", session: "ws_r" });
  assert.equal(broadcaster.watchers.length, 1);
  pass(600);
  assert.deepEqual(broadcaster.watchers, []);
  assert.equal(peers[0].isClosed, true);
});

test("when signaling comes back, those go on who have answered, and are known by both sessions", async (t) => {
  const { broadcaster, welcome, seek, answer, sent } = publishing(t);
  broadcaster.publish("camera", { kind: "video" });
  await welcome("ws_b");
  await seek();
  await answer();
  await seek({ sourceSession: "ws_late" });
  await welcome("ws_again");
  assert.deepEqual(broadcaster.watchers.map(({ session }) => session), ["ws_r"]);
  for (const known of ["ws_b", "ws_again"]) await seek({ sourceSession: "ws_new", unwanted: [known] });
  assert.ok(sent("webrtc_offer").every(({ targetSession }) => targetSession !== "ws_new"));
});

test("video begins large, whatever else an answer says", () => {
  const answer = (...lines) => ["v=0", "m=audio 9 X 111", "a=rtpmap:111 opus/48000/2", "m=video 9 X 96", ...lines, ""].join("\r\n");
  const start = "x-google-start-bitrate=1000";
  assert.equal(
    withStartBitrate(answer("a=rtpmap:96 VP8/90000", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96")),
    answer("a=rtpmap:96 VP8/90000", `a=fmtp:96 ${start}`, "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96"),
  );
  assert.equal(
    withStartBitrate(answer("a=rtpmap:98 H264/90000", "a=fmtp:98 packetization-mode=1")),
    answer("a=rtpmap:98 H264/90000", `a=fmtp:98 packetization-mode=1;${start}`),
  );
});

test("an encoded frame has the fingerprint that its broadcaster knows it by", () => {
  const bytes = (...values) => new Uint8Array(values).buffer;
  const digits = [..."123456789"].map((digit) => digit.charCodeAt(0));
  assert.equal(fingerprint(bytes(...digits)), 0xcbf43926); // the check value of CRC-32
  assert.equal(fingerprint(bytes(7, 0, 0, 1, ...digits)), 0xcbf43926);
  assert.equal(fingerprint(bytes(...Array(100).fill(3))), fingerprint(bytes(...Array(64).fill(3))));
});

test("a marked message reads as it was written, and what is none is left out", () => {
  const written = new Uint8Array([1, 3, 99, 97, 109, 0, 0, 1, 0, 0xff, 0, 0, 2, 5, 6]);
  const read = readMarked(written.buffer);
  assert.deepEqual({ ...read, faces: [...new Uint8Array(read.faces)] }, { name: "cam", timestamp: 256, mark: 0xff000002, faces: [5, 6] });
  assert.equal(readMarked(written.slice(0, 13).buffer).faces, null);
  assert.equal(readMarked(written.slice(0, 12).buffer), null);
  assert.equal(readMarked(new Uint8Array([2, 0, 0, 0, 0, 0, 0, 0, 0, 0]).buffer), null);
});

test("two frames that say the same tell by how much timestamps were moved", () => {
  const shift = new Shift();
  shift.frame(5, 1);
  for (let time = 0; time < 3; time++) shift.mark(frame(1), 1);
  assert.equal(shift.value, null);
  shift.mark(frame(2), 2);
  shift.frame(3_005, 2);
  assert.equal((frame(2) + shift.value) >>> 0, 3_005);
});

test("names of strangers are shown without what is not seen, and not too long", () => {
  assert.equal(shownName(" Ada\n\u202e "), "Ada");
  assert.equal(shownName("x".repeat(10_000)), "x".repeat(80));
  assert.equal([...shownName("😀".repeat(100))].length, 80);
  assert.equal(shownName("👩\u200d🔬"), "👩\u200d🔬");
  assert.equal(shownName("\u200e\u2028\ud800"), "");
  for (const none of [undefined, null, 7, {}]) assert.equal(shownName(none), "");
});
