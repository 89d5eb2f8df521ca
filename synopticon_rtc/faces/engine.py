"""What finds faces behind a ``FaceLandmarker``, and which of what is installed is taken."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import av

from synopticon_rtc.errors import DetectorError
from synopticon_rtc.faces.face import Face

Choice = Literal["auto", "litert", "mediapipe"]


class Options(NamedTuple):
    """What to find.

    Attributes:
        max_faces: How many faces to look for, at least 1.
        blendshapes: Whether to fill in :attr:`Face.blendshapes`.
        matrix: Whether to fill in :attr:`Face.matrix`.
    """

    max_faces: int = 1
    blendshapes: bool = False
    matrix: bool = False


class Engine(Protocol):
    """Finds faces, used in one thread from its making to ``close()``.

    Attributes:
        name: Its name and version.
    """

    name: str

    def detect(self, frame: av.VideoFrame, milliseconds: int) -> tuple[Face, ...]:
        """Return the faces in a frame.

        Args:
            frame: Of any format and size; it is no longer needed afterwards.
            milliseconds: When it was taken, later than the one before.

        Raises:
            OSError, RuntimeError, ValueError: It cannot look at this one.
        """
        ...

    def close(self) -> None:
        """Let go of the models."""
        ...


Maker = Callable[[Path, Options], Engine]


def _litert() -> Maker:
    from synopticon_rtc.faces.litert.engine import LiteRTEngine  # noqa: PLC0415 - neither engine need be installed

    return LiteRTEngine


def _mediapipe() -> Maker:
    from synopticon_rtc.faces.mediapipe_engine import MediaPipeEngine  # noqa: PLC0415 - as above; and it takes its time

    return MediaPipeEngine


ENGINES: dict[str, tuple[Callable[[], Maker], str]] = {
    "litert": (_litert, "pip install ai-edge-litert opencv-python; on Linux, apt install libgl1"),
    "mediapipe": (_mediapipe, 'pip install "mediapipe<0.10.32"'),
}
"""How each is loaded, and installed where it cannot be. The first that can be loaded is taken for "auto"."""


def maker(choice: Choice) -> Maker:
    """Load an engine, which takes up to seconds, and return what makes one with a model.

    Raises:
        DetectorError: It is not installed, or cannot be loaded; with ``auto``, none.
    """
    failures = []
    for name in ENGINES if choice == "auto" else (choice,):
        load, remedy = ENGINES[name]
        try:
            return load()
        except (ImportError, OSError) as error:
            failures.append(f"the engine {name} cannot be loaded ({error}): {remedy}")
    elsewhere = "; or have a receiver on another machine look for them (--detect), or give a detector of your own"
    raise DetectorError(
        "no faces can be found here: " + "; or ".join(failures) + (elsewhere if choice == "auto" else "")
    )
