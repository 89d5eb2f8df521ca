"""Where sound comes from, and how it becomes blocks of 20 ms."""

import asyncio
import functools
import logging
import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import av
import numpy as np
import numpy.typing as npt
from av.audio.fifo import AudioFifo
from av.audio.resampler import AudioResampler

from synopticon_rtc.basics import clock
from synopticon_rtc.errors import MissingExtra, SourceError
from synopticon_rtc.media.pacing import taken

RATE = 48_000
"""Samples a second of every block, as Opus and its RTP clock have it (RFC 7587 section 4.1)."""
BLOCK = 960
"""Samples of a block: 20 ms."""
GAP = 0.015
"""Seconds from which on sound that is missing is a gap, where the source tells its times."""
UNEVEN = 0.04
"""The same where the times are only those at which pieces come, which may be uneven."""
LATE = 0.2
"""Seconds by which a piece may come later than is usual for its source; what is older is left out."""
_CERTAIN = 0.1  # seconds for which all must come late until it is certain that sound is missing
_FOLLOW = 0.002  # how much of the difference between the device's clock and ours is made up for with each piece
_LATER = 0.1  # how much later it may become usual that pieces come, seconds a second
_KEPT = 50  # pieces of a device that wait for the event loop
_SMOOTH = 0.05  # how much of what a device says anew of its times is believed with each piece
_STRETCH = 0.25  # by what part of a piece its time may be off the even pace
_LOOK_INTERVAL = 1.0  # seconds from one look for a device to the next
_SILENCE = 3.0  # seconds after which a device that gives nothing is looked for anew
_LIKE = 0.5  # how like the tone samples must be to be it; 1 is the same

log = logging.getLogger(__name__)

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sound:
    """A piece of sound, and when it was captured."""

    frame: av.AudioFrame
    """The samples, which are only read."""
    captured: float
    """When the first of them was captured, seconds since the epoch."""


@runtime_checkable
class SoundSource(Protocol):
    """Anything that gives sound when iterated asynchronously, such as an async generator of ``av.AudioFrame``.

    Each ``aiter()`` opens the source anew and closes it when the iteration ends. Sound comes in real time, in pieces of
    any length, rate and format, all of which may change on the way. A piece was captured just before it came, unless
    the source knows better and gives a :class:`Sound`. Raises :class:`synopticon_rtc.errors.SourceError` when there is
    no sound to be had and none to be expected.
    """

    def __aiter__(self) -> AsyncIterator[av.AudioFrame | Sound]: ...


class Sounding(Protocol):
    """What has a sound beside its pictures, such as a film."""

    @property
    def sound(self) -> SoundSource:
        """Where it comes from."""
        ...


AnySound: TypeAlias = SoundSource | Sounding | str | int
"""What a program may give as its sound: a source; a film; the name or number of a microphone."""


async def blocks_of(source: SoundSource) -> AsyncGenerator[Sound, None]:
    """Give the sound of a source in blocks of 20 ms at 48 kHz, float, in one channel or two as it has them.

    Each has the time at which its first sample was captured. That grows evenly, by 20 ms from block to block; where it
    grows by more, sound is missing there: a gap, not a shift. Pieces that come very late, as when the event loop stood
    still, are left out.

    Raises:
        SourceError: The source says so, or gives something else than sound.
    """
    blocks = Blocks()
    pieces = aiter(source)
    try:
        async for piece in pieces:
            for block in blocks.put(piece, clock.now()):
                yield block
            await asyncio.sleep(0)  # the event loop has its turn, whatever the source does
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


class Blocks:
    """Cuts pieces of sound into blocks, and tells when those were captured.

    Attributes:
        left_out: Pieces that came too late.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._form: tuple[str, str, int] | None = None  # that the resampler was made for; None for another one
        self._resampler: AudioResampler
        self._fifo: AudioFifo
        self._start: float | None = None  # when the first sample was captured, by all that came since
        self._taken = 0.0  # seconds of sound since then, up to the next piece
        self._given = 0.0  # and up to the next block
        self._late_since: float | None = None  # since when all comes late, and how late at the least
        self._least_late = 0.0
        self._usual = math.inf  # how long after its end a piece comes, s
        self._came = -math.inf  # when the piece before came

    def put(self, piece: object, now: float) -> list[Sound]:
        """Take the next piece, and return the blocks that are complete with it.

        Args:
            piece: ``av.AudioFrame`` or :class:`Sound`.
            now: When it came, seconds since the epoch.

        Raises:
            SourceError: It is neither.
        """
        is_timed = isinstance(piece, Sound)
        frame = checked_sound(piece.frame if isinstance(piece, Sound) else piece)
        duration = frame.samples / frame.sample_rate
        measured = piece.captured if isinstance(piece, Sound) else now - duration
        self._time(measured, now, _STRETCH * duration, exact=is_timed)
        assert self._start is not None  # noqa: S101 - it has just been told
        age = now - self._start - self._taken - duration
        self._usual = min(self._usual + _LATER * min(now - self._came, 2 * duration), age)
        self._came = now
        if age > self._usual + LATE:
            self._taken += duration
            self.left_out += 1
            self._form = None  # the next one does not go on where this began
            return []
        form = frame.format.name, frame.layout.name, frame.sample_rate
        if form != self._form:
            self._form = form
            self._resampler = AudioResampler("flt", "mono" if frame.layout.nb_channels == 1 else "stereo", RATE)
            self._fifo = AudioFifo()
            self._given = self._taken
        self._taken += duration
        return list(self._cut(frame, self._start))

    def _time(self, measured: float, now: float, step: float, *, exact: bool) -> None:
        """Follow the source's clock, and find the gaps.

        Args:
            measured: When the piece was captured, or after that where this is not exact.
            now: When it came.
            step: Seconds by which it may be after its time by the even pace, where that is no gap.
            exact: Whether the source said so.
        """
        if self._start is None:
            self._start = measured
            return
        late = measured - self._start - self._taken
        if exact:
            self._start += late if late < 0 or late >= GAP else min(step, late)
            self._form = None if late >= GAP else self._form
        elif late < UNEVEN:
            self._late_since = None
            # None comes before it is captured, so the earliest tells when that was.
            self._start += late if late < 0 else _FOLLOW * late
        else:
            self._least_late = late if self._late_since is None else min(self._least_late, late)
            self._late_since = now if self._late_since is None else self._late_since
            if now - self._late_since >= _CERTAIN:
                self._late_since = None
                self._start += self._least_late
                self._form = None

    def _cut(self, frame: av.AudioFrame, start: float) -> Iterator[Sound]:
        pts, frame.pts = frame.pts, None  # what it says is not looked at, and stays
        for resampled in self._resampler.resample(frame):
            resampled.pts = None
            self._fifo.write(resampled)
        frame.pts = pts
        while (block := self._fifo.read(BLOCK)) is not None:
            yield Sound(block, start + self._given)
            self._given += BLOCK / RATE


def checked_sound(frame: object) -> av.AudioFrame:
    """Return a frame of sound; raises SourceError for what is none."""
    if not isinstance(frame, av.AudioFrame):
        raise SourceError(f"a source of sound gave {type(frame).__name__}; give av.AudioFrame")
    if not frame.samples or not frame.sample_rate:
        raise SourceError(
            f"a source gave {frame.samples} samples at {frame.sample_rate} Hz; set the frame's sample_rate"
        )
    return frame


def framed(samples: Samples, rate: int = RATE) -> av.AudioFrame:
    """Return samples as a frame.

    Args:
        samples: From -1 to 1, in the shape (samples, channels) for one channel or two.
        rate: Of them, Hz.
    """
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), format="flt", layout=layout)
    frame.sample_rate = rate
    return frame


class Microphone:
    """What a microphone hears, by the library ``sounddevice``, of the extra ``audio``.

    The microphone is opened when the sound is asked for, and closed with it. Where it is unplugged, it is looked for
    every second until it is back.

    Args:
        device: Its number or a part of its name, as ``python -m sounddevice`` lists them; None for the system's own
            choice.
        channels: 1, or 2 for stereo.

    Raises:
        SourceError: While iterating: there is no such microphone, it cannot be opened, or PortAudio is missing.
        MissingExtra: While iterating: ``sounddevice`` is not installed.
    """

    def __init__(self, device: int | str | None = None, *, channels: int = 1) -> None:
        if channels not in {1, 2}:
            raise SourceError(f"a microphone has 1 or 2 channels here, not {channels}")
        self.device = device
        self.channels = channels
        self.name = "the microphone" if device is None else f"microphone {device}"

    def __aiter__(self) -> AsyncIterator[Sound]:
        return taken(self._record, keep=_KEPT)

    def _record(self, put: Callable[[Sound], None], stop: threading.Event) -> None:
        """Put piece after piece, in the thread of PortAudio; this one opens and closes."""
        library = sound_library("a microphone")
        stream, recording = self._open(library, put)
        lost = False
        try:
            while not stop.wait(_LOOK_INTERVAL):
                if lost:
                    try:
                        stream, recording = self._open(library, put)
                    except SourceError as error:
                        log.debug("%s", error)
                    else:
                        lost = False
                        log.info("%s is back", self.name)
                elif not stream.active or clock.now() - recording.came > _SILENCE:
                    lost = True
                    log.warning("%s gives no more sound; looking for it every second", self.name)
                    # PortAudio may wait for ever for a device that is gone.
                    threading.Thread(target=stream.close, name="close microphone", daemon=True).start()
        finally:
            if not lost:
                stream.close()

    def _open(self, library: ModuleType, put: Callable[[Sound], None]) -> tuple[Any, "Recording"]:
        try:
            information = library.query_devices(self.device, "input")
            rate = RATE
            try:
                library.check_input_settings(information["index"], self.channels, "float32", samplerate=rate)
            except library.PortAudioError:
                rate = int(information["default_samplerate"])
            recording = Recording(put, self.channels, rate, self.name)
            stream = library.RawInputStream(
                samplerate=rate,
                blocksize=rate // 50,
                device=information["index"],
                channels=self.channels,
                dtype="float32",
                latency="low",
                callback=recording.take,
            )
            try:
                stream.start()
            except library.PortAudioError:
                stream.close()
                raise
        except (library.PortAudioError, ValueError) as error:
            trouble = device_trouble(self.name, library, "input", error)
            raise SourceError(f"{trouble}, and check that this program may use it") from None
        return stream, recording


def device_trouble(name: str, library: ModuleType, direction: Literal["input", "output"], error: Exception) -> str:
    """Say that a device of sound cannot be used, why, and which there are."""
    there = [
        f'{index} "{device["name"]}"'
        for index, device in enumerate(library.query_devices())
        if device[f"max_{direction}_channels"]
    ]
    others = f"there is {', '.join(there)}" if there else "plug one in"
    return f"{name} cannot be used ({error}); {others}"


class Recording:
    """What one opened microphone gives, and when that was captured.

    A device may err by much about its times, while its samples follow one another: so the times do too.

    Args:
        put: Takes the pieces.
        channels: 1 or 2.
        rate: Of the samples, Hz.
        name: Of the microphone, for the log.

    Attributes:
        came: When the newest piece came, seconds since the epoch.
    """

    def __init__(self, put: Callable[[Sound], None], channels: int, rate: int, name: str) -> None:
        self.came = clock.now()
        self._put = put
        self._channels = channels
        self._rate = rate
        self._name = name
        self._next: float | None = None  # when the next piece is captured
        self._silent = 0  # samples since anything was heard

    def take(self, data: Any, count: int, times: Any, status: Any) -> None:  # noqa: ANN401 - sounddevice has no types
        """Take a piece, as PortAudio calls it."""
        self.came = clock.now()
        samples = np.frombuffer(data, np.float32).reshape(count, self._channels)
        age = times.currentTime - times.inputBufferAdcTime if times.inputBufferAdcTime else 0.0
        self._put(Sound(framed(samples, self._rate), self._captured(count, age, lost=bool(status.input_overflow))))
        before, self._silent = self._silent, 0 if samples.any() else self._silent + count
        if before < _SILENCE * self._rate <= self._silent:
            log.warning(
                "%s has given nothing but zeros for %g s; check that it is not muted, and that this program may use it "
                "(macOS: System Settings, Privacy & Security, Microphone)",
                *(self._name, _SILENCE),
            )

    def _captured(self, count: int, age: float, *, lost: bool) -> float:
        """Return when the piece that has just come was captured.

        Args:
            count: Its samples.
            age: Of the first one, by the device, s; less than there are samples where it does not know.
            lost: Whether sound before it is lost.
        """
        duration = count / self._rate
        latest = self.came - duration  # whatever the device says
        captured = min(self.came - age, latest)
        if self._next is not None and not lost:
            step = _STRETCH * duration
            captured = min(self._next + max(-step, min(step, _SMOOTH * (captured - self._next))), latest)
        self._next = captured + duration
        return captured


def sound_library(what: str) -> ModuleType:
    """Return the module ``sounddevice``.

    Args:
        what: What needs it, for the error.

    Raises:
        MissingExtra: It is not installed.
        SourceError: PortAudio, which it stands on, is missing.
    """
    try:
        import sounddevice  # noqa: PLC0415 - it loads PortAudio, which machines without sound often lack
    except ImportError:
        raise MissingExtra(what, "audio") from None
    except OSError as error:
        raise SourceError(
            f"{what} needs the library PortAudio ({error}); on Debian and Ubuntu: apt install libportaudio2"
        ) from None
    module: ModuleType = sounddevice
    return module


class Tone:
    """A test sound that tells when it was captured: :meth:`read_time` reads it from a few milliseconds of it.

    It is a tone that rises from 400 to 3400 Hz within each second of the clock, and begins again at the full second. So
    how high it is tells the time within the second. It passes Opus at any rate.

    Args:
        level: The amplitude, up to 1.
    """

    def __init__(self, level: float = 0.3) -> None:
        self.level = level

    async def __aiter__(self) -> AsyncGenerator[Sound, None]:
        at = clock.now()
        while True:
            due = at + BLOCK / RATE
            await asyncio.sleep(due - clock.now())
            yield Sound(framed(self.samples(at, BLOCK)[:, np.newaxis]), at)
            at = due

    def samples(self, time: float, count: int, rate: int = RATE) -> Samples:
        """Return the samples from a time on.

        Args:
            time: Of the first, seconds since the epoch.
            count: How many.
            rate: Of them, Hz.
        """
        return (self.level * np.sin(_phase((time % 1 + np.arange(count) / rate) % 1))).astype(np.float32)

    @staticmethod
    def read_time(samples: npt.NDArray[Any], near: float, rate: int = RATE) -> float | None:
        """Read from samples when the first of them was captured, to about a millisecond.

        Args:
            samples: 20 ms or more of one channel, at any scale; 40 ms tell more surely.
            near: What it may be, seconds since the epoch: of all times that are whole seconds apart, the nearest is
                returned.
            rate: Of the samples, Hz.

        Returns:
            Seconds since the epoch; None where this is not the tone for sure.
        """
        heard = np.asarray(samples, np.float64).ravel()
        likeness = np.fft.irfft(_spectrum(rate) * np.conj(np.fft.rfft(heard, rate)), rate)
        norm = math.sqrt(float(np.dot(heard, heard)) * len(heard) / 2)
        best = int(np.argmax(likeness))
        if not norm or likeness[best] < _LIKE * norm:
            return None
        time = best / rate
        return time + round(near - time)


def _phase(time: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the phase of the tone at times within a second; a second is a whole number of waves, so it joins up."""
    phase: npt.NDArray[np.float64] = 2 * np.pi * (400 * time + 1500 * time**2)
    return phase


@functools.lru_cache(maxsize=2)
def _spectrum(rate: int) -> npt.NDArray[np.complex128]:
    """Return that of a second of the tone."""
    return np.fft.rfft(np.sin(_phase(np.arange(rate) / rate)))


def parse_sound(text: str) -> SoundSource:
    """Return the source of sound that ``text`` names.

    Args:
        text: The number of a microphone or a part of its name; nothing for the system's own choice; ``test`` for
            :class:`Tone`.
    """
    if text == "test":
        return Tone()
    return Microphone(int(text) if text.isdecimal() else text or None)


def as_sound(value: object) -> SoundSource:
    """Return what a program gives as its source of sound as one.

    Args:
        value: A :class:`SoundSource`; what has one as its ``sound``, such as a film; what :func:`parse_sound` reads; or
            the number of a microphone.

    Raises:
        SourceError: It is none of these.
    """
    if isinstance(value, str):
        return parse_sound(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return Microphone(value)
    source = getattr(value, "sound", value)
    if isinstance(value, type) or not isinstance(source, SoundSource):
        what = f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
        raise SourceError(f"{what} is no source of sound: give a Microphone, or an async iterator of av.AudioFrame")
    return source
