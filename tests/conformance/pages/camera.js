// A page of our own, in no table: it sends the camera in one codec, for the captures that tests/rtc plays again.
import { addUnqueued, connect, offer, report } from "./common.js";

const codec = `video/${new URLSearchParams(location.search).get("codec")}`;
report.able = RTCRtpSender.getCapabilities("video").codecs.some(({ mimeType }) => mimeType === codec);

export function broadcast(url) {
  let peer = null;
  const send = connect(url, {
    connected: ({ sessionId }) => (report.session = sessionId),
    async request_offer({ sourceSession }) {
      if (peer) return;
      peer = new RTCPeerConnection();
      const video = { width: 640, height: 480, frameRate: 30 };
      const stream = await navigator.mediaDevices.getUserMedia({ video });
      const transceiver = peer.addTransceiver(stream.getVideoTracks()[0], {
        direction: "sendonly",
        streams: [stream],
        sendEncodings: [{ maxBitrate: 600_000 }],
      });
      const { codecs } = RTCRtpSender.getCapabilities("video");
      transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => [codec, "video/rtx"].includes(mimeType)));
      peer.onicecandidate = ({ candidate }) =>
        candidate && send("webrtc_ice", { candidate, targetSession: sourceSession });
      send("webrtc_offer", { sdp: await offer(peer), targetSession: sourceSession });
    },
    webrtc_answer: ({ sdp }) => peer.setRemoteDescription(sdp),
    webrtc_ice: ({ candidate }) => addUnqueued(peer, candidate),
  });
}
