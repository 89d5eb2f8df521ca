"""The sound of a film, beside its pictures."""

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import av
import av.error
from av.container import InputContainer

from synopticon_rtc.basics import clock
from synopticon_rtc.media.pacing import taken
from synopticon_rtc.media.sound import Sound

_KEPT = 50  # pieces that wait for the event loop
_TOGETHER = 0.5  # seconds for which sound waits for the pictures to begin; after that it plays alone
_LATE = 0.1  # seconds after which sound is left out, as pictures are
_FAR = 2.0  # seconds of sound from which on they are skipped, not decoded
_LOOK = 0.01  # seconds from one look at the pictures to the next

log = logging.getLogger(__name__)


class Timeline:
    """Where a film is while its pictures are shown.

    Attributes:
        place: How often it has begun again, and at what time of the monotonic clock its timestamp 0 is due (s); None
            while none is shown. It is put as a whole, by the thread that shows them.
    """

    def __init__(self) -> None:
        self.place: tuple[int, float] | None = None


class Soundtrack:
    """The sound of a film, in step with its pictures while those are shown, else at its own pace.

    The film is opened a second time for it, so pictures and sound may lie in it as they like.

    Args:
        open_film: Opens the film, which has sound.
        timeline: Where the pictures are.
        loop: Whether it begins again at the end.
    """

    def __init__(self, open_film: Callable[[], InputContainer], timeline: Timeline, *, loop: bool) -> None:
        self._open = open_film
        self._timeline = timeline
        self._loop = loop

    def __aiter__(self) -> AsyncIterator[Sound]:
        return taken(self._play, keep=_KEPT)

    def _play(self, put: Callable[[Sound], None], stop: threading.Event) -> None:
        until = time.monotonic() + _TOGETHER
        while self._timeline.place is None and time.monotonic() < until and not stop.wait(_LOOK):
            pass
        end = time.monotonic()  # of what has been played
        while not stop.is_set():
            place = self._timeline.place
            with self._open() as container:
                end = self._play_once(container, place, end, put, stop)
            if not self._loop:
                return
            while place is not None and self._timeline.place is not None and self._timeline.place[0] == place[0]:
                if stop.wait(_LOOK):  # the pictures go on for longer
                    return

    def _play_once(
        self,
        container: InputContainer,
        place: tuple[int, float] | None,
        begin: float,
        put: Callable[[Sound], None],
        stop: threading.Event,
    ) -> float:
        """Give each piece when it is over, up to the end of the film or until its pictures begin again.

        Args:
            container: The film.
            place: Where the pictures are; None while none are shown.
            begin: When it begins in that case.
            put: Takes the pieces.
            stop: Set when no more are wanted.

        Returns:
            When the last one was over; like ``begin``, seconds of the monotonic clock.
        """
        if place is not None and (ahead := time.monotonic() - place[1]) > _FAR:
            container.seek(round(ahead * av.time_base))
        zero: float | None = None  # when timestamp 0 is due, where no pictures tell
        end = begin
        for frame in _decoded(container):
            if frame.time is None:
                continue
            shown = self._timeline.place
            if shown is not None and place is not None and shown[0] != place[0]:
                break
            zero = begin - frame.time if zero is None else zero
            due = (zero if shown is None else shown[1]) + frame.time
            end = due + frame.samples / frame.sample_rate
            now = time.monotonic()
            if now - end > _LATE:
                continue
            if stop.wait(max(0.0, end - now)):
                break
            put(Sound(frame, clock.now() + due - time.monotonic()))
        return end


def _decoded(container: InputContainer) -> Iterator[av.AudioFrame]:
    """Decode what can be decoded; a damaged piece is missing, and what breaks off ends."""
    stream = container.streams.audio[0]
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError) as error:
            log.warning("the sound of a film breaks off: %s", error.strerror)
            return
        if packet is None:
            return
        try:
            yield from stream.decode(packet)
        except (av.error.FFmpegError, OSError) as error:
            log.debug("a piece of sound is damaged and left out: %s", error)
