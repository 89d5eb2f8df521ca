"""By how much a server on the way has moved the RTP timestamps of a stream, found out by fingerprints of frames."""

REMEMBERED = 256
"""Frames and marks that are remembered: some seconds of them."""


class Shift:
    """Compares what the broadcaster says of some of its frames with the frames that come.

    A server moves all timestamps of a stream by the same amount, until it begins another one. So a frame of which both
    timestamps are known tells it for all. Two must agree in a row, as frames may be the same; a fingerprint that
    several frames are known to have tells nothing.

    Attributes:
        value: What is to be added to the broadcaster's timestamps, modulo 2**32; None while it is not known.
    """

    def __init__(self) -> None:
        self.value: int | None = None
        self._frames: dict[int, int | None] = {}  # timestamps by fingerprint; None where several frames have it
        self._marks: dict[int, int] = {}
        self._doubted: tuple[int, int] | None = None  # another shift, and the fingerprint that told it

    def frame(self, timestamp: int, fingerprint: int) -> None:
        """A frame came."""
        known = fingerprint in self._frames
        self._frames[fingerprint] = None if known else timestamp
        self._compare(fingerprint)
        _bound(self._frames)

    def begin_anew(self) -> None:
        """From here on the timestamps of the frames are moved by another amount."""
        self.value = self._doubted = None
        self._frames.clear()

    def mark(self, timestamp: int, fingerprint: int) -> None:
        """The broadcaster says what timestamp it has given to a frame with this fingerprint."""
        self._marks[fingerprint] = timestamp
        self._compare(fingerprint)
        _bound(self._marks)

    def apply(self, timestamp: int) -> int:
        """Return a timestamp of the broadcaster's as it came here, once that is known."""
        return (timestamp + (self.value or 0)) % 2**32

    def _compare(self, fingerprint: int) -> None:
        came, sent = self._frames.get(fingerprint), self._marks.get(fingerprint)
        if came is None or sent is None:
            return
        shift = (came - sent) % 2**32
        if shift == self.value:
            self._doubted = None
        elif self._doubted is None or shift != self._doubted[0]:
            self._doubted = shift, fingerprint
        elif fingerprint != self._doubted[1]:
            self.value, self._doubted = shift, None


def _bound(kept: "dict[int, int] | dict[int, int | None]") -> None:
    while len(kept) > REMEMBERED:
        del kept[next(iter(kept))]
