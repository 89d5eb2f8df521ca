// mediapipe-simple-test.html: broadcasts everything, its answer too, and gives no deviceId. Throws on a second offer.
import { addPicture, addUnqueued, answer, connect, draw, face, offer, play, report, sendFaces } from "./common.js";

export function broadcast(url) {
  let peer = null;
  const send = connect(url, {
    connected: ({ sessionId }) => (report.session = sessionId),
    async request_offer() {
      peer?.close();
      peer = new RTCPeerConnection();
      addPicture(peer);
      sendFaces(peer.createDataChannel("faceData", { ordered: true }), () => ({
        type: "face_landmarks",
        timestamp: Date.now(),
        landmarks: [face(468)],
      }));
      peer.onicecandidate = ({ candidate }) => candidate && send("webrtc_ice", { candidate, timestamp: Date.now() });
      send("webrtc_offer", { sdp: await offer(peer), timestamp: Date.now() });
    },
    webrtc_answer: ({ sdp }) => peer.setRemoteDescription(sdp),
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
}

export function receive(url) {
  let peer = null;
  const send = connect(url, {
    connected({ sessionId }) {
      report.session = sessionId;
      send("request_offer", { timestamp: Date.now() });
    },
    async webrtc_offer({ sdp }) {
      if (peer) throw new Error("a second offer");
      peer = new RTCPeerConnection();
      play(peer);
      peer.ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => read(JSON.parse(data)));
      peer.onicecandidate = ({ candidate }) => candidate && send("webrtc_ice", { candidate, timestamp: Date.now() });
      send("webrtc_answer", { sdp: await answer(peer, sdp), timestamp: Date.now() });
    },
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
}

const read = ({ type, landmarks }) => type === "face_landmarks" && landmarks.length && draw(landmarks);
