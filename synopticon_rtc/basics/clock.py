"""The clocks that everything below the commands goes by: that of the event loop, and a time of day that never jumps."""

import asyncio
import time

_BEGUN = time.time() - time.monotonic()


def monotonic() -> float:
    """Return seconds on the clock of the event loop that runs here, as its timers go; where none runs, the machine's.

    An event loop whose clock is turned, as tests have one, turns all that reads this.
    """
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def now() -> float:
    """Return seconds since the epoch, as the machine's clock had it when the process began and has counted on since.

    Whoever sets that clock meanwhile changes nothing here, so differences are true. Where it is kept right bit by bit,
    as NTP does, this follows.
    """
    return _BEGUN + monotonic()
