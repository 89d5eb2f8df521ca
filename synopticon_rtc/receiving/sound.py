"""Sound as its receiver sees it: what was received comes in, and moments go out in step with the picture."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synopticon_rtc.basics.recent import Recent
from synopticon_rtc.receiving.latency import age
from synopticon_rtc.receiving.lips import Held, Lips
from synopticon_rtc.rtc import EncodedSound, ReceivedSound

RATE = 48_000
"""Samples a second (RFC 7587 section 4.1)."""


@dataclass(frozen=True, slots=True, eq=False)
class AudioMoment:
    """A piece of sound, most often 20 ms.

    Each follows the one before without a hole, but where the broadcaster sends nothing for more than a second, or
    begins anew.

    Attributes:
        samples: float32 of -1 to 1, of shape (n, channels), with one channel or two.
        rate: Samples a second.
        captured: When the first sample was captured, seconds since the epoch on the broadcaster's clock; None where it
            did not tell (yet).
        concealed: Whether it was made up, as it was lost on the way or came too late.
        rtp_timestamp: That of the first sample, 0 to 2**32 - 1, in 1/48000 s.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    captured: float | None
    concealed: bool
    rtp_timestamp: int


class SoundStream:
    """One sound of one connection.

    Args:
        give: Called with each moment when it is due.
        lips: What keeps it in step with the picture; None where there is none.
        tapped: Called with each packet as it came.

    Attributes:
        offset: Gives the sender's clock minus ours, seconds, None while it is not known.
        tapped: As above.
        closed: Whether it was closed; what comes in later is left out.
        samples: How many were given out.
        concealed: How many of those were made up.
    """

    def __init__(
        self,
        *,
        give: Callable[[AudioMoment], None],
        lips: Lips | None = None,
        tapped: Callable[[EncodedSound], None] = lambda _: None,
    ) -> None:
        self.offset: Callable[[], float | None] = lambda: None
        self.tapped = tapped
        self.closed = False
        self.samples = 0
        self.concealed = 0
        self._give = give
        self._held: Held[AudioMoment] = Held(lips.sound if lips is not None else lambda _, now: now, self._give_out)
        self._delay = Recent()
        self._loop = asyncio.get_running_loop()

    @property
    def delay(self) -> float | None:
        """From capture to being given out, seconds, the mean of the last two seconds; None where that is not known."""
        return self._delay.mean(self._loop.time())

    def decoded(self, received: ReceivedSound) -> None:
        """Take what is due of a track."""
        if not self.closed:
            self._held.put(
                AudioMoment(received.samples, RATE, received.captured, received.concealed, received.rtp_timestamp)
            )

    def age(self, moment: AudioMoment) -> float | None:
        """Return how long ago a moment was captured, in seconds by aligned clocks; None where that is not known."""
        return age(moment.captured, self.offset())

    def close(self) -> None:
        """Give out what waits, and take nothing more."""
        self._held.close()
        self.closed = True
        offset = self.offset()
        self.offset = lambda: offset  # it holds the peer, and that holds this

    def _give_out(self, moment: AudioMoment) -> None:
        self.samples += len(moment.samples)
        self.concealed += len(moment.samples) * moment.concealed
        if (delay := self.age(moment)) is not None:
            self._delay.add(self._loop.time(), delay)
        self._give(moment)
