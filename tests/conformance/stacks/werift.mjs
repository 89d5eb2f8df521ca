// werift, WebRTC in TypeScript. Options: `extras` (audio and a second video), `unbundled`, `refused` (the video).
import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters, useOPUS } from "werift";
import { codec, count, ends, meet, read, role, sendClip, sendFaces, tell, wants } from "./common.mjs";

const VIDEO = {
  vp8: { mimeType: "video/VP8", clockRate: 90000, payloadType: 96 },
  h264: {
    mimeType: "video/H264",
    clockRate: 90000,
    payloadType: 97,
    parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
  },
}[codec];
const feedback = [{ type: "nack" }, { type: "nack", parameter: "pli" }, { type: "goog-remb" }];

meet((sendCandidate) => {
  const peer = new RTCPeerConnection({
    bundlePolicy: wants("unbundled") ? "disable" : "max-bundle",
    codecs: { audio: [useOPUS()], video: [new RTCRtpCodecParameters({ ...VIDEO, rtcpFeedback: feedback })] },
    iceServers: [],
  });
  peer.onicecandidate = ({ candidate }) => candidate && sendCandidate(candidate);
  peer.connectionStateChange.subscribe((state) => tell({ state }));
  if (role === "broadcast") {
    if (wants("extras")) peer.addTransceiver(new MediaStreamTrack({ kind: "audio" }), { direction: "sendonly" });
    const track = new MediaStreamTrack({ kind: "video" });
    peer.addTransceiver(track, { direction: wants("refused") ? "inactive" : "sendonly" });
    if (wants("extras")) peer.addTransceiver(new MediaStreamTrack({ kind: "video" }), { direction: "sendonly" });
    if (!wants("refused")) sendClip(VIDEO.payloadType, 1234, (packet) => track.writeRtp(packet));
    const channel = peer.createDataChannel("faceData");
    channel.stateChanged.subscribe((state) => {
      if (state === "open") sendFaces((text) => channel.readyState === "open" && channel.send(text));
    });
  }
  peer.onTrack.subscribe((track) => {
    if (track.kind === "video") track.onReceiveRtp.subscribe((rtp) => ends(rtp.serialize()) && count());
  });
  peer.onDataChannel.subscribe((channel) => channel.onMessage.subscribe(read));
  /** Have it ask no STUN server: where it is given none it asks one on the internet, for 5 s. */
  function keepQuiet() {
    for (const { connection } of peer.iceTransports) connection.stunServer = undefined;
  }
  return {
    async offer() {
      keepQuiet();
      await peer.setLocalDescription(await peer.createOffer());
      return peer.localDescription;
    },
    async answer(offer) {
      await peer.setRemoteDescription(offer);
      keepQuiet();
      if (wants("refused")) for (const transceiver of peer.getTransceivers()) transceiver.setDirection("inactive");
      await peer.setLocalDescription(await peer.createAnswer());
      return peer.localDescription;
    },
    accept: (answer) => peer.setRemoteDescription(answer),
    add: (candidate) => peer.addIceCandidate(candidate),
  };
});
