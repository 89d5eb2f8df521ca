// Follows one broadcaster: the one that is asked for, or the first that answers.

import { People } from "./people.js";

export class Receiver {
  #people;

  /**
   * @param {string} url of the signaling server
   * @param {string|null} from name or session of the one broadcaster to take, null for the first that answers
   * @param {object} on `changed()`, `streams()`, `faces(message, name)`, `log(text)`
   */
  constructor(url, from, on) {
    this.#people = new People(url, { from, most: 1 }, {
      ...on,
      faces: (person, message, name) => on.faces(message, name),
    });
  }

  /** The connection with the broadcaster, null while there is none. */
  get connection() {
    return this.#people.list.find(({ connection }) => connection !== null)?.connection ?? null;
  }

  /** What carries files to the broadcaster and from it; none while it is not there, or takes none. */
  get files() {
    return this.connection?.up && this.connection.files !== null ? [this.connection.files] : [];
  }

  /** Who was lost last and when, `{ name, since }`, null where nobody was, or it said goodbye. */
  get interrupted() {
    return this.#people.list.find(({ since }) => since !== null) ?? null;
  }

  /** Who does not let us watch, as it said last: `{ name, reason }`; null where nobody said so. */
  get declined() {
    return [...this.#people.declined.values()].at(-1) ?? null;
  }

  /** Why the server does not let us in; null where it does. */
  get refusal() {
    return this.#people.refusal;
  }

  /** Our session on the signaling server, null while there is none. */
  get session() {
    return this.#people.session;
  }

  /** "seeking", "connecting", "connected", "interrupted", "unreachable" (neither a broadcaster nor a server) or "refused". */
  get state() {
    if (this.connection !== null) return this.connection.up ? "connected" : "connecting";
    if (this.refusal !== null) return "refused";
    if (!this.#people.reachable) return "unreachable";
    return this.interrupted === null ? "seeking" : "interrupted";
  }

  /** The broadcasters that the server tells of: `{ session, name }`, the name empty where it has none. */
  get broadcasters() {
    return this.#people.broadcasters;
  }

  close(reason) {
    this.#people.close(reason);
  }
}
