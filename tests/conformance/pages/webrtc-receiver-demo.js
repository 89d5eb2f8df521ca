// webrtc-receiver-demo.html: seeks once, with webrtc_seek_broadcaster alone, under a made-up deviceId. Queues ICE; takes
// no channel but `faceData`, and reads `landmarks` whatever the type says. Throws on a second offer.
import { answer, connect, draw, play, report } from "./common.js";

export function receive(url) {
  const deviceId = `receiver-${Math.random().toString(36).slice(2)}`;
  const early = [];
  let peer = null;
  const send = connect(url, {
    connected({ sessionId }) {
      report.session = sessionId;
      send("webrtc_seek_broadcaster", { deviceId, timestamp: Date.now() });
    },
    async webrtc_offer({ sdp, sourceSession }) {
      if (peer) throw new Error("a second offer");
      peer = new RTCPeerConnection();
      play(peer);
      peer.ondatachannel = ({ channel }) => {
        if (channel.label === "faceData") channel.onmessage = ({ data }) => read(JSON.parse(data));
      };
      const tell = (type, fields) =>
        send(type, { targetSession: sourceSession, deviceId, timestamp: Date.now(), ...fields });
      peer.onicecandidate = ({ candidate }) => candidate && tell("webrtc_ice", { candidate });
      tell("webrtc_answer", { sdp: await answer(peer, sdp) });
      for (const candidate of early.splice(0)) await peer.addIceCandidate(candidate);
    },
    async webrtc_ice({ candidate }) {
      if (peer?.remoteDescription) await peer.addIceCandidate(candidate);
      else early.push(candidate);
    },
  });
}

const read = ({ landmarks }) => landmarks?.length && draw(landmarks);
