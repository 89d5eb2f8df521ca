// face-tracking-demo.html: answers webrtc_seek_broadcaster alone, and calls itself by a constant. It has one peer
// connection for all, made before anybody asks, and makes an offer of it for each that asks, however often. Its payload
// has no type, and holds up to two faces with irises, on a channel that may lose and reorder.
import { addPicture, addUnqueued, connect, face, report, sendFaces, takeAnswer } from "./common.js";

export function broadcast(url) {
  const asked = new Set();
  const peer = new RTCPeerConnection();
  addPicture(peer);
  sendFaces(peer.createDataChannel("faceData", { ordered: false, maxRetransmits: 0 }), () => ({
    landmarks: [face(478), face(478)],
    timestamp: performance.now(),
    videoWidth: 320,
    videoHeight: 240,
  }));
  const send = connect(url, {
    connected: ({ sessionId }) => (report.session = sessionId),
    async webrtc_seek_broadcaster({ sourceSession }) {
      const sdp = await peer.createOffer();
      await peer.setLocalDescription(sdp);
      report.offers += 1;
      tell("webrtc_offer", sourceSession, { sdp });
      asked.add(sourceSession);
    },
    webrtc_answer: ({ sdp }) => takeAnswer(peer, sdp),
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
  const tell = (type, targetSession, fields) =>
    send(type, { targetSession, deviceId: "broadcaster", timestamp: Date.now(), ...fields });
  peer.onicecandidate = ({ candidate }) => {
    if (candidate) for (const session of asked) tell("webrtc_ice", session, { candidate });
  };
}
