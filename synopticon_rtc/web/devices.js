// Cameras and microphones: which there are, how they are opened, and what keeps them from it.

const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const SOUND = { echoCancellation: true }; // nobody is to hear themselves

const PROBLEMS = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "none",
  OverconstrainedError: "none",
  NotReadableError: "busy",
  AbortError: "busy",
};

/** What is behind the error of a camera or a microphone: "denied", "system", "none", "busy", or "other". */
export function problemOf({ name, message }) {
  if (name === "NotAllowedError" && /by (the )?system/i.test(message)) return "system";
  return PROBLEMS[name] ?? "other";
}

/**
 * Devices to choose from.
 *
 * @param {MediaDeviceInfo[]} devices
 * @param {string} kind "videoinput" or "audioinput"
 * @returns {{id: string, label: string}[]} none where the browser does not tell yet which there are
 */
export function choices(devices, kind) {
  const called = kind === "videoinput" ? "Camera" : "Microphone";
  const known = devices.filter((device) => device.kind === kind && device.deviceId);
  return known.map(({ deviceId, label }, at) => ({ id: deviceId, label: label || `${called} ${at + 1}` }));
}

/** Open a camera ("video") or a microphone ("audio"): the one that is `wanted`, or another where it is not there. */
export async function open(kind, wanted) {
  const stream = await navigator.mediaDevices.getUserMedia({ [kind]: constraints(kind, wanted) });
  return stream.getTracks()[0];
}

/**
 * Open a camera, and a microphone too, with one question to people. A microphone that cannot be had is no hindrance.
 *
 * @param {{video: ?string, audio: ?string}} wanted devices
 * @param {boolean} voice whether a microphone is wanted
 * @returns {Promise<{camera: MediaStreamTrack, microphone: ?MediaStreamTrack, lack: ?Error}>} `lack` is why there is no microphone
 */
export async function openBoth(wanted, voice) {
  if (!voice) return { camera: await open("video", wanted.video), microphone: null, lack: null };
  try {
    const video = constraints("video", wanted.video);
    const stream = await navigator.mediaDevices.getUserMedia({ video, audio: constraints("audio", wanted.audio) });
    return { camera: stream.getVideoTracks()[0], microphone: stream.getAudioTracks()[0], lack: null };
  } catch (error) {
    if (problemOf(error) === "denied" && !(await isGranted("camera"))) throw error; // not to ask twice
    return { camera: await open("video", wanted.video), microphone: null, lack: error };
  }
}

/** Whether the browser does not let the page use cameras ("video") or microphones ("audio"), so that it hides which there are. */
export async function isHidden(kind) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.some((device) => device.kind === `${kind}input` && device.deviceId === "");
}

function constraints(kind, wanted) {
  const device = wanted ? { deviceId: { ideal: wanted } } : kind === "video" ? { facingMode: { ideal: "user" } } : {};
  return { ...device, ...(kind === "video" ? PICTURE : SOUND) };
}

async function isGranted(name) {
  try {
    return (await navigator.permissions.query({ name })).state === "granted";
  } catch {
    return false; // this browser does not tell
  }
}
