// libdatachannel in Node: it passes RTP on as it is. Option: `extras` (audio and a second video).
import nodeDataChannel from "node-datachannel";
import { codec, count, ends, meet, read, role, sendClip, sendFaces, tell, wants } from "./common.mjs";

const { Audio, PeerConnection, RtcpReceivingSession, Video } = nodeDataChannel;
const kept = []; // what native code calls must not be collected

meet((sendCandidate, lose) => {
  const peer = new PeerConnection("peer", { iceServers: [] });
  kept.push(peer);
  const described = new Promise((resolve) => peer.onLocalDescription((sdp, type) => resolve({ type, sdp })));
  peer.onLocalCandidate((candidate, sdpMid) => described.then(() => sendCandidate({ candidate, sdpMid })));
  peer.onStateChange((state) => {
    tell({ state });
    // It refuses a certificate (alert 48) that comes while it still reads the description with the fingerprint.
    if (state === "failed") lose();
  });
  peer.onTrack((track) => {
    kept.push(track);
    track.setMediaHandler(new RtcpReceivingSession());
    if (track.type() === "video") track.onMessage((packet) => ends(packet) && count());
  });
  peer.onDataChannel((channel) => {
    kept.push(channel);
    channel.onMessage(read);
  });

  function addVideo(mid, ssrc) {
    const video = new Video(mid, "SendOnly");
    if (codec === "h264") video.addH264Codec(96);
    else video.addVP8Codec(96);
    video.addSSRC(ssrc, "peer");
    const track = peer.addTrack(video);
    kept.push(track);
    return track;
  }
  return {
    offer() {
      if (wants("extras")) {
        const audio = new Audio("audio", "SendOnly");
        audio.addOpusCodec(111);
        kept.push(peer.addTrack(audio));
      }
      const track = addVideo("video", 1234);
      if (wants("extras")) addVideo("second", 1235);
      track.onOpen(() => sendClip(96, 1234, (packet) => track.isOpen() && track.sendMessageBinary(packet)));
      const channel = peer.createDataChannel("faceData");
      kept.push(channel);
      channel.onOpen(() => sendFaces((text) => channel.isOpen() && channel.sendMessage(text)));
      return described;
    },
    answer(offer) {
      peer.setRemoteDescription(offer.sdp, offer.type);
      return described;
    },
    accept: (answer) => peer.setRemoteDescription(answer.sdp, answer.type),
    add: ({ candidate, sdpMid }) => peer.addRemoteCandidate(candidate, sdpMid),
  };
});
