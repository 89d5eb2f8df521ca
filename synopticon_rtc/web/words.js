// What the page that publishes says, in plain words.

/**
 * How it goes while something is sent.
 *
 * @param {object} sent `state` of the broadcaster, its `refusal`, its `watchers`, who was `interrupted` last and did not
 *   say goodbye, and the `server`
 * @returns {[string, string]} the words, and what more there is to say, which may be empty
 */
export function describe({ state, refusal, watchers, interrupted, server }) {
  const seeing = watchers.filter(({ up }) => up).length;
  if (seeing > 0) {
    const more = {
      unreachable: "The server cannot be reached: those who watch go on, and nobody else can come.",
      refused: `Nobody else can come. The server says: ${refusal}`,
    };
    return [`Sent to ${seeing === 1 ? "1 receiver" : `${seeing} receivers`}`, more[state] ?? ""];
  }
  if (state === "refused") return refused(refusal);
  if (state === "unreachable") {
    return ["The server cannot be reached, trying again…", `Check that you are online. ${server} does not answer.`];
  }
  if (interrupted !== null) return ["The connection was interrupted, trying again…", ""];
  if (state === "connecting") return ["Connecting with the server…", ""];
  if (watchers.length > 0) return ["Somebody comes to watch…", ""];
  return ["Waiting for somebody to watch", "Your picture is sent only while somebody watches."];
}

/** Who records, in words; empty where nobody does. */
export function recordedBy(watchers) {
  const names = watchers.filter(({ recorded }) => recorded).map(called);
  return names.length === 0 ? "" : `Recorded by ${names.join(", ")}`;
}

/** What people call who watches, a person or a program. */
export function called({ name, session }) {
  return name || `Receiver …${session.slice(-4)}`;
}

const PROBLEMS = {
  denied: [
    "Your browser does not let this page use the camera",
    "Nothing is sent. If you want it to be: press the sign beside the address of this page, allow the camera there, and try again.",
  ],
  system: [
    "Your system does not let the browser use the camera",
    "Nothing is sent. Allow it in the settings of your system, under “Privacy” and “Camera”, and try again.",
  ],
  busy: [
    "The camera is in use by another program",
    "Close what else may use it, such as a video call, and try again. If that does not help, unplug it and plug it in again, or restart the browser.",
  ],
  none: [
    "No camera was found",
    "Plug one in, or switch it on: some laptops have a slide or a key for it. Then try again. Or open this page on your phone.",
  ],
  other: ["The camera could not be opened", "Restart the browser, or take another one, and try again."],
};

const SILENCES = {
  denied: "Your browser does not let this page use the microphone",
  system: "Your system does not let the browser use the microphone",
  busy: "The microphone is in use by another program",
  none: "No microphone was found",
  other: "The microphone could not be opened",
  unplugged: "The microphone was unplugged",
};

/** Why there is no camera and what to do about it: `[title, hint]`. */
export function cameraWords(problem) {
  return PROBLEMS[problem];
}

/** Why there is no sound, empty where that is nothing to speak of. */
export function microphoneWords(problem) {
  return problem === null ? "" : `${SILENCES[problem]}: only your picture is sent.`;
}

/** Why no voice can be sent where there is no picture either: `[title, hint]`. */
export function voiceWords(problem) {
  return [SILENCES[problem], "Nothing is sent."];
}

/** What stands where one's own picture would be, empty where that is there. */
export function curtainWords({ off, lack, paused, voice = false }) {
  if (lack === "unplugged") return "The camera was unplugged. Plug it in again, or choose another one in the settings.";
  if (lack !== null && voice) return `${PROBLEMS[lack][0]}. Only your voice is sent.`;
  if (lack !== null) return PROBLEMS[lack].join(". ");
  if (off) return "Your camera is off. Nobody sees you.";
  return paused ? "Your system has paused the camera, as while a call comes in. It goes on by itself." : "";
}

/** Where the server does not let the page in, with its own words. */
export function refused(refusal) {
  return ["The server does not let you in", /[.!?]$/.test(refusal) ? refusal : `${refusal}.`];
}

export const STOPPED = ["You have stopped", "Nothing is sent any more, and camera and microphone are off. You can close this page, or start again."];

export const INSECURE = [
  "Browsers give the camera only to pages that come over https",
  "The address of this page begins with http. Ask whoever gave it to you for a link that begins with https.",
];

export function unsupported(lacks) {
  return [
    "This browser cannot send your camera",
    `${lacks} is missing or switched off in it. Current versions of Chrome, Edge, Firefox and Safari will do.`,
  ];
}
