// Where the page is, and whom it can be asked to show.

/** The signaling beside a page, below whatever prefix a proxy has the page. */
export function signalingBeside({ href }) {
  const url = new URL("ws", href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
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
