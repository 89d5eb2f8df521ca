// The page of a camera: publishes what this device sees and hears.

import { Broadcaster } from "./broadcaster.js";
import { signalingBeside } from "./places.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

$("start").onclick = async () => {
  const media = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 720 }, audio: true });
  $("preview").srcObject = media;
  const broadcaster = new Broadcaster(signalingBeside(location), { name: query.get("name") ?? "" }, {
    changed: () => ($("state").value = broadcaster?.state),
    faces: () => {},
    log: (text) => console.info(text),
  });
  broadcaster.publish("camera", media.getVideoTracks()[0]);
  broadcaster.publish("microphone", media.getAudioTracks()[0]);
  Object.assign(window, { synopticon: broadcaster });
};
