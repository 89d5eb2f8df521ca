"""Errors that nobody foresaw: a fault of ours, or of a callback that an application has passed in."""

import functools
import logging
import sys
import threading
import time
from collections.abc import Callable

from synopticon_rtc.basics.seldom import Seldom

logger = logging.getLogger(__name__)

EVERY = 60.0  # seconds between two lines that tell of one and the same fault
WARNINGS = 8  # in that time, of one kind: what befalls many peers at once shall not fill a log

_Place = tuple[str, type[BaseException], object, int]


class Faults:
    """Counts them, and logs each with its trace the first time that it happens: whoever causes it may do so at will.

    What the error ends is decided where it is caught, and is the smallest thing that can end: one message, one peer.
    Threads may share one of these.

    Args:
        above: Those of the whole that this is a part of, such as a broadcaster of whose peers this is one: what is
            noted here is counted there as well, and logged there.
        clock: Tells the time (s).

    Attributes:
        count: How many there were.
    """

    def __init__(self, above: "Faults | None" = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._above = above
        self._clock = clock
        self._places: dict[_Place, Seldom] = {}  # as many as there are lines of code that fail
        self._warnings: dict[str, Seldom] = {}  # as many as there are lines of code that warn
        self._lock = threading.Lock()

    def note(self, what: str, *arguments: object, error: BaseException | None = None) -> None:
        """Take note of an error.

        Args:
            what: What is over because of it, in words for the log, with ``%s`` for each argument.
            arguments: What stands there; this may differ from one time to the next.
            error: None for the one that is being handled.
        """
        error = error or sys.exception()
        with self._lock:
            self.count += 1
        if self._above is not None:
            self._above.note(what, *arguments, error=error)
        else:
            self._log(what % arguments if arguments else what, error, _place(what, error))

    def _log(self, text: str, error: BaseException | None, place: _Place) -> None:
        with self._lock:
            first = place not in self._places
            more = self._places.setdefault(place, Seldom(EVERY, self._clock)).take()
        if first:
            logger.error("%s", text, exc_info=error)
        elif more is not None:
            logger.error("%s: %r, as told before (%d more since)", text, error, more)

    def warn(self, log: logging.Logger, message: str, *arguments: object) -> None:
        """Log a trouble that is no fault of ours, and may befall many peers at once: some lines of each kind a minute.

        Args:
            log: Where.
            message: What it is in words, with ``%s`` for each argument: it makes the kind.
            arguments: What stands there.
        """
        if self._above is not None:
            self._above.warn(log, message, *arguments)
            return
        with self._lock:
            lines = self._warnings.setdefault(message, Seldom(EVERY, self._clock, most=WARNINGS))
            more = lines.take()
        if more is not None:
            log.warning(f"{message} (and %d more since)" if more else message, *arguments, *([more] if more else []))

    def call(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        """Call a callback, if there is one; what it raises is noted, as it would end what others live on."""
        if callback is None:
            return
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001 - it is noted
            self.note("a call of %s failed", _name(callback))


def _name(callback: Callable[..., object]) -> str:
    while isinstance(callback, functools.partial):
        callback = callback.func
    return getattr(callback, "__qualname__", type(callback).__qualname__)


def _place(what: str, error: BaseException | None) -> _Place:
    """Return what makes two errors the same: where they were caught, of which kind they are and where raised."""
    trace = error.__traceback__ if error is not None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code if trace is not None else None
    return what, type(error) if error is not None else BaseException, code, trace.tb_lineno if trace is not None else 0
