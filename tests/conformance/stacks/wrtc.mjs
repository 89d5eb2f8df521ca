// libwebrtc in Node: no H.264. Options: `extras` (audio and a second video), `refused` (the video that is offered).
import wrtc from "@roamhq/wrtc";
import { count, meet, read, role, sendFaces, tell, wants } from "./common.mjs";

const { RTCVideoSource, RTCVideoSink, RTCAudioSource } = wrtc.nonstandard;

meet((sendCandidate) => {
  const peer = new wrtc.RTCPeerConnection();
  peer.onicecandidate = ({ candidate }) => candidate && sendCandidate(candidate);
  peer.onconnectionstatechange = () => tell({ state: peer.connectionState });
  if (role === "broadcast") {
    if (wants("extras")) peer.addTrack(sound());
    peer.addTrack(picture(320, 240));
    if (wants("extras")) peer.addTrack(picture(640, 480));
    const channel = peer.createDataChannel("faceData");
    channel.onopen = () => sendFaces((text) => channel.readyState === "open" && channel.send(text));
  }
  peer.ontrack = ({ track }) => {
    if (track.kind !== "video") return;
    const sink = new RTCVideoSink(track);
    sink.onframe = ({ frame }) => count([frame.width, frame.height]);
  };
  peer.ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => read(data));
  return {
    async offer() {
      await peer.setLocalDescription(await peer.createOffer());
      return peer.localDescription;
    },
    async answer(offer) {
      await peer.setRemoteDescription(offer);
      if (wants("refused")) for (const transceiver of peer.getTransceivers()) transceiver.stop();
      await peer.setLocalDescription(await peer.createAnswer());
      return peer.localDescription;
    },
    accept: (answer) => peer.setRemoteDescription(answer),
    add: (candidate) => peer.addIceCandidate(candidate),
  };
});

function picture(width, height) {
  const source = new RTCVideoSource();
  let number = 0;
  setInterval(() => {
    const data = new Uint8ClampedArray((width * height * 3) / 2).fill(128);
    data.fill((number++ * 4) % 256, 0, width * 40);
    source.onFrame({ width, height, data });
  }, 1000 / 30);
  return source.createTrack();
}

function sound() {
  const source = new RTCAudioSource();
  setInterval(() => source.onData({ samples: new Int16Array(480), sampleRate: 48000, channelCount: 1 }), 10);
  return source.createTrack();
}
