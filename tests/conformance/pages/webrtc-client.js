// webrtc-client.js: broadcasts its offers and its ICE, the end of candidates (null) included; its answer is targeted.
// Its channel is `mediapipe`, and carries any JSON. Throws on a second offer.
import { addPicture, addUnqueued, answer, connect, draw, face, offer, play, report, sendFaces } from "./common.js";

export function broadcast(url) {
  let peer = null;
  let count = 0;
  const send = connect(url, {
    connected: ({ sessionId }) => (report.session = sessionId),
    async request_offer() {
      peer?.close();
      peer = new RTCPeerConnection();
      addPicture(peer);
      sendFaces(peer.createDataChannel("mediapipe", { ordered: false, maxRetransmits: 0 }), () =>
        (count += 1) % 3 ? { landmarks: [face(478)] } : ["status", { fps: 30 }],
      );
      peer.onicecandidate = ({ candidate }) => tell("webrtc_ice", { candidate });
      tell("webrtc_offer", { sdp: await offer(peer) });
    },
    webrtc_answer: ({ sdp }) => peer.setRemoteDescription(sdp),
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
  const tell = (type, fields) => send(type, { deviceId: report.session, timestamp: Date.now(), ...fields });
}

export function receive(url) {
  let peer = null;
  const send = connect(url, {
    connected({ sessionId }) {
      report.session = sessionId;
      tell("request_offer");
    },
    async webrtc_offer({ sdp, sourceSession }) {
      if (peer) throw new Error("a second offer");
      peer = new RTCPeerConnection();
      play(peer);
      peer.ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => read(JSON.parse(data)));
      peer.onicecandidate = ({ candidate }) => tell("webrtc_ice", { candidate });
      tell("webrtc_answer", { targetSession: sourceSession, sdp: await answer(peer, sdp) });
    },
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
  const tell = (type, fields) => send(type, { deviceId: report.session, timestamp: Date.now(), ...fields });
}

const read = ({ landmarks }) => landmarks?.length && draw(landmarks);
