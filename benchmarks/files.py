"""Files from peer to peer: how fast, what live streams notice of it, and whether they survive whatever ends a process.

Two processes on one machine send a file to one another, by this package and by the example of aiortc's documentation,
in turns. A long path and a slow one are in memory, in virtual time. Live, the test card is sent at 720p and 30 fps with
faces that take 5 to 25 ms, and a file beside it. ``python -m benchmarks.files [--quick]``.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

from benchmarks.children import ANYWHERE, child, ended, serve
from benchmarks.numbered import NumberedFaces
from benchmarks.reel import FPS, Reel
from benchmarks.report import Bar, Result, Table, alone, percentile
from synopticon_rtc import Broadcaster, Receiver, SignalingServer
from synopticon_rtc.files.hub import FileHub
from synopticon_rtc.rtc import Channel, PeerConnection

CHUNK, THRESHOLD = 16_384, 65_536
"""Of plain aiortc's example: bytes of a message, and of what waits when the next is given."""
ROUND_TRIP = 0.05
SCTP_WINDOW = 2**20
SLOW = 2_000_000
TWICE = 2_000_000
HALF = 0.5
PATIENCE = 60.0
NO_STREAM = "-"
SIZES: dict[str, int] = {}
"""Bytes of the files that are sent, by name."""

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / room) for room in ("files", "network", "rtc")]


def write(path: Path, size: int) -> Path:
    """Write a file of chance."""
    SIZES[path.name] = size
    path.write_bytes(random.Random(size).randbytes(size))  # noqa: S311 - no secret
    return path


# Speed, between two processes


async def plain(role: str, folder: str) -> None:  # noqa: C901 - it is one example, and stays in one piece
    """Be one end of aiortc's example: what is written below is what its documentation has one write."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    channel: RTCDataChannel | None = connection.createDataChannel("file") if role == "send" else None
    over = asyncio.Event()

    def receive(incoming: RTCDataChannel) -> None:
        file = Path(folder, "plain").open("wb")  # noqa: SIM115 - as the example has it

        def take(message: bytes) -> None:
            if message:
                file.write(message)
            else:
                file.close()
                over.set()

        incoming.on("message", take)

    connection.on("datachannel", receive)

    async def describe(kind: str, sdp: str | None = None) -> str:
        if sdp is not None:
            await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer" if kind == "take" else "offer"))
        if kind != "take":
            await connection.setLocalDescription()
        return connection.localDescription.sdp

    async def send(path: str) -> None:
        assert channel is not None  # noqa: S101 - it is who sends
        opened: RTCDataChannel = channel
        while opened.readyState != "open":  # noqa: ASYNC110 - as the example has it
            await asyncio.sleep(0.01)
        file = Path(path).open("rb")  # noqa: SIM115, ASYNC230 - as the example has it
        done = asyncio.Event()

        def more() -> None:
            while opened.bufferedAmount <= opened.bufferedAmountLowThreshold and not done.is_set():
                data = file.read(CHUNK)
                opened.send(data)
                if not data:
                    done.set()

        opened.bufferedAmountLowThreshold = THRESHOLD
        opened.on("bufferedamountlow", more)
        more()
        await done.wait()

    async def wait() -> None:
        await over.wait()

    await serve(describe=describe, send=send, wait=wait)


async def ours(role: str, folder: str) -> None:
    """Be one end of ours."""
    hub = FileHub()
    candidates: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def adopt(channel: Channel) -> None:
        link.adopt(channel)

    connection = PeerConnection(on_candidate=candidates.put_nowait, on_channel=adopt)
    link = hub.join(connection, "other")
    opening = connection.add_channel("opening") if role == "send" else None

    async def describe(kind: str, sdp: str = "") -> str:
        if kind == "offer":
            return await connection.offer()
        if kind == "take":
            await connection.set_answer(sdp)
            return ""
        return await connection.answer(sdp)

    async def send(path: str) -> None:
        while opening is not None and not opening.is_open:  # noqa: ASYNC110 - nothing is measured yet
            await asyncio.sleep(0.01)
        await (await hub.send(path, None, rate=None)).wait()

    async def wait() -> None:
        await (await (await anext(hub.offers())).accept(folder)).wait()

    await serve(describe=describe, send=send, wait=wait)


async def speed(who: str, path: Path) -> float:
    """Send a file from process to process, and return MB/s."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            child("benchmarks.files", who, "send", folder, core=ANYWHERE) as sender,
            child("benchmarks.files", who, "receive", folder, core=ANYWHERE) as receiver,
        ):
            offer = await sender.ask("describe", kind="offer")
            answer = await receiver.ask("describe", kind="answer", sdp=offer)
            await sender.ask("describe", kind="take", sdp=answer)
            waiting = asyncio.create_task(receiver.ask("wait"))
            await asyncio.sleep(1)  # until they are connected
            begun = time.monotonic()
            await asyncio.gather(sender.ask("send", path=str(path)), waiting)
            seconds = time.monotonic() - begun
        received = Path(folder, "plain" if who == "plain" else path.name)
        if await asyncio.to_thread(received.read_bytes) != await asyncio.to_thread(path.read_bytes):
            raise RuntimeError(f"what {who} has received is not what was sent")
    return SIZES[path.name] / seconds / 1e6


# Long and slow paths, in memory


def long_path(path: Path) -> float:
    """Send a file over a round trip of 50 ms, and return MB/s of its second half, when it goes as fast as it will."""
    from files_helpers import carried, connected  # noqa: PLC0415 - of tests, which the measurement alone needs
    from rtc_helpers import ways  # noqa: PLC0415
    from turned import elapse, run  # noqa: PLC0415

    async def play() -> float:
        async with connected() as (one, two):
            for way in ways(one.peer, two.peer):
                way.delay = ROUND_TRIP / 2
            with tempfile.TemporaryDirectory() as folder:
                sent, _ = await carried(one, two, path, Path(folder))
                loop = asyncio.get_running_loop()
                while sent.moved < sent.size / 2:
                    await elapse(0.05)
                begun, before = loop.time(), sent.moved
                await sent.wait()
                return (sent.size - before) / (loop.time() - begun) / 1e6

    return run(play())


async def memory() -> None:
    """Be what plays on networks in memory."""

    async def long(path: str) -> float:
        return await asyncio.to_thread(long_path, Path(path))

    async def slow(path: str, sending: bool, seconds: float) -> dict[str, float]:  # noqa: FBT001 - as it is asked
        return asdict(await asyncio.to_thread(slow_path, Path(path), sending=sending, seconds=seconds))

    await serve(long=long, slow=slow)


@dataclass(frozen=True, slots=True)
class Layers:
    """What came over a slow link.

    Attributes:
        large: The share of frames that were of the large layer.
        gap_ms: The longest time without a frame.
        transfer: MB/s of the file.
    """

    large: float
    gap_ms: float
    transfer: float


def slow_path(path: Path, *, sending: bool, seconds: float) -> Layers:
    """Play video in two layers over 2 Mbit/s, with a file beside it or without."""
    from stage import HEIGHT, longest_gap, stage  # noqa: PLC0415 - of tests, which the measurement alone needs
    from turned import run  # noqa: PLC0415

    async def play() -> Layers:
        with tempfile.TemporaryDirectory() as folder:
            async with stage() as playing:
                home, away = FileHub(), FileHub()
                viewer = await joined(playing, home, away)
                await playing.play(3)
                viewer.down.rate, viewer.down.queue = SLOW, SLOW // 8 // 4
                await playing.play(3)
                transfer = None
                if sending:
                    transfer = await home.send(path, None, rate=None)
                    offers = away.offers()
                    await (await anext(offers)).accept(folder)
                begun = await playing.play(seconds)
                moved = 0 if transfer is None else transfer.moved
                seen = viewer.since(begun)
                await home.aclose()
                await away.aclose()
                large = sum(each.height == HEIGHT for each in seen) / max(1, len(seen))
                return Layers(large, longest_gap(seen, begun, playing.now) * 1000, moved / seconds / 1e6)

    return run(play())


async def joined(playing: Any, home: FileHub, away: FileHub) -> Any:  # noqa: ANN401 - of tests
    """Have somebody watch who takes files."""
    from rtc_helpers import describe  # noqa: PLC0415 - of tests, which the measurement alone needs
    from stage import Viewer  # noqa: PLC0415

    viewer = Viewer(playing.network, playing.home)
    there = away.join(viewer.receiver.connection, "sender")

    def adopt(channel: Channel) -> None:
        there.adopt(channel)

    viewer.receiver.connection._on_channel = adopt  # noqa: SLF001 - in its place
    home.join(viewer.sender.connection, "receiver")
    viewer.sender.connection.add_video(lambda _: playing.ladder.top, ["vp8"])
    viewer.sender.connection.add_channel("opening")
    playing.viewers.append(viewer)
    await describe(viewer.sender, viewer.receiver)
    await viewer.sender.until_state("connected")
    await viewer.receiver.until_state("connected")
    return viewer


# Live streams beside it


async def broadcast(url: str) -> None:
    """Send the test card and faces, and files when asked."""
    async with Broadcaster(url, Reel(), faces=NumberedFaces(), fps=FPS) as broadcaster:

        async def send(path: str) -> float:
            transfer = await broadcaster.send_file(path, to=broadcaster.peers[0])
            await transfer.wait()
            return transfer.moved

        async def take(folder: str) -> None:
            transfer = await (await anext(broadcaster.files)).accept(folder, overwrite=True)
            await transfer.wait()
            await asyncio.to_thread(Path(folder, transfer.name).unlink)

        await serve(send=send, take=take)


async def present(url: str, path: str) -> None:
    """Send files to a broadcaster whose streams are not taken, when asked."""
    async with Receiver(url, video=False, streams=(NO_STREAM,)) as receiver:
        async for event in receiver.events:
            if event.state == "connected":
                break

        async def send() -> float:
            transfer = await receiver.send_file(path)
            await transfer.wait()
            return transfer.moved

        await serve(send=send)


@dataclass(frozen=True, slots=True)
class Live:
    """What a receiver got.

    Attributes:
        p95_ms: The delay of moments, which have waited for their faces, from capture: 95 % are below.
        paired: The share of frames with faces of their own.
        gap_ms: The longest time without a frame.
        transfer: MB/s of the file.
    """

    p95_ms: float
    paired: float
    gap_ms: float
    transfer: float


async def live(path: Path, rounds: int, seconds: float) -> tuple[list[Live], list[Live], list[Live]]:
    """Watch, in turns without a file, with one that comes by the same connection, and with one to the broadcaster."""
    alone_, beside, against = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            SignalingServer(port=0) as server,
            child("benchmarks.files", "broadcast", server.url, core=ANYWHERE) as sender,
            Receiver(server.url) as receiver,
            child("benchmarks.files", "present", server.url, str(path), core=ANYWHERE) as giver,
        ):
            await anext(receiver)
            await asyncio.sleep(3)
            offers = receiver.files
            for _ in range(rounds):
                alone_.append(await watched(receiver, seconds))
                begun = time.monotonic()
                sending = asyncio.create_task(sender.ask("send", path=str(path)))
                transfer = await (await anext(offers)).accept(folder, overwrite=True)
                seen = await watched(receiver, seconds, transfer.wait())
                await sending
                speed = transfer.size / (time.monotonic() - begun) / 1e6
                beside.append(replace(seen, transfer=speed))
                await asyncio.to_thread(Path(folder, path.name).unlink)
                begun = time.monotonic()
                taking = asyncio.create_task(sender.ask("take", folder=folder))
                seen = await watched(receiver, seconds, giver.ask("send"))
                await taking
                against.append(replace(seen, transfer=transfer.size / (time.monotonic() - begun) / 1e6))
    return alone_, beside, against


async def watched(receiver: Receiver[Any], seconds: float, until: Any = None) -> Live:  # noqa: ANN401 - what is awaited
    """Watch for a while, or until something is over."""
    ages: list[float] = []
    times: list[float] = []
    paired = 0
    over = asyncio.ensure_future(until if until is not None else asyncio.sleep(seconds))
    async for moment in receiver.moments():
        times.append(time.monotonic())
        ages.append((receiver.age(moment) or 0) * 1000)
        paired += moment.detected
        if over.done():
            break
    await over
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return Live(percentile(ages, 95), paired / len(ages), max(gaps) * 1000, 0.0)


# Killed at random


async def kills(path: Path, count: int) -> tuple[int, int, bool]:
    """Kill either end again and again while a file is sent.

    Returns:
        How many were killed in the middle, the most bytes that a kill had sent twice, on average over a file, and
        whether all came right.
    """
    chance = random.Random(1)  # noqa: S311 - no secret
    killed, worst, right = 0, 0.0, True
    wanted = await asyncio.to_thread(digest, path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with SignalingServer(port=0) as server:
            while killed < count:
                before, moved, done = killed, 0, False
                while not done:
                    seconds = chance.uniform(0.1, 1.0) if killed < count else PATIENCE
                    sent, done = await attempt(server.url, path, folder, seconds, sender_dies=chance.random() < HALF)
                    moved += sent
                    killed += not done
                right &= await asyncio.to_thread(digest, folder / path.name) == wanted
                worst = max(worst, (moved - SIZES[path.name]) / max(1, killed - before))
                await asyncio.to_thread(Path(folder, path.name).unlink)
    return killed, round(worst), right


def digest(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def attempt(url: str, path: Path, folder: Path, seconds: float, *, sender_dies: bool) -> tuple[int, bool]:
    """Send until one end is killed, and return how many bytes were sent, and whether it was done before."""
    command = [sys.executable, "-m", "benchmarks.files", str(ANYWHERE)]
    receiver = await asyncio.create_subprocess_exec(*command, "keep", url, str(folder), stdin=PIPE, stdout=PIPE)
    sender = await asyncio.create_subprocess_exec(*command, "give", url, str(path), stdin=PIPE, stdout=PIPE)
    moved = 0
    done = False

    async def follow() -> None:
        nonlocal moved, done
        assert sender.stdout is not None  # noqa: S101 - it is a pipe
        async for line in sender.stdout:
            told = json.loads(line)
            moved, done = told["moved"], told["done"]

    following = asyncio.create_task(follow())
    try:
        while not moved and not done:  # noqa: ASYNC110 - a line of another process is waited for
            await asyncio.sleep(0.01)
        await asyncio.wait([following], timeout=seconds)
        if not done:
            (sender if sender_dies else receiver).kill()
            await asyncio.sleep(0.3)
    finally:
        for process in (sender, receiver):
            await finish(process)
        await following
    return moved, done


async def finish(process: Process) -> None:
    """End a process."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await ended(process)


async def keep(url: str, folder: str) -> None:
    """Take files for ever."""
    async with Broadcaster(url, Reel(fps=1), name="keeper") as broadcaster:
        async for offer in broadcaster.files:
            await offer.accept(folder)


async def give(url: str, path: str) -> None:
    """Send a file, at a pace at which it takes a while, and tell how much of it was."""
    async with Receiver(url, broadcaster="keeper", video=False, streams=(NO_STREAM,)) as receiver:
        async for event in receiver.events:
            if event.state == "connected":
                break
        transfer = await receiver.send_file(path, rate=4_000_000)
        while not transfer.is_over:
            print(json.dumps({"moved": transfer.moved, "done": False}), flush=True)
            await asyncio.sleep(0.005)
        print(json.dumps({"moved": transfer.moved, "done": transfer.error is None}), flush=True)
        await asyncio.sleep(5 if transfer.error else 0)
    os._exit(0)


# All of it


@contextlib.asynccontextmanager
async def files(*sizes: int) -> AsyncIterator[list[Path]]:
    """Have files of these sizes meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        yield [await asyncio.to_thread(write, Path(folder, f"{number}.bin"), size) for number, size in enumerate(sizes)]


async def run(*, quick: bool) -> Result:
    """Measure all of it."""
    rounds, seconds = (1, 5.0) if quick else (3, 10.0)
    async with files(30_000_000 if quick else 100_000_000, 60_000_000, 6_000_000) as (large, long_, small):
        speeds: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(rounds):
            for who, measured in speeds.items():
                measured.append(await speed(who, large))
        async with child("benchmarks.files", "memory", core=ANYWHERE) as memory:
            long_speed = await memory.ask("long", path=str(long_))
            without, with_ = [
                Layers(**await memory.ask("slow", path=str(long_), sending=sending, seconds=2 * seconds))
                for sending in (False, True)
            ]
        lives = await live(large, rounds, seconds)
        killed, twice, right = await kills(small, 6 if quick else 100)
    return _result(speeds, long_speed, (without, with_), lives, (killed, twice, right))


def _result(
    speeds: dict[str, list[float]],
    long_speed: float,
    slow: tuple[Layers, Layers],
    lives: tuple[Sequence[Live], Sequence[Live], Sequence[Live]],
    killings: tuple[int, int, bool],
) -> Result:
    plain_speed, our_speed = (sorted(speeds[who])[len(speeds[who]) // 2] for who in ("plain", "ours"))
    wanted = 0.7 * SCTP_WINDOW / ROUND_TRIP / 1e6
    alone_, beside, against = lives
    before = max(each.p95_ms for each in alone_)
    later, later_against = (max(each.p95_ms for each in of) - before for of in (beside, against))
    paired, gap = min(each.paired for each in (*beside, *against)), max(each.gap_ms for each in (*beside, *against))
    killed, twice, right = killings
    rows = [
        ("plain aiortc, two processes", f"{plain_speed:.1f} MB/s", ""),
        ("ours, two processes", f"{our_speed:.1f} MB/s", ""),
        ("ours, 50 ms round trip, in memory", f"{long_speed:.1f} MB/s", ""),
        (
            "ours, 2 Mbit/s beside video",
            f"{slow[1].transfer * 1000:.0f} kB/s",
            f"{slow[1].large:.0%} in the large layer",
        ),
        ("the same without a file", "", f"{slow[0].large:.0%} in the large layer"),
        *(
            (what, f"{each.transfer:.1f} MB/s", f"{each.p95_ms:.1f} ms, {each.paired:.2%} paired")
            for what, of in (("beside video and faces", beside), ("to whoever sends video and faces", against))
            for each in of
        ),
        *(("video and faces alone", "", f"{each.p95_ms:.1f} ms, {each.paired:.2%} paired") for each in alone_),
    ]
    return Result(
        [Table("Files", ("what", "file", "live"), rows, ["live: 95 % of moments with their faces are younger"])],
        [
            Bar(
                f"{our_speed / plain_speed:.1f} times as fast as plain aiortc; at least 1.5",
                our_speed >= 1.5 * plain_speed,
            ),
            Bar(f"{long_speed:.1f} MB/s at 50 ms round trip; at least {wanted:.1f}", long_speed >= wanted),
            Bar(f"moments {later:.1f} ms later beside a file (p95); at most 5", later <= 5),  # noqa: PLR2004
            Bar(
                f"moments {later_against:.1f} ms later while their broadcaster receives a file (p95); at most 5",
                later_against <= 5,  # noqa: PLR2004
            ),
            Bar(f"{paired:.2%} of the frames paired beside a file; at least 99.9 %", paired >= 0.999),  # noqa: PLR2004
            Bar(f"longest gap of the video {gap:.0f} ms; at most 100", gap <= 100),  # noqa: PLR2004
            Bar(
                f"{slow[1].large:.0%} of the frames in the large layer at 2 Mbit/s, {slow[0].large:.0%} without a file",
                slow[1].large >= slow[0].large - 0.01,
            ),
            Bar(
                f"{killed} killed in the middle: right every time, {twice / 1e6:.2f} MB sent twice a kill; at most 2",
                right and twice <= TWICE,
            ),
        ],
        data={
            "speeds": speeds,
            "long": long_speed,
            "killed": killed,
            "twice": twice,
        },
    )


if __name__ == "__main__":
    ROLES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
        each.__name__: each for each in (plain, ours, broadcast, present, memory, keep, give)
    }
    if len(sys.argv) > 2 and sys.argv[2] in ROLES:  # noqa: PLR2004 - a core, and a role
        asyncio.run(ROLES[sys.argv[2]](*sys.argv[3:]))
    else:
        alone(run)
