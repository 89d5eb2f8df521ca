// face-tracking-demo.html: answers webrtc_seek_broadcaster alone, and calls itself by a constant. Its payload has no
// type, and holds up to two faces with irises, on a channel that may lose and reorder.
import { addPicture, addUnqueued, connect, face, offer, report, sendFaces } from "./common.js";

export function broadcast(url) {
  let peer = null;
  const send = connect(url, {
    connected: ({ sessionId }) => (report.session = sessionId),
    async webrtc_seek_broadcaster({ sourceSession }) {
      peer?.close();
      peer = new RTCPeerConnection();
      addPicture(peer);
      sendFaces(peer.createDataChannel("faceData", { ordered: false, maxRetransmits: 0 }), () => ({
        landmarks: [face(478), face(478)],
        timestamp: performance.now(),
        videoWidth: 320,
        videoHeight: 240,
      }));
      const tell = (type, fields) =>
        send(type, { targetSession: sourceSession, deviceId: "broadcaster", timestamp: Date.now(), ...fields });
      peer.onicecandidate = ({ candidate }) => candidate && tell("webrtc_ice", { candidate });
      tell("webrtc_offer", { sdp: await offer(peer) });
    },
    webrtc_answer: ({ sdp }) => peer.setRemoteDescription(sdp),
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
}
