"""Engines for faces: how near LiteRT's are to MediaPipe's, and what each costs.

Both look at the same frames of 1280x720, 30 a second, by turns: the portrait; the same photograph with a head that
turns, a mouth that speaks and eyes that blink (benchmarks/expressions.py), which is a warp and no film; and two of them
side by side, each half as large. ``python -m benchmarks.mesh [--quick]``.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import av
import cv2
import numpy as np

from benchmarks.expressions import Expressions
from benchmarks.reel import FPS, SIZE
from benchmarks.report import Bar, Result, Table, alone
from synopticon_rtc import Face, Portrait
from synopticon_rtc.faces.engine import Choice, Options, maker
from synopticon_rtc.faces.model import find_model
from synopticon_rtc.faces.native_log import native_log

ENGINES: dict[Choice, str] = {"mediapipe": "MediaPipe", "litert": "LiteRT"}
MEAN_PX, P99_PX, SCORE, DEGREES, FOUND, SHARE = 0.25, 1.0, 0.02, 0.5, 0.99, 0.65
BLOCK = 30
"""Frames that one looks at before it is the next one's turn."""

Draw = Callable[[int], av.VideoFrame]


@dataclass(frozen=True, slots=True)
class Clip:
    """What an engine made of a clip.

    Attributes:
        faces: Of each frame.
        ms: CPU time of each frame.
    """

    faces: list[tuple[Face, ...]]
    ms: list[float]

    @property
    def mean_ms(self) -> float:
        """CPU time of a frame; the first block, in which memory is new to it, does not count."""
        return float(np.mean(self.ms[BLOCK:]))


@dataclass(frozen=True, slots=True)
class Unlike:
    """How far both engines are from each other on a clip.

    Attributes:
        faces: That were compared.
        found: The share of frames in which both found as many.
        px: Between both landmarks in x and y, pixels: mean, 99th percentile, most.
        score: Between both blendshapes, mean.
        degrees: Between both poses, of the three turns the one that differs most: mean, 99th percentile, most.
    """

    faces: int
    found: float
    px: tuple[float, float, float]
    score: float
    degrees: tuple[float, float, float]


class Looker:
    """One engine with its options, and what it found so far."""

    def __init__(self, engine: Choice, options: Options) -> None:
        make = maker(engine)
        with native_log():
            self._engine = make(find_model(), options)
        self.clip = Clip([], [])

    def look(self, frames: Sequence[av.VideoFrame]) -> None:
        """Look at some frames."""
        for frame in frames:
            copy = av.VideoFrame.from_ndarray(frame.to_ndarray(), format=frame.format.name)  # as a camera just wrote it
            begun = time.process_time()
            self.clip.faces.append(self._engine.detect(copy, 1 + len(self.clip.faces) * 1000 // FPS))
            self.clip.ms.append(1e3 * (time.process_time() - begun))

    def close(self) -> None:
        """Let go of the models."""
        self._engine.close()


def beside(left: av.VideoFrame, right: av.VideoFrame) -> av.VideoFrame:
    """Return two frames at half their size side by side, the right one mirrored."""
    size = SIZE[0] // 2, SIZE[1] // 2
    one, other = (
        cv2.resize(frame.to_ndarray(format="bgr24"), size, interpolation=cv2.INTER_AREA) for frame in (left, right)
    )
    room = SIZE[1] // 4
    image = cv2.copyMakeBorder(np.hstack([one, other[:, ::-1]]), room, room, 0, 0, cv2.BORDER_REPLICATE)
    return av.VideoFrame.from_ndarray(np.asarray(image, np.uint8), format="bgr24")


def measure(draw: Draw, frames: int, faces: int) -> dict[str, Clip]:
    """Have both engines look at a clip, each for landmarks alone and for everything; by turns."""
    lookers = {
        f"{engine} {what}": Looker(engine, Options(faces, *[what == "everything"] * 2))
        for what in ("landmarks", "everything")
        for engine in ENGINES
    }
    for number in range(0, frames, BLOCK):
        block = [draw(number + index).reformat(format="yuv420p") for index in range(BLOCK)]
        order = deque(lookers.values())
        order.rotate(number // BLOCK)
        for looker in order:
            looker.look(block)
    for looker in lookers.values():
        looker.close()
    return {name: looker.clip for name, looker in lookers.items()}


def compare(ours: Clip, theirs: Clip) -> Unlike:
    """Compare what both found."""
    same = [pair for pair in zip(ours.faces, theirs.faces, strict=True) if len(pair[0]) == len(pair[1])]
    pairs = [pair for both in same for pair in zip(*(sorted(faces, key=_left) for faces in both), strict=True)]
    px = [np.hypot(*(one.to_pixels(*SIZE) - other.to_pixels(*SIZE))[:, :2].T) for one, other in pairs]
    scores = [abs(one.blendshapes[name] - score) for one, other in pairs for name, score in other.blendshapes.items()]
    degrees = [np.abs(np.subtract(one.pose, other.pose)).max() for one, other in pairs if one.pose and other.pose]
    return Unlike(
        len(pairs),
        len(same) / len(theirs.faces),
        (float(np.mean(px)), float(np.percentile(px, 99)), float(np.max(px))),
        float(np.mean(scores)),
        (float(np.mean(degrees)), float(np.percentile(degrees, 99)), float(np.max(degrees))),
    )


def _left(face: Face) -> float:
    return face.box.left


async def run(*, quick: bool) -> Result:
    """Measure each clip."""
    frames = 4 * BLOCK if quick else 20 * BLOCK
    portrait, expressions = Portrait(SIZE, FPS), await Expressions.of_portrait()

    def two(number: int) -> av.VideoFrame:
        return beside(expressions.draw(number), expressions.draw(number + 1000))

    clips: dict[str, tuple[Draw, int]] = {
        "portrait": (portrait.draw, 1),
        "turns, speaks, blinks": (expressions.draw, 1),
        "two faces": (two, 2),
    }
    measured = {name: measure(draw, frames, faces) for name, (draw, faces) in clips.items()}
    unlike = {
        name: compare(found["litert everything"], found["mediapipe everything"]) for name, found in measured.items()
    }
    cost = {name: {who: clip.mean_ms for who, clip in found.items()} for name, found in measured.items()}
    return Result(
        [_likeness(unlike, frames), _costs(cost)],
        [bar for name in clips for bar in _bars(name, unlike[name], cost[name])],
        data={"unlike": {name: asdict(one) for name, one in unlike.items()}, "cost": cost},
    )


def _likeness(unlike: dict[str, Unlike], frames: int) -> Table:
    rows = [
        (
            name,
            str(one.faces),
            f"{one.found:.1%}",
            *(f"{px:.2f}" for px in one.px),
            f"{one.score:.4f}",
            *(f"{degrees:.2f}" for degrees in one.degrees),
        )
        for name, one in unlike.items()
    ]
    columns = ("", "faces", "as many", "px, mean", "p99", "most", "blendshapes", "pose, mean", "p99", "most")
    notes = (
        f"{frames} frames each. as many: frames in which both found as many faces; px: between landmarks, in x and y;",
        "pose: the turn that differs most, degrees.",
    )
    return Table("LiteRT's faces beside MediaPipe's", columns, rows, notes)


def _costs(cost: dict[str, dict[str, float]]) -> Table:
    rows = [
        (name, what, *(f"{found[f'{engine} {what}']:.2f}" for engine in ENGINES), f"{_share(found, what):.0%}")
        for name, found in cost.items()
        for what in ("landmarks", "everything")
    ]
    notes = ("everything: landmarks, blendshapes and the matrix.",)
    return Table("ms CPU a frame", ("", "", *ENGINES.values(), "share"), rows, notes)


def _share(found: dict[str, float], what: str) -> float:
    return found[f"litert {what}"] / found[f"mediapipe {what}"]


def _bars(name: str, one: Unlike, cost: dict[str, float]) -> list[Bar]:
    mean, p99, _ = one.px
    share = _share(cost, "landmarks")
    return [
        Bar(f"{name}: landmarks {mean:.2f} px apart; at most {MEAN_PX}", mean <= MEAN_PX),
        Bar(f"{name}: 99 % of them within {p99:.2f} px; {P99_PX:g}", p99 <= P99_PX),
        Bar(f"{name}: blendshapes {one.score:.4f} apart; at most {SCORE}", one.score <= SCORE),
        Bar(f"{name}: 99 % of the poses within {one.degrees[1]:.2f} degrees; {DEGREES}", one.degrees[1] <= DEGREES),
        Bar(f"{name}: as many faces in {one.found:.1%} of the frames; at least {FOUND:.0%}", one.found >= FOUND),
        Bar(f"{name}: {share:.0%} of MediaPipe's CPU time; at most {SHARE:.0%}", share <= SHARE),
    ]


if __name__ == "__main__":
    alone(run)
