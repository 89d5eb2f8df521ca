// What a browser can do, and what it can use.

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

/** A list of ICE servers as a server tells it; none of it where the browser cannot use it. */
export function usableIceServers(iceServers, log) {
  try {
    new RTCPeerConnection({ iceServers }).close();
    return iceServers;
  } catch (error) {
    log(`The server's list of ICE servers is not used: ${error.message}`);
    return [];
  }
}
