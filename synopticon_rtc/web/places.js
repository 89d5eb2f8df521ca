// Where the page is, and whom it can be asked to show.

import { shownName } from "./names.js";
import { recall, remember } from "./storage.js";

/** The signaling beside a page, below whatever prefix a proxy has the page. */
export function signalingBeside({ href }) {
  const url = new URL("ws", href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/**
 * What the address of a page asks for. A token leaves the address, and stays with this entry of the history, so that the
 * page can be loaded again.
 *
 * @returns {{query: URLSearchParams, server: string, url: string, token: ?string}} `server` without, `url` with room, token and holder
 */
export function readAddress(location, history) {
  const query = new URLSearchParams(location.search);
  const token = query.get("token") ?? history.state?.token ?? null;
  if (query.has("token")) {
    query.delete("token");
    history.replaceState({ token }, "", `?${query}${location.hash}`);
  }
  const server = query.get("url") ?? signalingBeside(location);
  return { query, server, url: withQuery(server, { room: query.get("room"), token, holder: token && holder() }), token };
}

/** What a server knows this browser by, so that a link which is for one has it back. */
function holder() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  const known = recall("holder") ?? Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  remember("holder", known);
  return known;
}

/** The host of an address, as people read it. */
export function hostOf(address) {
  try {
    return new URL(address).host;
  } catch {
    return address; // it is none, and will be said to be
  }
}

function withQuery(address, parameters) {
  try {
    const url = new URL(address);
    for (const [key, value] of Object.entries(parameters)) if (value) url.searchParams.set(key, value);
    return url.href;
  } catch {
    return address; // it is none, and will be said to be
  }
}

/**
 * What a token (JWT, RFC 7519) says of its bearer, for people to read; the server alone can check it.
 *
 * @returns {{name: string, room: string}} empty where it does not say
 */
export function readToken(token) {
  let claims = {};
  try {
    const payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (byte) => byte.charCodeAt(0))));
  } catch {} // there is none, or it is none
  return { name: shownName(claims?.name), room: shownName(claims?.room) };
}

/**
 * What a list of broadcasters has to choose from: by name where that tells them apart, else by session.
 *
 * @param {{session: string, name: string}[]} broadcasters that the server tells of
 * @param {string|null} from who is asked for, there or not
 */
export function choices(broadcasters, from) {
  const names = broadcasters.map(({ name }) => name);
  const options = broadcasters.map(({ session, name }) => {
    const plain = name !== "" && names.indexOf(name) === names.lastIndexOf(name);
    const text = plain ? name : `${name || "Broadcaster"} …${session.slice(-4)}`;
    return { value: plain && session !== from ? name : session, text };
  });
  const known = from === null || options.some(({ value }) => value === from);
  return [{ value: "", text: "Any broadcaster" }, ...options, ...(known ? [] : [{ value: from, text: `${from} (not there)` }])];
}
