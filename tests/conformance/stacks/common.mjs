// What the peers in Node share: signaling, the report that the test reads, a clip as RTP, and a face that it knows again.
// Each is started as `node STACK.mjs URL ROLE CODEC CLIP [OPTION...]`.
import { readFileSync } from "node:fs";
import WebSocket from "ws";

const [url, role, codec, clip, ...options] = process.argv.slice(2);
export { codec, role };
export const wants = (option) => options.includes(option);

let connected = false;

/** Tell the test what is new. */
export function tell(news) {
  connected ||= news.state === "connected";
  console.log(JSON.stringify(news));
}
process.on("uncaughtException", (error) => tell({ thrown: String(error?.stack ?? error) }));

let frames = 0;
let faces = 0;

/** Count a frame that came. */
export function count(size = null) {
  tell({ frames: ++frames, size });
}

/** Read a message of a data channel. */
export function read(data) {
  const { landmarks } = JSON.parse(data.toString());
  if (landmarks?.length) tell({ faces: ++faces, landmarks: landmarks[0] });
}

/** Call `send` with a face, 12 times a second. */
export function sendFaces(send) {
  const landmarks = [Array.from({ length: 478 }, (_, i) => ({ x: i / 1000, y: 0.5, z: -i / 1000 }))];
  setInterval(() => send(JSON.stringify({ type: "face_landmarks", timestamp: Date.now(), landmarks })), 1000 / 12);
}

/**
 * Meet our peer over signaling.
 *
 * @param make gives, for a function that sends a candidate and one that says that the peer is lost, a peer with `offer()`,
 *   `answer(offer)`, `accept(answer)` and `add(candidate)`; descriptions are `{type, sdp}`.
 */
export function meet(make) {
  const socket = new WebSocket(url);
  const send = (type, fields = {}) => socket.send(JSON.stringify({ type, timestamp: Date.now(), ...fields }));
  const early = [];
  let peer = null;
  let [answered, described] = [false, false];

  const open = (session) => make((candidate) => send("webrtc_ice", { targetSession: session, candidate }), lose);
  const lose = () => {
    peer = null; // and whoever asks again gets another
    answered = described = false;
  };
  const settle = () => {
    described = true;
    for (const candidate of early.splice(0)) peer.add(candidate);
  };
  const seek = async ({ sourceSession: targetSession }) => {
    if (role !== "broadcast" || peer) return;
    peer = open(targetSession);
    const sdp = await peer.offer();
    tell({ offer: sdp.sdp });
    send("webrtc_offer", { targetSession, sdp });
  };
  const handlers = {
    connected: ({ sessionId }) => {
      tell({ session: sessionId });
      if (role !== "receive") return;
      send("request_offer");
      setInterval(() => connected || send("request_offer"), 6000); // on a machine too busy to answer in 5 s
    },
    request_offer: seek,
    webrtc_seek_broadcaster: seek,
    async webrtc_offer({ sdp, sourceSession: targetSession }) {
      if (role !== "receive") return;
      lose();
      peer = open(targetSession);
      tell({ offer: sdp.sdp });
      const answer = await peer.answer(sdp);
      tell({ answer: answer.sdp });
      send("webrtc_answer", { targetSession, sdp: answer });
      settle();
    },
    async webrtc_answer({ sdp }) {
      if (answered) return; // a slow peer gets it once more, and most stacks bear it once only
      answered = true;
      tell({ answer: sdp.sdp });
      await peer.accept(sdp);
      settle();
    },
    webrtc_ice({ candidate }) {
      if (!candidate?.candidate) return;
      if (described) peer.add(candidate);
      else early.push(candidate);
    },
  };
  socket.on("message", (data) => {
    const message = JSON.parse(data);
    Promise.resolve(handlers[message.type]?.(message)).catch((error) => tell({ thrown: String(error.stack) }));
  });
}

/** Send the clip, again and again, 30 frames a second: calls `send` with RTP packets. */
export function sendClip(payloadType, ssrc, send) {
  const file = readFileSync(clip); // IVF: a header of 32 bytes, and before each frame its length and 8 bytes of time
  const pictures = [];
  for (let at = 32; at < file.length; ) {
    const end = at + 12 + file.readUInt32LE(at);
    pictures.push(file.subarray(at + 12, end));
    at = end;
  }
  let [sequence, number] = [0, 0];
  setInterval(() => {
    const payloads = (codec === "h264" ? packH264 : packVp8)(pictures[number++ % pictures.length]);
    payloads.forEach((payload, index) => {
      const header = Buffer.alloc(12);
      header[0] = 0x80;
      header[1] = payloadType | (index === payloads.length - 1 ? 0x80 : 0);
      header.writeUInt16BE(sequence++ & 0xffff, 2);
      header.writeUInt32BE((number * 3000) >>> 0, 4);
      header.writeUInt32BE(ssrc, 8);
      send(Buffer.concat([header, payload]));
    });
  }, 1000 / 30);
}

/** Whether an RTP packet ends a frame. */
export const ends = (packet) => packet.length > 12 && (packet[1] & 0x80) !== 0 && (packet[1] & 0x7f) >= 96;

const MOST = 1100;
const pieces = (data) => Array.from({ length: Math.ceil(data.length / MOST) }, (_, i) => data.subarray(i * MOST, (i + 1) * MOST));

/** RFC 7741: one byte that says whether a piece begins the frame. */
function packVp8(picture) {
  return pieces(picture).map((piece, index) => Buffer.concat([Buffer.from([index ? 0 : 0x10]), piece]));
}

/** RFC 6184: a NAL unit alone, or in fragments (FU-A). */
function packH264(picture) {
  const starts = [];
  for (let at = 0; (at = picture.indexOf(Buffer.from([0, 0, 1]), at)) >= 0; at += 3) starts.push(at + 3);
  return starts.flatMap((start, index) => {
    let end = index + 1 < starts.length ? starts[index + 1] - 3 : picture.length;
    while (picture[end - 1] === 0) end -= 1;
    const unit = picture.subarray(start, end);
    if (unit.length <= MOST) return [unit];
    const parts = pieces(unit.subarray(1));
    return parts.map((part, n) => {
      const edge = (n === 0 ? 0x80 : 0) | (n === parts.length - 1 ? 0x40 : 0);
      return Buffer.concat([Buffer.from([(unit[0] & 0xe0) | 28, edge | (unit[0] & 0x1f)]), part]);
    });
  });
}
