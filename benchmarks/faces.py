"""Faces: how soon they are at a receiver, and what the whole broadcaster costs, detection included.

The portrait at 1280x720 and 30 fps, drawn ahead; one receiver that decodes. The broadcaster may use all
cores. Plain aiortc sends what MediaPipe found as JSON (benchmarks/plain_faces.py). Both look for landmarks alone.
``python -m benchmarks.faces [--quick]``.
"""

import asyncio
import time
from dataclasses import asdict, dataclass
from fractions import Fraction

from benchmarks.children import ANYWHERE, child
from benchmarks.fanout import SETTLE, Sample, audience, middle, sample
from benchmarks.reel import FPS, SIZE, Reel
from benchmarks.report import WHO, Bar, Plot, Result, Table, alone, percentile
from synopticon_rtc import FaceLandmarker, Portrait, Receiver, SignalingServer
from synopticon_rtc.media import SharedEncoder

MEDIAN_MS, P95_MS = 25.0, 50.0
DETECTIONS = 29.5
"""A second, from which on detection counts as held at the frame rate."""
SHARE = 0.6
PERCENTILES = (50, 95, 99, 100)


@dataclass(frozen=True, slots=True)
class Delay:
    """How late faces are, from the capture of their frame to the application at the receiver.

    Attributes:
        what: What the receiver takes.
        ms: Of each moment with faces of its own.
        fps: Moments a second.
        detections: Frames a second in which the broadcaster looked for faces.
        alone: Moments without faces of their own.
    """

    what: str
    ms: list[float]
    fps: float
    detections: float
    alone: int


async def delay(what: str, seconds: float, *, video: bool) -> Delay:
    """Watch one broadcaster with one receiver."""
    ms = []
    seen = 0
    async with (
        SignalingServer(port=0) as server,
        child("benchmarks.sender", "ours", server.url, "portrait", core=ANYWHERE) as sender,
        Receiver(server.url, video=video) as receiver,
    ):
        await anext(receiver)
        await asyncio.sleep(SETTLE)
        begun = await sender.ask("usage")
        until = time.monotonic() + seconds
        async for moment in receiver:
            if time.monotonic() > until:
                break
            seen += 1
            if moment.detected and moment.captured is not None:
                ms.append(1e3 * (time.time() - moment.captured))
        ended = await sender.ask("usage")
    detections = (ended["detected"] - begun["detected"]) / (ended["time"] - begun["time"])
    return Delay(what, ms, seen / seconds, detections, seen - len(ms))


async def cost(who: str, seconds: float) -> Sample:
    """Measure the CPU time of a broadcaster with one receiver."""
    async with audience(who, "benchmarks.watching", "portrait", core=ANYWHERE) as (_, sender, watcher):
        await watcher.ask("join", count=1)
        await asyncio.sleep(SETTLE)
        return await sample(who, sender, watcher, seconds)


async def inherent(frames: int) -> dict[str, float]:
    """CPU time of what no broadcaster can leave out, ms a frame: the detector's work and the encoder's."""
    reel = Reel(Portrait(SIZE, FPS))
    found = {}
    async with FaceLandmarker() as landmarker:
        begun = time.process_time()
        for number in range(frames):
            await landmarker.detect(reel.draw(number))
        found["face landmarker alone"] = 1e3 * (time.process_time() - begun) / frames
    packed = asyncio.Semaphore(0)
    async with SharedEncoder("vp8", fps=FPS, on_packet=lambda _: packed.release()) as encoder:
        begun = time.process_time()
        for number in range(frames):
            frame = reel.draw(number)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            encoder.encode(frame)
            await packed.acquire()
        found["VP8 encoder alone"] = 1e3 * (time.process_time() - begun) / frames
    return found


async def run(*, quick: bool) -> Result:
    """Measure: delays one after the other, then the cost of both by turns."""
    seconds = 4.0 if quick else 15.0
    delays = [await delay("frames with faces", seconds, video=True), await delay("faces alone", seconds, video=False)]
    taken: dict[str, list[Sample]] = {}
    for _ in range(1 if quick else 3):
        for who in WHO:
            taken.setdefault(who, []).append(await cost(who, seconds))
    least = await inherent(60 if quick else 300)
    spent = {who: middle(samples) for who, samples in taken.items()}
    return Result(
        [_delays(delays), _costs(spent, least)],
        _bars(delays[0], spent),
        [_plot(delays)],
        {
            "delays": [asdict(one) for one in delays],
            "samples": [asdict(one) for samples in taken.values() for one in samples],
            "alone": least,
        },
    )


def _delays(found: list[Delay]) -> Table:
    rows = [
        (
            one.what,
            *(f"{percentile(one.ms, percent):.1f}" for percent in PERCENTILES),
            f"{one.fps:.1f}",
            f"{one.detections:.1f}",
            str(one.alone),
        )
        for one in found
    ]
    columns = ("a receiver that takes", "median", "p95", "p99", "most", "fps", "detections", "without")
    notes = ("detections: frames a second in which faces are looked for; without: moments without faces of their own.",)
    return Table("From capture to landmarks at the receiver, ms", columns, rows, notes)


def _costs(spent: dict[str, Sample], least: dict[str, float]) -> Table:
    rows = [(WHO[who], f"{one.fps:.1f}", f"{one.cores:.2f}", f"{one.frame_ms:.1f}") for who, one in spent.items()]
    rows += [(name, "", "", f"{ms:.1f}") for name, ms in least.items()]
    columns = ("", "fps", "cores", "ms CPU a frame")
    return Table("What the whole broadcaster spends, with one receiver", columns, rows)


def _bars(whole: Delay, spent: dict[str, Sample]) -> list[Bar]:
    median, p95 = (percentile(whole.ms, percent) for percent in (50, 95))
    share = spent["ours"].frame_ms / spent["plain"].frame_ms
    held = whole.detections
    return [
        Bar(f"median {median:.1f} ms; at most {MEDIAN_MS:g}", median <= MEDIAN_MS),
        Bar(f"p95 {p95:.1f} ms; at most {P95_MS:g}", p95 <= P95_MS),
        Bar(f"{held:.1f} detections a second while one watches; at least {DETECTIONS}", held >= DETECTIONS),
        Bar(f"{share:.0%} of the CPU time of plain aiortc, MediaPipe and JSON; at most {SHARE:.0%}", share <= SHARE),
    ]


def _plot(found: list[Delay]) -> Plot:
    lines = {one.what: [(percentile(one.ms, percent), float(percent)) for percent in range(100)] for one in found}
    return Plot("Landmarks that were there in time", "ms from capture", "% of frames", lines)


if __name__ == "__main__":
    alone(run)
