// How a browser begins to send video.

// Chromium begins with 300 kbit/s, which makes a small picture; and one that moves little stays small for good.
const START = "x-google-start-bitrate=1000"; // kbit/s

/** An answer that has Chromium begin with a large picture; other browsers ignore what it says of that. */
export function withStartBitrate(sdp) {
  const lines = sdp.split(/\r?\n/);
  const numbers = (pattern) => new Set(lines.flatMap((line) => pattern.exec(line)?.[1] ?? []));
  const videos = numbers(/^a=rtpmap:(\d+) (?:VP8|H264)\//i);
  const described = numbers(/^a=fmtp:(\d+) /);
  const startingAt = (line) => {
    const [, attribute, number] = /^a=(rtpmap|fmtp):(\d+) /.exec(line) ?? [];
    if (!videos.has(number)) return line;
    if (attribute === "fmtp") return `${line};${START}`;
    return described.has(number) ? line : [line, `a=fmtp:${number} ${START}`];
  };
  return lines.flatMap(startingAt).join("\r\n");
}
