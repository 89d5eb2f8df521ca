// Keeps the screen of a phone on, where the browser can do that.

let lock = Promise.resolve(null); // the last one, null where there is none

/** Keep it on, or no longer. A page that goes into the background loses it, and asks again when it is back. */
export function keepAwake(wanted) {
  lock = lock.then(async (held) => {
    if (wanted && held !== null && !held.released) return held;
    if (wanted) return (await navigator.wakeLock?.request("screen").catch(() => null)) ?? null;
    await held?.release();
    return null;
  });
}
