import assert from "node:assert/strict";
import { test } from "node:test";

import { refusalOf } from "./web/signaling.js";

const asked = (status, text) => {
  globalThis.fetch = async (url) => {
    assert.equal(url, "https://lab/ws?room=x");
    return new Response(text, { status });
  };
  return refusalOf("wss://lab/ws?room=x");
};

test("a server that lets nobody in says why, and others say nothing of that", async () => {
  const said = JSON.stringify({ error: "bad_room", message: "The name of a room has at most 100 printable characters" });
  for (const status of [400, 401, 403]) assert.match(await asked(status, said), /at most 100/);
  for (const status of [200, 404, 426, 502]) assert.equal(await asked(status, said), null);
  for (const text of ["", "<html>", "[]", "null", "{}", '{"message": 7}']) assert.equal(await asked(403, text), null);
  globalThis.fetch = async () => {
    throw new TypeError("Failed to fetch");
  };
  assert.equal(await refusalOf("wss://lab/ws"), null);
});
