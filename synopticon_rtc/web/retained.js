// Pictures, and what was found in them, each of which waits for the other: either may be there first.

const PICTURES = 12;
const MESSAGES = 4;
const NEAR = 12; // ms, less than half of the way to the next picture at 30 a second

export class Retained {
  #pictures = []; // { captured, picture }, in the order in which they came
  #messages = []; // { captured, message }

  /**
   * Take a picture, which has a `close()`, that was captured at that time (ms).
   *
   * @returns {?{picture: object, message: object}} with its message, where that waits for it
   */
  add(captured, picture) {
    this.#pictures.push({ captured, picture });
    if (this.#pictures.length > PICTURES) this.#pictures.shift().picture.close();
    return this.#meet(captured);
  }

  /** Take a message of a picture that was `captured` then; returns the same. */
  take(message) {
    const { captured } = message;
    this.#messages.push({ captured, message });
    if (this.#messages.length > MESSAGES) this.#messages.shift();
    return this.#meet(captured);
  }

  clear() {
    for (const { picture } of this.#pictures.splice(0)) picture.close();
    this.#messages = [];
  }

  /** Join what is of that time, and let go of all before it: what is shown never goes back. */
  #meet(captured) {
    const [picture, message] = [nearest(this.#pictures, captured), nearest(this.#messages, captured)];
    if (picture < 0 || message < 0) return null;
    const pictures = this.#pictures.splice(0, picture + 1);
    const joined = { ...pictures.pop(), ...this.#messages.splice(0, message + 1).pop() };
    for (const each of pictures) each.picture.close();
    return { picture: joined.picture, message: joined.message };
  }
}

/** Where that is which is nearest to a time, -1 where nothing is near. */
function nearest(kept, captured) {
  const away = kept.map((each) => Math.abs(each.captured - captured));
  const least = Math.min(...away);
  return least <= NEAR ? away.indexOf(least) : -1;
}
