"""Recordings: whether every frame keeps its faces and its time, what crashes cost, and what it takes to record.

1280x720 at 30 fps, VP8, with sound. The test card shows the number of each frame, and its faces tell the same number
(benchmarks/numbered.py); a picture whose brightness tells the time, and a tone that does, show whether both stay in
step. Plain aiortc's MediaRecorder records the same beside ours. ``python -m benchmarks.recording [--quick]``.
"""

import asyncio
import contextlib
import itertools
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiortc.contrib.media import MediaBlackhole, MediaRecorder

import benchmarks.plain
from benchmarks.children import ANYWHERE, RECEIVERS, SENDER, Child, child, pin, serve
from benchmarks.numbered import NumberedFaces
from benchmarks.pairing import link
from benchmarks.reel import SIZE
from benchmarks.report import Bar, Result, Table, alone
from benchmarks.sound import time_shown
from benchmarks.steady import growth
from synopticon_rtc import (
    AudioMoment,
    Broadcaster,
    Moment,
    Portrait,
    Receiver,
    Recorder,
    Recording,
    SignalingServer,
    TestPattern,
    Tone,
)
from synopticon_rtc.commands.memory import share_heaps
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.faces import FaceLandmarker

LOSS = 0.05
APART_MS = 20.0
LOST = 1.0
"""Seconds that a crash may cost."""
TURNS = 4
SHARE = 0.03
"""Of a core, that recording may take."""
PEOPLE = 8
FLAT = 0.15
"""MB a minute of eight people: the index takes half of that until a file is complete."""
HOUR_MB = 45.0


# Pairs


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file holds of a call.

    Attributes:
        loss: Share of packets that were lost on the way.
        live: Frames that had their own faces when they were received.
        frames: Frames in the file.
        paired: Those with faces of their own.
        wrong: Those with the faces of another.
        missing: Frames that had their faces live, and lack them in the file.
    """

    loss: float
    live: int
    frames: int
    paired: int
    wrong: int
    missing: int


async def keep(loss: float, seconds: float, path: Path) -> Kept:
    """Record, and look at what came live and what is in the file."""
    live: set[int | None] = set()
    async with link(loss) as (_, url), Receiver(url) as receiver, Recorder(path, receiver):
        end = time.monotonic() + seconds
        async for moment in receiver:
            if moment.detected:
                live.add(moment.rtp_timestamp)
            if time.monotonic() > end:
                break
    frames = wrong = 0
    paired: set[int | None] = set()
    async with Recording(path) as recording:
        async for moment in recording:
            number = TestPattern.read_number(moment.frame.to_ndarray()[: moment.frame.height])
            frames += 1
            if moment.detected:
                paired.add(moment.rtp_timestamp)
                wrong += [number] != [NumberedFaces.read_number(face.landmarks) for face in moment.faces]
    return Kept(loss, len(live), frames, len(paired), wrong, len(live - paired))


# In step


async def in_step(seconds: float, path: Path) -> tuple[float, float]:
    """Record sound and picture that tell the time; return how far apart they are at the begin and the end, s."""
    async with (
        SignalingServer(port=0) as server,
        child("benchmarks.sound", "broadcast", server.url, core=ANYWHERE),
        Receiver(server.url) as receiver,
        Recorder(path, receiver),
    ):
        await asyncio.sleep(seconds)
    seen, heard = [], []
    last = np.zeros(0, np.float32)
    async with Recording(path) as recording:
        begun = recording.begun.timestamp()
        async for item in recording.played():
            moment: Moment[Any] | AudioMoment = item.moment
            if isinstance(moment, AudioMoment):
                samples = moment.samples[:, 0]
                told = Tone.read_time(np.concatenate([last, samples]), begun + item.time - 0.02)
                if told is not None and len(last):
                    heard.append((item.time, begun + item.time - len(last) / moment.rate - told))
                last = samples
            elif (shown := time_shown(moment.frame, begun + item.time)) is not None:
                seen.append((item.time, begun + item.time - shown))
    span = min(5.0, seconds / 3)

    def middle(found: Sequence[tuple[float, float]], *, end: bool) -> float:
        return statistics.median(error for at, error in found if (at > found[-1][0] - span if end else at < span))

    first, last_ones = (abs(middle(seen, end=end) - middle(heard, end=end)) for end in (False, True))
    return first, last_ones


# Crashes


async def doom(path: str) -> None:
    """Record a broadcaster until somebody kills this process."""
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern(SIZE, 30), faces=NumberedFaces(), audio=Tone()) as broadcaster,
        Recorder(path, broadcaster),
    ):
        print("recording", flush=True)
        await asyncio.Event().wait()


async def crash(path: Path, after: float) -> float | None:
    """Kill a process that records; return how many seconds are lost, None where the file cannot be read."""
    command = [sys.executable, "-m", "benchmarks.recording", "doom", str(path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    await process.stdout.readline()
    await asyncio.sleep(after)
    killed = time.time()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    try:
        async with Recording(path, decode=False) as recording:
            captured = [moment.captured async for moment in recording if moment.detected]
    except RecordingError:
        return None
    return killed - (captured[-1] or 0) if captured else None


async def crashes(count: int, folder: Path) -> list[float | None]:
    """Kill many, a few at a time."""
    chance = random.Random(1)  # noqa: S311 - the same times each time
    at_once = asyncio.Semaphore(2)

    async def one(number: int, after: float) -> float | None:
        async with at_once:
            return await crash(folder / f"crash-{number}.mkv", after)

    return await asyncio.gather(*(one(number, chance.uniform(1.0, 3.0)) for number in range(count)))


# What it costs


async def receive(url: str, path: str) -> None:
    """Receive without decoding, and record when asked."""
    number = itertools.count()
    async with Receiver(url, decode=False) as receiver, contextlib.AsyncExitStack() as stack:

        async def drain() -> None:
            async for _ in receiver:
                pass

        async def used() -> tuple[float, float]:
            return time.process_time(), time.monotonic()

        async def record(*, on: bool) -> None:
            await stack.aclose()
            if on:
                await stack.enter_async_context(Recorder(f"{path}-{next(number)}.mkv", receiver))

        draining = asyncio.create_task(drain())
        await serve(used=used, record=record)
        draining.cancel()


async def broadcast(url: str, path: str) -> None:
    """Send, and record when asked."""
    number = itertools.count()
    async with (
        Broadcaster(url, TestPattern(SIZE, 30), audio=Tone()) as broadcaster,
        contextlib.AsyncExitStack() as stack,
    ):

        async def used() -> tuple[float, float]:
            return time.process_time(), time.monotonic()

        async def record(*, on: bool) -> None:
            await stack.aclose()
            if on:
                await stack.enter_async_context(Recorder(f"{path}-{next(number)}.mkv", broadcaster))

        await serve(used=used, record=record)


async def plain(url: str, path: str) -> None:
    """Receive the video as plain aiortc does, and record it with its MediaRecorder where there is a path."""
    async with benchmarks.plain.receive(url) as track:
        sink = MediaRecorder(path) if path else MediaBlackhole()
        sink.addTrack(track)
        await sink.start()

        async def used() -> tuple[float, float]:
            return time.process_time(), time.monotonic()

        await serve(used=used)


async def cost(seconds: float, folder: Path) -> dict[str, tuple[float, float]]:
    """Measure the share of a core that each takes, without and with a recording, by turns."""
    async with (
        SignalingServer(port=0) as server,
        child("benchmarks.recording", "broadcast", server.url, str(folder / "b"), core=SENDER) as broadcaster,
        child("benchmarks.recording", "receive", server.url, str(folder / "r"), core=RECEIVERS) as receiver,
    ):
        found: dict[str, tuple[list[float], list[float]]] = {"receiver": ([], []), "broadcaster": ([], [])}
        await asyncio.sleep(2)
        for _ in range(TURNS):
            for on in (False, True):
                for name, process in (("receiver", receiver), ("broadcaster", broadcaster)):
                    await process.ask("record", on=on)
                    await asyncio.sleep(1)
                    found[name][on].append(await _share(process, seconds))
                    await process.ask("record", on=False)
        found["plain aiortc, video alone"] = ([], [])
        for _ in range(TURNS):
            for on in (False, True):
                path = str(folder / "plain.mkv") if on else ""
                async with child("benchmarks.recording", "plain", server.url, path, core=RECEIVERS) as process:
                    await asyncio.sleep(1)
                    found["plain aiortc, video alone"][on].append(await _share(process, seconds))
    return {name: (statistics.median(off), statistics.median(on)) for name, (off, on) in found.items()}


async def _share(process: Child, seconds: float) -> float:
    """Measure the share of a core that a process takes."""
    cpu, at = await process.ask("used")
    await asyncio.sleep(seconds)
    later, now = await process.ask("used")
    return float((later - cpu) / (now - at))


# Many at once


async def people(url: str, count: str) -> None:
    """Be several broadcasters, of 640x360 at 15 fps."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(int(count)):
            source = TestPattern((640, 360), 15)
            await stack.enter_async_context(Broadcaster(url, source, audio=Tone(), name=f"person-{number}", fps=15))
        await serve()


async def many(seconds: float, folder: Path) -> tuple[int, int, float]:
    """Record eight at once, as the command does; return how many frames came and were written, and the MB a minute."""
    import psutil  # noqa: PLC0415 - for this alone

    share_heaps()
    async with (
        SignalingServer(port=0) as server,
        child("benchmarks.recording", "people", server.url, str(PEOPLE), core=SENDER),
        contextlib.AsyncExitStack() as stack,
    ):
        receivers, recorders, memory = [], [], []
        for number in range(PEOPLE):
            receiver = Receiver(server.url, broadcaster=f"person-{number}", decode=False)
            recorders.append(await stack.enter_async_context(Recorder(folder / f"{number}.mkv", receiver)))
            receivers.append(await stack.enter_async_context(receiver))
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            await asyncio.sleep(1)
            if now > seconds / 4:
                memory.append((now / 60, psutil.Process().memory_info().rss / 1e6))
        came = sum(receiver.stats.frames for receiver in receivers)
    written = sum(recorder.stats.frames for recorder in recorders)
    return came, written, growth([at for at, _ in memory], [mb for _, mb in memory])


# Size


async def hour_of_faces(seconds: float, path: Path) -> float:
    """Return the MB that the faces of an hour take in a file, of a face in 30 frames a second."""
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, Portrait(SIZE, 30), faces=FaceLandmarker()) as broadcaster,
        Recorder(path, broadcaster),
    ):
        await asyncio.sleep(seconds)
    octets, frames = _faces_in(path)
    return octets / frames * 30 * 3600 / 1e6


def _faces_in(path: Path) -> tuple[int, int]:
    """The octets that the track of faces takes, with its heads, and how many frames had faces."""
    import av  # noqa: PLC0415 - for this alone

    head = 16  # octets of a block group with its duration, at the most
    with av.open(f"file:{path}") as file:
        packets = [bytes(packet).split(b"\n") for packet in file.demux(file.streams.subtitles[0]) if packet.size]
    with_faces = [len(line) + 1 for line in itertools.chain(*packets) if len(line) > 100]  # noqa: PLR2004 - else 32
    return sum(with_faces) + head * len(packets), len(with_faces)


# The whole


async def run(*, quick: bool) -> Result:
    """Measure one after the other."""
    seconds, kills, each, long = (8.0, 8, 2.0, 20.0) if quick else (60.0, 200, 10.0, 600.0)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        kept = [await keep(loss, seconds, place / f"{loss}.mkv") for loss in (0.0, LOSS)]
        first, last = await in_step(seconds, place / "step.mkv")
        lost = await crashes(kills, place)
        used = await cost(each, place)
        came, written, growth = await many(long, place)
        hour = await hour_of_faces(seconds, place / "hour.mkv")
    readable = [seconds for seconds in lost if seconds is not None]
    rows = [
        (f"{one.loss:.0%} loss", *map(str, (one.live, one.frames, one.paired, one.wrong, one.missing))) for one in kept
    ]
    columns = ("", "paired live", "frames in the file", "paired", "wrong", "missing")
    tables = [
        Table("Frames with their own faces, in the file", columns, rows),
        Table(
            "Sound and picture apart in the file, ms", ("begin", "end"), [(f"{1e3 * first:.1f}", f"{1e3 * last:.1f}")]
        ),
        Table(
            f"Killed {kills} times",
            ("unreadable", "lost, s, median", "most"),
            [(str(kills - len(readable)), f"{statistics.median(readable):.2f}", f"{max(readable):.2f}")],
        ),
        Table(
            "Share of a core, without and with a recording",
            ("", "without", "with", "more"),
            [(name, f"{off:.1%}", f"{on:.1%}", f"{on - off:.1%}") for name, (off, on) in used.items()],
        ),
        Table(
            f"{PEOPLE} people at once, {long:g} s",
            ("frames that came", "written", "MB a minute"),
            [(str(came), str(written), f"{growth:+.2f}")],
        ),
    ]
    bars = [
        Bar(f"{one.loss:.0%} loss: {one.wrong} wrong, {one.missing} missing; none", not one.wrong + one.missing)
        for one in kept
    ]
    bars += [
        Bar(f"apart by {1e3 * apart:.1f} ms at the {where}; at most {APART_MS:g}", apart * 1e3 <= APART_MS)
        for where, apart in (("begin", first), ("end", last))
    ]
    bars.append(Bar(f"{kills - len(readable)} of {kills} unreadable; none", len(readable) == kills))
    bars.append(Bar(f"at most {max(readable):.2f} s lost; at most {LOST:g}", max(readable) <= LOST))
    bars += [
        Bar(f"{name}: {on - off:.1%} of a core; at most {SHARE:.0%}", on - off <= SHARE)
        for name, (off, on) in used.items()
        if not name.startswith("plain")
    ]
    bars.append(Bar(f"{came - written} of {came} frames of {PEOPLE} people lost; none", written >= came))
    bars.append(Bar(f"memory grows by {growth:+.2f} MB a minute; at most {FLAT:g}", growth <= FLAT))
    bars.append(Bar(f"an hour of faces: {hour:.1f} MB; at most {HOUR_MB:g}", hour <= HOUR_MB))
    return Result(tables, bars, data={"lost": lost, "used": used})


CHILDREN = {"broadcast": broadcast, "receive": receive, "plain": plain, "people": people}

if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "doom":  # noqa: PLR2004 - and a path
        asyncio.run(doom(sys.argv[2]))
    elif len(sys.argv) > 3 and sys.argv[2] in CHILDREN:  # noqa: PLR2004 - a core, and what to be
        pin(int(sys.argv[1]))
        asyncio.run(CHILDREN[sys.argv[2]](*sys.argv[3:]))
    else:
        alone(run)
