"""The file that sound is written to."""

import contextlib
import wave
from pathlib import Path
from types import TracebackType
from typing import Self

import click
import numpy as np

from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.receiving.sound import AudioMoment

LONGEST_GAP = 600.0
"""Seconds in which nothing came that are written as silence; more is the end of one sound and the begin of another."""
_TICKS = 2**32  # of an RTP timestamp


class SoundFile:
    """A WAV file of 16 bits, in as many channels as the sound begins with.

    Where nothing comes for a while there is silence in it, so that what follows stays in its time.

    Args:
        path: Its name.

    Raises:
        click.FileError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wave: wave.Wave_write | None = None
        self._channels = 0
        self._next: int | None = None  # the RTP timestamp of what comes next
        try:
            self._file = path.open("wb")
        except OSError as error:
            raise click.FileError(str(path), error.strerror) from error

    def write(self, moment: AudioMoment) -> None:
        """Write a moment.

        Raises:
            SynopticonError: It cannot be written.
        """
        try:
            if self._wave is None:
                self._channels = moment.samples.shape[1]
                self._wave = wave.open(self._file, "wb")  # noqa: SIM115 - closed with this
                self._wave.setnchannels(self._channels)
                self._wave.setsampwidth(2)
                self._wave.setframerate(moment.rate)
            missing = 0 if self._next is None else (moment.rtp_timestamp - self._next) % _TICKS
            if missing <= LONGEST_GAP * moment.rate:
                self._wave.writeframesraw(bytes(2 * self._channels * missing))
            self._next = (moment.rtp_timestamp + len(moment.samples)) % _TICKS
            samples = moment.samples
            if samples.shape[1] != self._channels:
                samples = np.repeat(samples.mean(axis=1, keepdims=True), self._channels, axis=1)
            self._wave.writeframesraw(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        except OSError as error:
            raise SynopticonError(f"{self._path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError), self._file:  # said by write
            if self._wave is not None:
                self._wave.close()
