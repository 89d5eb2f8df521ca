// What all pages share: a socket, a moving picture, a made-up face, and the report that the test reads.

export const report = {
  session: null, // as the page learned it
  refused: [], // errors from the server
  heard: 0, // relayed messages
  offers: 0, // sent or received
  sought: null, // ms, when it first asked
  first: null, // seconds from then to the first frame
  frames: 0, // decoded and shown
  size: null,
  faces: 0, // payloads that the page could read
  landmarks: null, // of the first face in the last of them
  lost: 0, // candidates that the page dropped
  surplus: 0, // answers that the page could not take
  worked: 0, // times that the main thread was held
  thrown: [],
};
window.report = report;
addEventListener("error", ({ message }) => report.thrown.push(message));
addEventListener("unhandledrejection", ({ reason }) => report.thrown.push(String(reason)));

const busy = Number(new URLSearchParams(location.search).get("busy"));

/** With `busy=MS` in the address, hold the main thread for so long at each picture, as a face mesh without a GPU does. */
function work() {
  for (const end = performance.now() + busy; performance.now() < end; );
  report.worked += 1;
  requestAnimationFrame(work);
}
if (busy) requestAnimationFrame(work);

/** Connect, and call the handler named as a message's type with it; returns what sends a message. */
export function connect(url, handlers) {
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "error") report.refused.push(message.error);
    if (message.sourceSession) report.heard += 1;
    return handlers[message.type]?.(message);
  };
  return (type, fields = {}) => {
    if (type === "request_offer" || type === "webrtc_seek_broadcaster") report.sought ??= performance.now();
    socket.send(JSON.stringify({ type, ...fields }));
  };
}

/** Show a peer's video, and count its frames. */
export function play(peer) {
  const video = document.getElementById("video");
  const count = () => {
    report.frames += 1;
    report.first ??= (performance.now() - report.sought) / 1000;
    report.size = [video.videoWidth, video.videoHeight];
    video.requestVideoFrameCallback(count);
  };
  peer.ontrack = ({ streams: [stream] }) => {
    video.srcObject = stream;
    video.requestVideoFrameCallback(count);
  };
}

export function draw(landmarks) {
  report.faces += 1;
  report.landmarks = landmarks[0];
}

/** Add a moving picture to a peer. */
export function addPicture(peer) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
  const context = canvas.getContext("2d");
  let number = 0;
  setInterval(() => {
    number += 1;
    context.fillStyle = `hsl(${(number * 5) % 360} 60% 50%)`;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "white";
    context.fillRect((number * 4) % canvas.width, 80, 60, 60);
  }, 1000 / 30);
  const stream = canvas.captureStream(30);
  for (const track of stream.getTracks()) peer.addTrack(track, stream);
}

/** A face whose point i tells its index: the test knows it again. */
export const face = (points) =>
  Array.from({ length: points }, (_, i) => ({ x: i / 1000, y: 0.5, z: -i / 1000 }));

/** Send what `make` gives on a channel, at most 12 times a second, as long as it is open. */
export function sendFaces(channel, make) {
  channel.onopen = () => {
    const timer = setInterval(() => {
      if (channel.readyState === "open") channel.send(JSON.stringify(make()));
      else clearInterval(timer);
    }, 1000 / 12);
  };
}

/** Make an offer, and count it. */
export async function offer(peer) {
  await peer.setLocalDescription(await peer.createOffer());
  report.offers += 1;
  return peer.localDescription;
}

/** Take an offer, count it, and make the answer. */
export async function answer(peer, sdp) {
  report.offers += 1;
  await peer.setRemoteDescription(sdp);
  await peer.setLocalDescription(await peer.createAnswer());
  return peer.localDescription;
}

/** Take an answer; one that the connection cannot take is told in the page, and changes nothing. */
export async function takeAnswer(peer, sdp) {
  try {
    await peer.setRemoteDescription(sdp);
  } catch {
    report.surplus += 1;
  }
}

/** Add a candidate at once; one that comes before the description is lost, as the page has no queue. */
export async function addUnqueued(peer, candidate) {
  try {
    await peer.addIceCandidate(candidate);
  } catch {
    report.lost += 1;
  }
}
