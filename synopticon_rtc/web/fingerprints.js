// A worker that tells the page of each encoded frame before it is decoded, and changes none.

import { fingerprint } from "./marks.js";

onrtctransform = ({ transformer }) => {
  const look = new TransformStream({
    transform(frame, controller) {
      const timestamp = frame.getMetadata().rtpTimestamp ?? frame.timestamp;
      postMessage({ mid: transformer.options.mid, timestamp, mark: fingerprint(frame.data) });
      controller.enqueue(frame);
    },
  });
  transformer.readable.pipeThrough(look).pipeTo(transformer.writable).catch(() => {}); // the connection has ended
};
