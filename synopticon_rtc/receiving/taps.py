"""Those who are told of all that a receiver gets, as it was encoded."""

import functools
from collections.abc import Callable

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.peers.tap import Tap, Tapped
from synopticon_rtc.rtc import EncodedSound, EncodedVideoFrame


class Taps:
    """Tells those who record, and those who pass on, what comes.

    Args:
        changed: Called when one comes or goes.
        faults: What counts errors that nobody foresaw.
    """

    def __init__(self, changed: Callable[[], None], faults: Faults) -> None:
        self._changed = changed
        self._faults = faults
        self._all: list[tuple[Tap, Callable[[], bool] | None]] = []

    def add(self, tap: Tap, recorded: Callable[[], bool] | None) -> Callable[[], None]:
        """Tell somebody until what is returned is called, with the arguments of :meth:`.Receiver.tap`."""
        self._all.append((tap, recorded))
        self._changed()
        return functools.partial(self._remove, tap, recorded)

    def _remove(self, tap: Tap, recorded: Callable[[], bool] | None) -> None:
        self._all.remove((tap, recorded))
        self._changed()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._all)

    @property
    def records(self) -> bool:
        """Whether any of them records."""
        return any(recorded is None for _, recorded in self._all)

    def is_recorded(self) -> bool:
        """Whether anybody records, here or further on."""
        return any(recorded is None or recorded() for _, recorded in self._all)

    def video(self, handle: Tapped, frame: EncodedVideoFrame, captured: Callable[[int], float | None]) -> None:
        """Tell of a frame, as :meth:`.Tap.video`; when it was captured is worked out by its RTP timestamp."""
        for tap, _ in self._all.copy():
            tap.video(handle, frame, captured(frame.rtp_timestamp))

    def sound(self, handle: Tapped, packet: EncodedSound) -> None:
        """Tell of a packet of sound, as :meth:`.Tap.sound`."""
        for tap, _ in self._all.copy():
            tap.sound(handle, packet)

    def faces(self, handle: Tapped, message: FacesMessage, data: str | bytes | None) -> None:
        """Tell of faces, as they came or were found here."""
        for tap, _ in self._all.copy():
            self._faults.call(tap.faces, handle, message, data if isinstance(data, bytes) else None)
