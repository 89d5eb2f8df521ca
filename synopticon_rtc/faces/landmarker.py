"""Faces found by MediaPipe's face model."""

import asyncio
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from synopticon_rtc.basics.life import not_open
from synopticon_rtc.basics.products import unwarned
from synopticon_rtc.errors import DetectorError, ModelError
from synopticon_rtc.faces.engine import ENGINES, Choice, Engine, Options, maker
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.native_log import native_log


class FaceLandmarker:
    """Finds faces of 478 landmarks: a :class:`~synopticon_rtc.faces.Detector` and an async context manager.

    Constructing it costs nothing; entering it finds and loads the model. All work is done in one thread of its own, and
    each frame starts from the faces of the frame before. Nothing is sent anywhere, and nothing fetched but the model,
    once, where there is none (see :func:`synopticon_rtc.faces.model.find_model`).

    Two engines run the model, and find the same: LiteRT, with what MediaPipe does around the model done here, and
    MediaPipe itself. docs/faces.md says how near they are, and what they cost. With a later MediaPipe than the one that
    this package asks for, which reports usage to its maker, it works too, and warns of that.

    Args:
        max_faces: How many faces to look for, at least 1.
        model: A model of one's own, instead of the one that is found or fetched.
        blendshapes: Fill in :attr:`Face.blendshapes`, 52 of them.
        matrix: Fill in :attr:`Face.matrix`, and so :attr:`Face.pose`.
        live: Whether each frame is of the moment at which it comes. Frames of a film that is looked at faster or slower
            than it plays are not: the smoothing over time then goes by ``frame.time``.
        engine: ``"litert"`` or ``"mediapipe"``; or ``"auto"``, LiteRT where it is installed, and MediaPipe elsewhere.

    Attributes:
        queue: How many frames may wait while it looks at one.
        name: What it is, in words for people, with its versions once it was entered.
    """

    queue = 1

    def __init__(
        self,
        *,
        max_faces: int = 1,
        model: Path | str | None = None,
        blendshapes: bool = False,
        matrix: bool = False,
        live: bool = True,
        engine: Choice = "auto",
    ) -> None:
        if max_faces < 1:
            raise ValueError(f"max_faces must be at least 1, not {max_faces}")
        if engine not in {"auto", *ENGINES}:
            raise ValueError(f"engine must be one of auto, {', '.join(ENGINES)}, not {engine!r:.100}")
        self.name = "FaceLandmarker"
        self._model = model
        self._live = live
        self._engine: Choice = engine
        self._options = Options(max_faces, blendshapes, matrix)
        self._open: tuple[ThreadPoolExecutor, _Work] | None = None

    def another(self) -> "FaceLandmarker":
        """Make one more with the same options, for another stream: each starts from the faces of its own frames."""
        return FaceLandmarker(model=self._model, live=self._live, engine=self._engine, **self._options._asdict())

    async def __aenter__(self) -> Self:
        """Find and load the model.

        Raises:
            ModelError: There is none to be had, or it is no face model.
            DetectorError: The engine is not installed, or cannot be loaded.
        """
        path, digest = await asyncio.to_thread(_find_model, self._model)
        if self._open is not None:
            raise RuntimeError(
                "this FaceLandmarker is open already: make another one for each `async with`; "
                "a Broadcaster, or a Receiver, enters the one that it is given"
            )
        thread, work = self._open = ThreadPoolExecutor(1, "face-landmarker"), _Work(live=self._live)
        try:
            engine = await asyncio.get_running_loop().run_in_executor(
                thread, work.open, self._engine, path, self._options
            )
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self.name = f"{engine}, {path.name}, sha256 {digest[:16]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the model when the thread has done what it began."""
        if self._open is None:
            return
        (thread, work), self._open = self._open, None
        closed = thread.submit(work.close)
        thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(closed))

    async def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        """Return the faces in ``frame``, none to ``max_faces``.

        Raises:
            DetectorError: The engine failed on the frame.
            RuntimeError: It is not open.
        """
        if self._open is None:
            raise not_open(self)
        thread, work = self._open
        return await asyncio.get_running_loop().run_in_executor(thread, work.detect, frame)


def _find_model(path: Path | str | None) -> tuple[Path, str]:
    from synopticon_rtc.faces.model import find_model  # noqa: PLC0415  # else `python -m` of it would import it twice

    found = find_model(path)
    try:
        return found, hashlib.sha256(found.read_bytes()).hexdigest()
    except OSError as error:  # it has gone since
        raise ModelError(f"the face model {found} cannot be read: {error.strerror}") from None


class _Work:
    """What is done in the thread."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._engine: Engine | None = None
        self._milliseconds = 0

    @unwarned()
    def open(self, choice: Choice, path: Path, options: Options) -> str:
        make = maker(choice)
        with native_log():
            self._engine = make(path, options)
        return self._engine.name

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    @unwarned()
    def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        assert self._engine is not None  # noqa: S101 - opened before
        # The smoothing over time wants true milliseconds, and no two frames may share one.
        seconds = time.monotonic() if self._live or frame.time is None else frame.time
        self._milliseconds = max(self._milliseconds + 1, int(seconds * 1000))
        try:
            return self._engine.detect(frame, self._milliseconds)
        except (OSError, RuntimeError, ValueError) as error:
            raise DetectorError(f"no faces can be found in a frame {frame}: {error}") from error
