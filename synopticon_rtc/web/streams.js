// What a broadcaster publishes on one connection (docs/signaling.md, "Several streams").

const MOST = 7;
const LONGEST = 64; // characters of a name

/** What a message lists, as far as it can be used; null where it lists nothing. */
export function readStreams({ streams }) {
  if (!Array.isArray(streams) || streams.length > MOST) return null;
  const isText = (text) => typeof text === "string" && text.length <= LONGEST;
  const usable = streams.filter((stream) => isText(stream?.name) && ["video", "audio"].includes(stream.kind));
  return usable.map(({ name, kind, hint, mid, muted, faces }) => ({
    name,
    kind,
    hint: isText(hint) ? hint : "",
    mid: isText(mid) ? mid : null,
    muted: muted === true,
    faces: faces === true,
  }));
}

export class Streams {
  #listed = null; // null where the broadcaster lists nothing, as a page
  #tracks = new Map(); // by media section

  /** Take what the broadcaster lists now. */
  list(streams) {
    this.#listed = streams;
  }

  /** Take a track that comes on a media section. */
  add(mid, track) {
    this.#tracks.set(mid, track);
  }

  /** The videos that come, in the order in which they were published: `{ name, hint, muted, faces, track }`. */
  get videos() {
    return this.#of("video");
  }

  /** The sound that comes, null where there is none. */
  get sound() {
    return this.#of("audio").find(({ muted }) => !muted) ?? null;
  }

  /** Whether there would be sound, but all of it is muted. */
  get silent() {
    const sounds = this.#listed?.filter(({ kind }) => kind === "audio") ?? [];
    return sounds.length > 0 && sounds.every(({ muted }) => muted);
  }

  /** The name of the video of the first offer, null where nobody names it. */
  get first() {
    const [mid] = [...this.#tracks].find(([, { kind }]) => kind === "video") ?? [];
    return this.#listed?.find((stream) => stream.mid !== null && stream.mid === mid)?.name ?? null;
  }

  #of(kind) {
    if (this.#listed !== null) {
      const coming = this.#listed.filter((stream) => stream.kind === kind && this.#tracks.has(stream.mid));
      return coming.map((stream) => ({ ...stream, track: this.#tracks.get(stream.mid) }));
    }
    const track = [...this.#tracks.values()].find((each) => each.kind === kind);
    return track && kind === "video" ? [{ name: null, hint: "camera", muted: false, faces: true, track }] : [];
  }
}
