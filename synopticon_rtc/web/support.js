// Whether a browser can receive at all.

/** What it lacks or has switched off, in words that begin a sentence; null where it can. */
export function missing() {
  if (typeof WebSocket !== "function") return "WebSocket";
  if (typeof RTCPeerConnection !== "function") return "WebRTC";
  if (typeof RTCPeerConnection.prototype.createDataChannel !== "function" || typeof RTCDataChannel !== "function") {
    return "The data channel of WebRTC";
  }
  try {
    new RTCPeerConnection().close();
    return null;
  } catch {
    return "WebRTC"; // there, but forbidden
  }
}
