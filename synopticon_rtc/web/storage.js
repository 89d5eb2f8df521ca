// What a browser remembers from one visit to the next. Storage may be forbidden, and everything works without it.

export function remember(key, value) {
  try {
    localStorage.setItem(`synopticon.${key}`, value);
  } catch {}
}

/** What was remembered, null where nothing was. */
export function recall(key) {
  try {
    return localStorage.getItem(`synopticon.${key}`);
  } catch {
    return null;
  }
}
