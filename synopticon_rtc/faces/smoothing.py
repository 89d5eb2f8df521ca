"""Landmarks that do not tremble."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import av
import numpy as np
import numpy.typing as npt

from synopticon_rtc.faces.detector import Detector, another
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.tracking import Tracker

GAP = 0.5  # seconds: a face that was missing for longer starts afresh
FARTHEST = 1e6  # frames: no landmark is further away, and what is not finite would stay in the smoothing

_Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """Of a face, with arrays of its own: those of a face are its user's to write to."""

    landmarks: npt.NDArray[np.float32]
    speed: _Floats  # per second, in sizes of the face
    time: float


class OneEuro:
    """Takes the tremor out of still landmarks, and lets moving ones go.

    The 1 Euro Filter (Casiez, Roussel, Vogel: 1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
    Interactive Systems, CHI 2012), with its parameters: a low-pass filter of each coordinate whose cutoff frequency
    grows with its speed. Speed is measured in widths of the face (heights for y) per second, so that the same
    parameters do for near faces and far ones. Blendshapes and matrix stay as they are.

    Args:
        mincutoff: Cutoff frequency at rest, in Hz: less is smoother, and slower to start.
        beta: How much the cutoff grows with the speed, in Hz per width a second: more lags less.
        dcutoff: Cutoff frequency of the speed itself, in Hz.
    """

    def __init__(self, *, mincutoff: float = 1.0, beta: float = 40.0, dcutoff: float = 3.0) -> None:
        if not (mincutoff > 0 and beta >= 0 and dcutoff > 0):
            raise ValueError(f"mincutoff {mincutoff} and dcutoff {dcutoff} must be above 0, beta {beta} at least 0")
        self._mincutoff = mincutoff
        self._beta = beta
        self._dcutoff = dcutoff
        self._states: dict[int, _State] = {}

    def another(self) -> "OneEuro":
        """Make one more with the same parameters, for other faces."""
        return OneEuro(mincutoff=self._mincutoff, beta=self._beta, dcutoff=self._dcutoff)

    def smooth(self, faces: Sequence[Face], time: float) -> tuple[Face, ...]:
        """Return the faces of a frame with their landmarks smoothed over those of the frames before.

        Faces are told apart by their id. Those that share one, as those do that pages send, are returned as they are:
        give them ids with a :class:`~synopticon_rtc.faces.Tracker` first. One with a landmark that is not finite is
        returned as it is, too, and starts afresh after that.

        Args:
            faces: All faces of the frame.
            time: Of the frame, in seconds of any clock. Where it goes back, smoothing starts afresh.
        """
        self._states = {id_: state for id_, state in self._states.items() if 0 <= time - state.time <= GAP}
        shared = Counter(face.id for face in faces)
        return tuple(face if shared[face.id] > 1 else self._smooth(face, time) for face in faces)

    def _smooth(self, face: Face, time: float) -> Face:
        landmarks = face.landmarks
        if not np.abs(landmarks).max(initial=0) <= FARTHEST:  # as it is where one is not a number
            self._states.pop(face.id, None)
            return face
        last = self._states.get(face.id)
        if last is None or last.landmarks.shape != landmarks.shape:
            self._states[face.id] = _State(landmarks.copy(), np.zeros_like(landmarks), time)
            return face
        elapsed = time - last.time
        if not elapsed:
            return replace(face, landmarks=last.landmarks.copy())
        box = face.box
        width, height = max(box.right - box.left, 1e-6), max(box.bottom - box.top, 1e-6)
        size = np.array([width, height, width], np.float32)
        speed = (landmarks - last.landmarks) / (size * elapsed)
        speed = last.speed + (speed - last.speed) * share(self._dcutoff, elapsed)
        part = share(self._mincutoff + self._beta * np.abs(speed), elapsed)
        smooth = (last.landmarks + (landmarks - last.landmarks) * part).astype(np.float32, copy=False)
        self._states[face.id] = _State(smooth.copy(), speed, time)
        return replace(face, landmarks=smooth)


def share(cutoff: _Floats | float, elapsed: float) -> _Floats | float:
    """Return how much of the way to a new value a low-pass filter goes: the paper's alpha.

    Args:
        cutoff: In Hz.
        elapsed: Seconds since the last value.
    """
    return 1 / (1 + 1 / (2 * math.pi * elapsed * cutoff))


class Smoothed:
    """A detector whose faces are smoothed: a :class:`~synopticon_rtc.faces.Detector` and an async context manager.

    It tells faces apart by a :class:`~synopticon_rtc.faces.Tracker` of its own. Frames without a time are taken for
    frames of now.

    Args:
        detector: What finds the faces. It is entered and left with this if it is an async context manager.
        filter: A filter with parameters of one's own.
    """

    def __init__(self, detector: Detector, filter: OneEuro | None = None) -> None:  # noqa: A002 - what it is
        self._detector = detector
        self._filter = filter or OneEuro()
        self._tracker = Tracker()
        self._stack = contextlib.AsyncExitStack()

    def another(self) -> "Smoothed":
        """Make one more for another stream, or return itself where there can be no other of its detector."""
        detector = another(self._detector)
        return self if detector is self._detector else Smoothed(detector, self._filter.another())

    async def __aenter__(self) -> Self:
        """Enter the detector, with whatever errors that may raise."""
        if isinstance(self._detector, contextlib.AbstractAsyncContextManager):
            await self._stack.enter_async_context(self._detector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the detector."""
        await self._stack.__aexit__(kind, error, trace)

    async def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        """Return the faces in ``frame``, smoothed. Raises what the detector raises."""
        faces = await self._detector.detect(frame)
        now = time.monotonic() if frame.time is None else frame.time
        return self._filter.smooth(self._tracker.track(faces, now), now)
