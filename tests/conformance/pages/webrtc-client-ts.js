// webrtc-client.ts: seeks and is sought with webrtc_seek_broadcaster; targets everything, and ignores what has no
// sourceSession. No ICE queue, no channel, no timestamps. Throws on a second offer.
import { addPicture, addUnqueued, answer, connect, offer, play, report } from "./common.js";

export function broadcast(url) {
  let peer = null;
  const send = connect(url, {
    connected: ({ sessionId }) => (report.session = sessionId),
    async webrtc_seek_broadcaster({ sourceSession }) {
      if (!sourceSession) return;
      peer?.close();
      peer = new RTCPeerConnection();
      addPicture(peer);
      const target = { targetSession: sourceSession, deviceId: report.session };
      peer.onicecandidate = ({ candidate }) => candidate && send("webrtc_ice", { ...target, candidate });
      send("webrtc_offer", { ...target, sdp: await offer(peer) });
    },
    webrtc_answer: ({ sdp, sourceSession }) => sourceSession && peer.setRemoteDescription(sdp),
    webrtc_ice: ({ candidate, sourceSession }) => sourceSession && addUnqueued(peer, candidate),
  });
}

export function receive(url) {
  let peer = null;
  const send = connect(url, {
    connected({ sessionId }) {
      report.session = sessionId;
      send("webrtc_seek_broadcaster", { deviceId: sessionId });
    },
    async webrtc_offer({ sdp, sourceSession }) {
      if (!sourceSession) return;
      if (peer) throw new Error("a second offer");
      peer = new RTCPeerConnection();
      play(peer);
      const target = { targetSession: sourceSession, deviceId: report.session };
      peer.onicecandidate = ({ candidate }) => candidate && send("webrtc_ice", { ...target, candidate });
      send("webrtc_answer", { ...target, sdp: await answer(peer, sdp) });
    },
    webrtc_ice: ({ candidate, sourceSession }) => sourceSession && addUnqueued(peer, candidate),
  });
}
