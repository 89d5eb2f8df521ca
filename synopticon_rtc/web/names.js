// What strangers call themselves, or others in a link, made fit to be shown and told.

const MOST = 80; // characters
const HIDDEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu; // what is not seen, or turns the direction of writing round

/** A name without what cannot be seen, and not too long; empty where there is none. */
export function shownName(name) {
  return typeof name === "string" ? [...name.slice(0, 4 * MOST).replace(HIDDEN, "").trim()].slice(0, MOST).join("") : "";
}
