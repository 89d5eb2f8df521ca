// webrtc-signaling-demo.html: learns its id from `configured`. Targets everything; drops ICE that is not from its current
// peer, and ICE that comes early. Broadcasts from one peer connection, made before anybody asks, of which it makes an
// offer each time that it is asked. Throws on a second offer.
import { addPicture, answer, connect, draw, face, play, report, sendFaces, takeAnswer } from "./common.js";

export function broadcast(url) {
  let receiver = null;
  const peer = new RTCPeerConnection();
  addPicture(peer);
  sendFaces(peer.createDataChannel("faceData", { ordered: true }), () => ({
    type: "face_landmarks",
    timestamp: Date.now(),
    landmarks: [face(468)],
  }));
  peer.onicecandidate = ({ candidate }) => candidate && tell("webrtc_ice", { candidate });
  const send = connect(url, {
    connected: () => send("configure", { requirements: { role: "broadcaster" } }),
    configured: ({ sessionId }) => (report.session = sessionId),
    async request_offer({ sourceSession }) {
      receiver = sourceSession;
      const sdp = await peer.createOffer();
      await peer.setLocalDescription(sdp);
      report.offers += 1;
      tell("webrtc_offer", { sdp });
    },
    webrtc_answer: ({ sdp }) => takeAnswer(peer, sdp),
    webrtc_ice: ({ candidate, sourceSession }) => addOrDrop(peer, candidate, sourceSession === receiver),
  });
  const tell = (type, fields) =>
    send(type, { targetSession: receiver, deviceId: report.session, timestamp: Date.now(), ...fields });
}

export function receive(url) {
  let peer = null;
  let broadcaster = null;
  const send = connect(url, {
    connected: () => send("configure", { requirements: { role: "receiver" } }),
    configured({ sessionId }) {
      report.session = sessionId;
      tell("request_offer");
    },
    async webrtc_offer({ sdp, sourceSession }) {
      if (peer) throw new Error("a second offer");
      broadcaster = sourceSession;
      peer = new RTCPeerConnection();
      play(peer);
      peer.ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => read(JSON.parse(data)));
      peer.onicecandidate = ({ candidate }) => candidate && tell("webrtc_ice", { candidate });
      tell("webrtc_answer", { sdp: await answer(peer, sdp) });
    },
    webrtc_ice: ({ candidate, sourceSession }) => addOrDrop(peer, candidate, sourceSession === broadcaster),
  });
  const tell = (type, fields) =>
    send(type, { targetSession: broadcaster, deviceId: report.session, timestamp: Date.now(), ...fields });
}

const read = ({ type, landmarks }) => type === "face_landmarks" && landmarks.length && draw(landmarks);

async function addOrDrop(peer, candidate, isCurrent) {
  if (isCurrent && peer?.remoteDescription) await peer.addIceCandidate(candidate);
  else report.lost += 1;
}
