// webrtc-demo.html: offers to all as soon as it is there, asked or not, and again to all when asked. Broadcasts its ICE,
// and ends it with an empty candidate. Neither channel nor timestamps; its deviceId is made up. Throws on a second offer.
import { addPicture, addUnqueued, answer, connect, offer, play, report } from "./common.js";

const deviceId = `device-${Date.now()}`;

export function broadcast(url) {
  let peer = null;
  const send = connect(url, {
    connected({ sessionId }) {
      report.session = sessionId;
      return start();
    },
    request_offer: () => start(),
    webrtc_answer: ({ sdp }) => peer.setRemoteDescription(sdp),
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
  async function start() {
    peer?.close();
    peer = new RTCPeerConnection();
    addPicture(peer);
    peer.onicecandidate = ({ candidate }) => send("webrtc_ice", { deviceId, candidate: candidate ?? { candidate: "" } });
    send("webrtc_offer", { deviceId, sdp: await offer(peer) });
  }
}

export function receive(url) {
  let peer = null;
  const send = connect(url, {
    connected({ sessionId }) {
      report.session = sessionId;
      send("request_offer", { deviceId });
    },
    async webrtc_offer({ sdp, sourceSession }) {
      if (peer) throw new Error("a second offer");
      peer = new RTCPeerConnection();
      play(peer);
      peer.onicecandidate = ({ candidate }) => send("webrtc_ice", { deviceId, candidate: candidate ?? { candidate: "" } });
      send("webrtc_answer", { targetSession: sourceSession, deviceId, sdp: await answer(peer, sdp) });
    },
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
}
