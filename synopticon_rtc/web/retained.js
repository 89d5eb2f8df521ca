// Pictures that wait for what was found in them.

const MOST = 12;
const NEAR = 12; // ms, less than half of the way to the next picture at 30 a second

export class Retained {
  #kept = []; // { captured, picture }, in the order in which they came

  /** Keep a picture, which has a `close()`, that was captured at that time (ms). */
  add(captured, picture) {
    this.#kept.push({ captured, picture });
    if (this.#kept.length > MOST) this.#kept.shift().picture.close();
  }

  /** Give out the picture of that time, and let go of all before it; null where it is not there, or not any more. */
  take(captured) {
    const away = this.#kept.map((each) => Math.abs(each.captured - captured));
    const at = away.indexOf(Math.min(...away));
    if (at < 0 || away[at] > NEAR) return null;
    const before = this.#kept.splice(0, at + 1);
    const { picture } = before.pop();
    for (const each of before) each.picture.close();
    return picture;
  }

  clear() {
    for (const { picture } of this.#kept.splice(0)) picture.close();
  }
}
