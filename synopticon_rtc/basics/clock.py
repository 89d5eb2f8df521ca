"""The time of day on a clock that never jumps."""

import time

_BEGUN = time.time() - time.monotonic()


def now() -> float:
    """Return seconds since the epoch, as the machine's clock had it when the process began and has counted on since.

    Whoever sets that clock meanwhile changes nothing here, so differences are true. Where it is kept right bit by bit,
    as NTP does, this follows.
    """
    return _BEGUN + time.monotonic()
