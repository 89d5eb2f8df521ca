"""A loudspeaker that plays the sound of another machine, whose clock is not its own."""

import asyncio
import logging
import threading
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from synopticon_rtc.basics.opening import open_in_thread
from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.media.sound import device_trouble, sound_library
from synopticon_rtc.receiving.sound import RATE, AudioMoment

logger = logging.getLogger(__name__)

Samples = npt.NDArray[np.float32]

WAITING = 0.04
"""Seconds of sound that wait to be played: two blocks, as one comes while another is played."""
SLACK = 0.04
"""Seconds that may wait beyond these before what is too much is cut out."""
DEVICE = 0.04
"""Seconds that the device is to hold itself: it is filled by Python, which may do something else for some of these."""
MOST_WAITING = 1.0
"""Seconds that are kept where nothing plays them."""
MOST_OFF = 0.005
"""By which part sound is played faster or slower at the most, which nobody hears; clocks differ by a tenth of that."""
PULL = 0.1
"""By which part it is played faster for each second that waits too much."""
FADE = RATE // 200
"""Samples of a cross-fade, 5 ms."""


class Elastic:
    """What waits to be played: filled by one clock and emptied by another, it neither grows nor runs dry.

    What differs little, as clocks do, is made up for by playing a hair faster or slower. Where the delay of the sound
    has become shorter, there is too much of it at once: that is cut out, with a cross-fade. Where it has become longer,
    or nothing comes, there is silence until enough waits again. One thread may fill it and another one empty it.

    Args:
        rate: Samples a second of what it gives.
        channels: Of what it gives.

    Attributes:
        cuts: How often too much waited.
        starved: How often there was too little.
    """

    def __init__(self, rate: int = RATE, channels: int = 1) -> None:
        self.cuts = 0
        self.starved = 0
        self._rate = rate
        self._channels = channels
        self._samples: Samples = np.zeros((0, channels), np.float32)
        self._phase = 0.0  # of a sample, by which the first of them is played already
        self._level = WAITING  # seconds that wait, on average of late
        self._playing = False
        self._lock = threading.Lock()

    def put(self, samples: Samples) -> None:
        """Take samples of 48,000 a second, of shape (n, channels)."""
        if samples.shape[1] != self._channels:
            samples = np.repeat(samples.mean(axis=1, keepdims=True), self._channels, axis=1)
        with self._lock:
            self._samples = np.concatenate([self._samples, samples])[-round(MOST_WAITING * RATE) :]

    def pull(self, count: int) -> Samples:
        """Give samples to be played, of shape (count, channels); silence where there is nothing."""
        with self._lock:
            given = np.zeros((count, self._channels), np.float32)
            begins = not self._playing
            if begins and len(self._samples) < WAITING * RATE:
                return given
            self._playing = True
            waiting = len(self._samples) / RATE
            if waiting > WAITING + SLACK + count / self._rate:
                self._cut(round((waiting - WAITING) * RATE))
            self._level = WAITING if begins else self._level + (waiting - self._level) * min(1.0, count / self._rate)
            off = min(max(PULL * (self._level - WAITING), -MOST_OFF), MOST_OFF)
            positions = self._phase + np.arange(count + 1) * (1 + off) * RATE / self._rate
            there = int(np.searchsorted(positions[:-1], len(self._samples) - 1, side="right"))
            for channel in range(self._channels):
                known = self._samples[:, channel]
                given[:there, channel] = np.interp(positions[:there], np.arange(len(known)), known)
            if begins:
                given[:FADE] *= np.linspace(0, 1, FADE, dtype=np.float32)[:count, np.newaxis]
            if there < count:
                self._starve(given, there)
            else:
                played = int(positions[-1])
                self._samples, self._phase = self._samples[played:], float(positions[-1]) - played
            return given

    def _cut(self, count: int) -> None:
        """Leave out samples, and go over smoothly from those before to those after."""
        self.cuts += 1
        rising = np.linspace(0, 1, FADE, dtype=np.float32)[:, np.newaxis]
        before, after = self._samples[:FADE], self._samples[count:].copy()
        after[:FADE] *= rising
        after[:FADE] += before * rising[::-1]
        self._samples = after
        self._level = WAITING

    def _starve(self, given: Samples, there: int) -> None:
        """End softly what there was, and wait until there is enough again."""
        self.starved += 1
        fading = min(FADE, there)
        given[there - fading : there] *= np.linspace(1, 0, fading, dtype=np.float32)[:, np.newaxis]
        self._samples, self._phase, self._playing = self._samples[:0], 0.0, False


class Speaker:
    """Plays moments of sound while it is entered, by the library ``sounddevice``, of the extra ``audio``.

    Args:
        device: Its number or a part of its name, as ``python -m sounddevice`` lists them; None for the system's own
            choice.
    """

    def __init__(self, device: int | str | None = None) -> None:
        self._device = device
        self._name = "the loudspeaker" if device is None else f"loudspeaker {device}"
        self._stream: Any = None
        self._elastic = Elastic()
        self._told = False

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            SynopticonError: There is no such loudspeaker, it cannot be opened, or PortAudio is missing.
            MissingExtra: ``sounddevice`` is not installed.
        """
        await open_in_thread(self._open, lambda _: self._stream.close())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await asyncio.to_thread(self._stream.close)

    def play(self, moment: AudioMoment) -> None:
        """Play a moment after those before it, as soon as may be."""
        self._elastic.put(moment.samples)
        if not self._stream.active and not self._told:
            self._told = True
            logger.warning("%s plays no more; is it still there?", self._name)

    def _open(self) -> None:
        library = sound_library("a loudspeaker")
        try:
            information = library.query_devices(self._device, "output")
            channels = min(2, information["max_output_channels"])
            rate = RATE
            try:
                library.check_output_settings(information["index"], channels, "float32", samplerate=rate)
            except library.PortAudioError:
                rate = int(information["default_samplerate"])
            self._elastic = Elastic(rate, channels)
            self._stream = library.OutputStream(
                samplerate=rate,
                device=information["index"],
                channels=channels,
                dtype="float32",
                latency=DEVICE,
                callback=self._fill,
            )
            self._stream.start()
        except (library.PortAudioError, ValueError) as error:
            raise SynopticonError(device_trouble(self._name, library, "output", error)) from None

    def _fill(self, wanted: Samples, count: int, _time: object, _status: object) -> None:
        """Give what is to be played next, in the thread of PortAudio."""
        wanted[:] = self._elastic.pull(count)
