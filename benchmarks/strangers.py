"""Strangers: what the worst of them do to others, while eight receivers watch at 15 frames a second.

Each kind of attack has a signaling server, a broadcaster with faces, and receivers of its own, in processes of their
own. What is attacked must go on, those who watch must not notice, and memory must come back. The first row is no
attack: what it shows is the machine's doing. ``python -m benchmarks.strangers [--only 3] [--only 4] [--quick]``.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import os
import resource
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psutil
from aiortc import RTCCertificate, RTCPeerConnection
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from benchmarks import plain
from benchmarks.children import ANYWHERE, Child, child, serve
from benchmarks.endurance import Loud, OneFace
from benchmarks.hostile import (
    Hostile,
    addresses,
    cut_stun,
    joined,
    met,
    nack,
    noise,
    rtp,
    spray,
    vp8_keyframe,
)
from benchmarks.machine import Machine
from benchmarks.report import Bar, Result, Table, as_json, show
from benchmarks.strays import FPS, SIZE, answer_of_nobody, hole, offered, session
from synopticon_rtc import Broadcaster, Receiver, SignalingServer, StateEvent, TestPattern
from synopticon_rtc.commands.memory import map_pieces
from synopticon_rtc.commands.signaling import LARGE_PIECE

HONEST = 8
"""Receivers that watch."""
SECONDS = 8.0
"""For which an attack goes on."""
SETTLE = 3.0
"""Seconds before it in which all come to rest."""
REST = 10.0
"""Seconds after it until memory is looked at again."""
LOWEST_FPS, LONGEST_GAP, MEMORY, LINES = 13.0, 0.5, 1.10, 30
"""What those who watch must have at least, miss at most (s), what memory may come to, and lines of log at most."""
PATIENCE = 10.0
"""Seconds in which a process must answer, or it hangs."""
EVIL = "evil"
MB = 1e6


@dataclass(slots=True)
class Stage:
    """Who is there.

    Attributes:
        url: Of the signaling server.
        server: Its process.
        broadcaster: The process of the honest broadcaster.
        watchers: The process of those who watch it.
        victim: The process of a receiver that looks for a broadcaster called "evil".
        seconds: For which to attack.
    """

    url: str
    server: Child
    broadcaster: Child
    watchers: Child
    victim: Child
    seconds: float

    def everybody(self) -> dict[str, Child]:
        """All processes that may be hurt."""
        return {
            "server": self.server,
            "broadcaster": self.broadcaster,
            "watchers": self.watchers,
            "victim": self.victim,
        }

    def ports(self, who: Child) -> list[tuple[str, int]]:
        """The UDP addresses of a process: an attacker guesses or overhears them."""
        found = psutil.Process(who.process.pid).net_connections("udp4")
        return [(one.laddr.ip, one.laddr.port) for one in found if one.laddr]


@dataclass(frozen=True, slots=True)
class Suffered:
    """What came of an attack.

    Attributes:
        row: Of the table in the threat model.
        what: Was done.
        fps: Frames a second of the receiver that had fewest.
        gap: The longest time without a frame at any of them, s.
        memory: What the process that kept most has after it, as a share of what it had before.
        peak: What the process that took most had meanwhile, in the same way.
        dropped: Connections that broke of those who watch.
        lines: Logged above INFO.
        wrong: What else went wrong.
    """

    row: str
    what: str
    fps: float
    gap: float
    memory: float
    peak: float
    dropped: int
    lines: int
    wrong: str

    @property
    def held(self) -> bool:
        """Whether nobody noticed."""
        return (
            self.fps >= LOWEST_FPS
            and self.gap <= LONGEST_GAP
            and self.memory <= MEMORY
            and self.lines <= LINES
            and not self.dropped
            and not self.wrong
        )


Attack = Callable[[Stage], Awaitable[None]]
"""Raises AssertionError, with what is wrong in it, where something is not as it should be."""
ATTACKS: dict[str, tuple[str, Attack]] = {}
"""What is done, by row."""


def attack(row: str, what: str) -> Callable[[Attack], Attack]:
    """Enter an attack into the table."""

    def enter(function: Attack) -> Attack:
        ATTACKS[row] = what, function
        return function

    return enter


def check(right: object, wrong: str) -> None:
    """Complain."""
    if not right:
        raise AssertionError(wrong)


async def every(seconds: float, interval: float) -> AsyncIterator[int]:
    """Count, at most once in so many seconds, for so long."""
    begun = time.monotonic()
    for number in itertools.count():
        if (now := time.monotonic()) - begun > seconds:
            return
        yield number
        await asyncio.sleep(max(0.0, interval - (time.monotonic() - now)))


# What a peer sends


@attack("0", "nothing")
async def nothing(stage: Stage) -> None:
    """Do nothing."""
    await asyncio.sleep(stage.seconds)


EMPTY = struct.pack("!HH", 0x8008, 0)
"""A parameter of no length at all."""
CHUNKS = {"HEARTBEAT": 4, "HEARTBEAT ACK": 5, "RE-CONFIG": 130, "INIT": 1, "INIT ACK": 2, "ERROR": 9, "ABORT": 6}


async def _parameters(peer: Hostile) -> None:
    init = struct.pack("!LLHHL", 1, 131072, 10, 10, 1)
    for name, kind in CHUNKS.items():
        fixed = init if name.startswith("INIT") else b""
        await peer.chunk(kind, fixed + EMPTY, tag=0 if name == "INIT" else None)
        await asyncio.sleep(0.1)


@attack("1", "SCTP parameters of length 0, to a broadcaster")
async def empty_parameters(stage: Stage) -> None:
    """Send them in all chunks that have parameters."""
    async with joined(stage.url) as peer:
        await _parameters(peer)
        await asyncio.sleep(stage.seconds / 2)


@attack("1r", "SCTP parameters of length 0, to a receiver")
async def empty_parameters_received(stage: Stage) -> None:
    """The same from a broadcaster."""
    async with met(stage.url, EVIL) as peer:
        await _parameters(peer)
        await asyncio.sleep(stage.seconds / 2)


@attack("2", "empty and short datagrams from anywhere, to all ports")
async def empty_datagrams(stage: Stage) -> None:
    """Send what has no first byte, or little more."""
    targets = stage.ports(stage.broadcaster) + stage.ports(stage.watchers)
    check(targets, "no ports found")
    short = itertools.cycle([b"", b"\x14", b"\x80", b"\x80\xc8", b"\x00", b"\x16\xfe"])
    await spray(targets, short, 500, stage.seconds)


@attack("3", "NACKs of 5,100 numbers, 50 a second")
async def long_nacks(stage: Stage) -> None:
    """Ask for everything again."""
    async with joined(stage.url) as peer:
        async for _ in every(stage.seconds, 0.02):
            await peer.secure(nack(1, peer.ssrc, 300))


@attack("4", "an offer that is never answered, and 700,000 datagrams")
async def flood(stage: Stage) -> None:
    """Flood the ports of a connection that will never be one."""
    async with session(stage.url) as signaling:
        offer = await offered(signaling)
        await spray(addresses(offer["sdp"]["sdp"]), noise(4), 700_000 / stage.seconds, stage.seconds)


@attack("5", "a broadcaster of 2,000 sources")
async def sources(stage: Stage) -> None:
    """Send from ever more SSRCs."""
    async with met(stage.url, EVIL) as peer:
        async for number in every(stage.seconds, 0.02):
            for ssrc in range(10_000 + 5 * number, 10_000 + 5 * number + 5):
                await peer.secure(rtp(ssrc, number, vp8_keyframe(320, 180, 100)))


@attack("6", "VP8 keyframes of 1 KB that claim 16383x16383")
async def large_picture(stage: Stage) -> None:
    """Send them, all alike."""
    async with met(stage.url, EVIL) as peer:
        async for number in every(stage.seconds, 0.25):
            await peer.secure(rtp(4711, number, vp8_keyframe(16383, 16383, 1000), timestamp=3000 * number))


@attack("7", "64 candidates of 127.0.0.1 in each batch")
async def candidates(stage: Stage) -> None:
    """Name them after a right answer."""
    async with session(stage.url) as signaling:
        with hole() as (host, port):
            offer = await offered(signaling)
            before = len(stage.ports(stage.broadcaster))
            peer = Hostile(RTCPeerConnection(plain.configuration(None)), signaling, offer["sourceSession"], "")
            await peer.say("webrtc_answer", sdp={"type": "answer", "sdp": await answer_of_nobody(offer, host, port)})
            most = before
            async for number in every(stage.seconds, 0.5):
                many = [_candidate(1024 + 64 * number + more) for more in range(64)]
                await peer.say("webrtc_ice", candidate=many[0], more=many[1:])
                most = max(most, len(stage.ports(stage.broadcaster)))
    check(most - before <= 1, f"{most - before} more sockets")


def _candidate(port: int) -> dict[str, Any]:
    return {
        "candidate": f"candidate:{port} 1 udp 2130706431 127.0.0.1 {port} typ host",
        "sdpMid": "0",
        "sdpMLineIndex": 0,
    }


async def _unfinished(endless: Hostile, gaps: Hostile, seconds: float) -> None:
    first, second = endless.tsn, gaps.tsn
    async for number in every(seconds, 0.01):
        for one in range(10 * number, 10 * number + 10):
            await endless.data(first + one, bytes(1000), flags=2 if one == 0 else 0)
            await gaps.data(second + 2 * one + 1, bytes(1000), stream=one % 100, flags=2)


@attack("8", "messages that never end, and numbers out of order, on SCTP")
async def unfinished(stage: Stage) -> None:
    """Begin messages in many streams, and leave gaps."""
    async with joined(stage.url) as endless, joined(stage.url) as gaps:
        await _unfinished(endless, gaps, stage.seconds)


@attack("8r", "the same to a receiver")
async def unfinished_received(stage: Stage) -> None:
    """Begin messages, and leave gaps in their numbers."""
    async with met(stage.url, EVIL) as peer:
        await _unfinished(peer, peer, stage.seconds)


async def _channels(peer: Hostile, seconds: float) -> None:
    for number in range(1000):
        peer.connection.createDataChannel(f"control {number}", protocol="control/1")
        if number % 20 == 0:
            await asyncio.sleep(0.02)
    await asyncio.sleep(seconds)


@attack("9", "1,000 control channels")
async def channels(stage: Stage) -> None:
    """Open them all."""
    async with joined(stage.url) as peer:
        await _channels(peer, stage.seconds)


@attack("9r", "the same to a receiver")
async def channels_received(stage: Stage) -> None:
    """Open them all from a broadcaster."""
    async with met(stage.url, EVIL) as peer:
        await _channels(peer, stage.seconds)


@attack("10", "answers of 164 KB with 60 sections")
async def long_answers(stage: Stage) -> None:
    """Answer so, again and again."""
    async for _ in every(stage.seconds, 0.5):
        async with session(stage.url) as signaling:
            offer = await offered(signaling)
            peer = Hostile(RTCPeerConnection(plain.configuration(None)), signaling, offer["sourceSession"], "")
            text = await answer_of_nobody(offer, "192.0.2.1", 9)
            head, *sections = text.split("m=")
            long = head + "".join(f"a=x-filler:{number:01000}\r\n" for number in range(100))
            long += "".join(f"m={section}" for section in (sections * 60)[:60])
            await peer.say("webrtc_answer", sdp={"type": "answer", "sdp": long})
            await asyncio.sleep(0.3)


@attack("11", "STUN cut short, odd SDP, bad UTF-8")
async def malformed(stage: Stage) -> None:
    """Send what others' parsers stumble on."""
    targets = stage.ports(stage.broadcaster) + stage.ports(stage.watchers)
    async with joined(stage.url) as peer:
        tsn = peer.tsn
        for number in range(200):
            await peer.data(tsn + number, b"\xff\xfe\xfd", number=number)
        await spray(targets, itertools.islice(cut_stun(11), 5000), 1000, stage.seconds)
        for odd in ("a=fmtp:97 packetization-mode", "a=fmtp:97", "a=rtpmap:97", "a=rtcp-fb:x", "a=ssrc:x", "m=video"):
            async with session(stage.url) as signaling:
                offer = await offered(signaling)
                other = Hostile(RTCPeerConnection(plain.configuration(None)), signaling, offer["sourceSession"], "")
                text = await answer_of_nobody(offer, "192.0.2.1", 9)
                await other.say("webrtc_answer", sdp={"type": "answer", "sdp": f"{text}{odd}\r\n"})
                await asyncio.sleep(0.2)


# What a client of the signaling server does


async def newcomer(url: str, within: float = 5.0, local: str | None = None) -> bool:
    """Whether somebody else can come, and gets an offer."""
    try:
        async with asyncio.timeout(within), _session_from(url, local) as signaling:
            await offered(signaling)
    except (OSError, TimeoutError, EOFError, Exception) as error:  # noqa: BLE001 - whatever it is, it did not work
        logging.getLogger(__name__).info("no newcomer: %r", error)
        return False
    return True


@contextlib.asynccontextmanager
async def _session_from(url: str, local: str | None) -> AsyncIterator[Any]:
    options: dict[str, Any] = {"local_addr": (local, 0)} if local else {}
    async with connect(url.replace("localhost", "127.0.0.1"), max_size=None, **options) as signaling:
        await signaling.recv()
        yield signaling


@attack("12", "90 sessions with 15 MB of a message that never ends")
async def unfinished_messages(stage: Stage) -> None:
    """Hold the server's memory."""
    before = stage.server.rss()
    most = before
    piece = Frame(Opcode.TEXT, b"x" * 15_000_000, fin=False).serialize(mask=True)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(90):
            try:
                signaling = await stack.enter_async_context(_session_from(stage.url, None))
                signaling.transport.write(piece)
            except Exception:  # noqa: BLE001 - refused: well done
                break
            most = max(most, stage.server.rss())
            await asyncio.sleep(0.05)
        await asyncio.sleep(stage.seconds)
        most = max(most, stage.server.rss())
        came = await newcomer(stage.url, local="127.0.0.2")
        stack.pop_all()
    check(most - before < 200 * MB, f"the server held {(most - before) / MB:.0f} MB")
    check(came, "nobody else can come")


@attack("13", "300 silent TCP connections at 128 descriptors")
async def silent_connections(stage: Stage) -> None:
    """Say nothing to a server that may have few descriptors."""
    async with child("benchmarks.strangers", "serve", "128", core=ANYWHERE) as server:
        url = await server.ask("url")
        host, port = "127.0.0.1", int(url.split(":")[2].split("/")[0])
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                silent = stack.enter_context(socket.socket())
                silent.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    silent.connect((host, port))
                await asyncio.sleep(0.005)
            cpu = psutil.Process(server.process.pid).cpu_times()
            await asyncio.sleep(stage.seconds / 2)
            spent = sum(psutil.Process(server.process.pid).cpu_times()[:2]) - sum(cpu[:2])
            lines = await server.ask("lines")
            check(spent < stage.seconds / 8, f"the accept loop took {spent:.1f} s of CPU time")
            check(lines < LINES, f"{lines} lines logged")
            check(await _connects(url), "nobody else can come within 8 s")


async def _connects(url: str) -> bool:
    for _ in range(8):
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1), _session_from(url, "127.0.0.2"):
                return True
        await asyncio.sleep(0.2)
    return False


@attack("14", "all sessions that one address can get")
async def greedy(stage: Stage) -> None:
    """Take 120 sessions, and see whether another address is let in."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(120):
            try:
                await stack.enter_async_context(_session_from(stage.url, None))
            except Exception:  # noqa: BLE001 - refused: well done
                break
        await asyncio.sleep(stage.seconds / 2)
        check(await newcomer(stage.url, local="127.0.0.2"), "nobody from elsewhere can come")


@attack("15", "silent TLS connections, and a foreign Host for /metrics")
async def silent_tls(stage: Stage) -> None:
    """Shake no hands, and ask for what is this machine's alone."""
    async with child("benchmarks.strangers", "serve", "0", "tls", core=ANYWHERE) as server:
        url = await server.ask("url")
        port = int(url.split(":")[2].split("/")[0])
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(15):
                await reader.read()
        except TimeoutError:
            check(False, "a silent TLS connection lives for more than 15 s")
        finally:
            writer.close()
        check(time.monotonic() - begun < 8, f"a silent TLS connection lived {time.monotonic() - begun:.0f} s")  # noqa: PLR2004 - 5 s, and some
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stage.url.split(":")[2].split("/")[0]))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: evil.com\r\nConnection: close\r\n\r\n")
    status = (await reader.readline()).split()[1]
    writer.close()
    check(status in (b"403", b"421", b"400", b"404"), f"/metrics of evil.com is answered with {status.decode()}")


# Running them


@contextlib.asynccontextmanager
async def staged(seconds: float) -> AsyncIterator[Stage]:
    """Start everybody."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(what: str, *arguments: str) -> Child:
            return await stack.enter_async_context(child("benchmarks.strangers", what, *arguments, core=ANYWHERE))

        server = await start("serve", "0")
        url = await server.ask("url")
        broadcaster = await start("broadcast", url)
        watchers = await start("watch", url)
        await watchers.ask("join", count=HONEST)
        yield Stage(url, server, broadcaster, watchers, await start("fall", url), seconds)


@dataclass(slots=True)
class _Memory:
    """Watches the memory of processes."""

    who: dict[str, Child]
    before: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)

    def look(self) -> dict[str, int]:
        now = {name: one.rss() for name, one in self.who.items() if psutil.pid_exists(one.process.pid)}
        for name, size in now.items():
            self.most[name] = max(size, self.most.get(name, 0))
        return now

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.1)

    def worst(self, now: dict[str, int]) -> float:
        return max(now.get(name, 0) / before for name, before in self.before.items())


@contextlib.contextmanager
def last() -> Iterator[None]:
    """Let all others go first: an attacker's work is done on a machine of its own."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.nice(19)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):  # then the next attack has no less than the others have
            os.setpriority(os.PRIO_PROCESS, 0, before)


async def suffer(row: str, seconds: float) -> Suffered:
    """Carry out one attack, and see what came of it."""
    what, function = ATTACKS[row]
    async with staged(seconds) as stage:
        wrong = []
        memory = _Memory(stage.everybody())
        await asyncio.sleep(SETTLE)
        memory.before = memory.look()
        watching = asyncio.create_task(memory.watch())
        since = time.monotonic()
        try:
            async with asyncio.timeout(4 * seconds + 30):
                with last():
                    await function(stage)
        except TimeoutError:
            wrong.append("the attack hung")
        except Exception as error:  # noqa: BLE001 - told in the table
            wrong.append(str(error) or type(error).__name__)
        until = time.monotonic()
        await asyncio.sleep(REST)
        watching.cancel()
        fps, gap, dropped, lines = 0.0, 0.0, 0, 0
        for name, one in stage.everybody().items():
            try:
                async with asyncio.timeout(PATIENCE):
                    lines += await one.ask("lines")
            except (TimeoutError, RuntimeError, OSError):
                wrong.append(f"the {name} hangs or is gone")
        try:
            async with asyncio.timeout(PATIENCE):
                times = await stage.watchers.ask("times", since=since, until=until)
                dropped = await stage.watchers.ask("dropped")
                fps = min(len(one) / (until - since) for one in times)
                gap = max(
                    later - earlier for one in times for earlier, later in itertools.pairwise([since, *one, until])
                )
        except (TimeoutError, RuntimeError, OSError):
            wrong.append("the watchers hang")
        if row in RECEIVED:
            wrong += await _leaves(stage.victim)
        if stage.broadcaster.process.returncode is not None:
            wrong.append("the broadcaster ended")
        after, most = memory.worst(memory.look()), memory.worst(memory.most)
        return Suffered(row, what, fps, gap, after, most, dropped, lines, "; ".join(wrong))


RECEIVED = ("1r", "5", "6", "8r", "9r")
"""Attacks on a receiver."""


async def _leaves(victim: Child) -> list[str]:
    try:
        async with asyncio.timeout(PATIENCE):
            lag = await victim.ask("lag")
            await victim.ask("leave")
    except (TimeoutError, RuntimeError, OSError):
        return ["the receiver that was attacked cannot close"]
    return [f"the receiver that was attacked stood still for {lag:.1f} s"] if lag > LONGEST_GAP else []


def result(found: list[Suffered]) -> Result:
    """Make a table of it."""
    rows = [
        (
            f"{one.row}: {one.what}",
            f"{one.fps:.1f}",
            f"{1e3 * one.gap:.0f}",
            f"{one.memory:.2f}",
            f"{one.peak:.2f}",
            str(one.dropped),
            str(one.lines),
            "yes" if one.held else "NO",
        )
        for one in found
    ]
    columns = ("", "lowest fps", "gap, ms", "memory", "peak", "dropped", "lines", "held")
    notes = (
        "lowest fps, gap: of eight receivers at 15 frames a second; lines: logged above INFO by everybody.",
        f"memory: of the worst process {REST:g} s after the attack, for 1 before it; peak: meanwhile.",
        "dropped: connections that broke, of those eight.",
        *(f"{one.row}: {one.wrong}" for one in found if one.wrong),
    )
    bars = [
        Bar(
            f"{sum(one.held for one in found)} of {len(found)} attacks held: at least {LOWEST_FPS:g} fps, no gap over "
            f"{LONGEST_GAP:g} s, memory within {MEMORY - 1:.0%}, at most {LINES} lines",
            all(one.held for one in found),
        )
    ]
    return Result(
        [Table("What strangers do to others", columns, rows, notes)],
        bars,
        data={"rows": [dataclasses.asdict(one) for one in found]},
    )


async def run(*, quick: bool, only: tuple[str, ...] = ()) -> Result:
    """Carry out one attack after the other."""
    found = []
    for row in only or ATTACKS:
        found.append(await suffer(row, SECONDS / 2 if quick else SECONDS))
        print(found[-1], file=sys.stderr, flush=True)
    return result(found)


# The processes


async def serve_signaling(descriptors: str, *options: str) -> None:
    """Be the signaling server, with memory as its command has it."""
    map_pieces(LARGE_PIECE)
    loud = Loud()
    if int(descriptors):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(descriptors), int(descriptors)))
    context = _tls() if "tls" in options else None

    async def url() -> str:
        return server.url

    async with SignalingServer(port=0, tls=context) as server:
        await serve(url=url, lines=loud.count)


def _tls() -> ssl.SSLContext:
    made: Any = RTCCertificate.generateCertificate()  # it will do: nobody gets so far as to look at it
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder) / "both.pem"
        key = made._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # noqa: SLF001 - as said
        both.write_bytes(key + made._cert.public_bytes(Encoding.PEM))  # noqa: SLF001 - as said
        context.load_cert_chain(both)
    return context


async def broadcast(url: str) -> None:
    """Be the honest broadcaster."""
    loud = Loud()
    async with Broadcaster(url, TestPattern(SIZE, FPS), faces=OneFace(), name="honest", fps=FPS) as broadcaster:
        await broadcaster.signaling.wait_open()
        await serve(lines=loud.count)


async def watch(url: str) -> None:
    """Be those who watch."""
    loud = Loud()
    seen: list[list[float]] = []
    first: list[asyncio.Event] = []

    broken = 0

    def state(event: StateEvent) -> None:
        nonlocal broken
        broken += event.state == "interrupted"

    async def dropped() -> int:
        return broken

    async def one(times: list[float], came: asyncio.Event) -> None:
        receiver = Receiver(url, broadcaster="honest")
        receiver.events.subscribe(state)
        async with receiver:
            async for _ in receiver:
                times.append(time.monotonic())
                came.set()

    async def join(count: int) -> None:
        for _ in range(count):
            seen.append([])
            first.append(asyncio.Event())
            group.create_task(one(seen[-1], first[-1]))
        for came in first:
            await came.wait()

    async def times(since: float, until: float) -> list[list[float]]:
        return [[at for at in one if since <= at <= until] for one in seen]

    async with asyncio.TaskGroup() as group:
        await serve(join=join, times=times, dropped=dropped, lines=loud.count)


async def fall(url: str) -> None:
    """Be the receiver that takes the evil broadcaster."""
    loud = Loud()
    late = 0.0

    async def take() -> None:
        async for _ in receiver:
            pass

    async def tick() -> None:
        nonlocal late
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            late = max(late, time.monotonic() - begun - 0.01)

    async def lag() -> float:
        return late

    async def leave() -> None:
        taking.cancel()
        await receiver.__aexit__(None, None, None)

    async with Receiver(url, broadcaster="honest") as receiver:
        await anext(receiver)  # so that it has all that a receiver takes
    receiver = Receiver(url, broadcaster=EVIL)
    await receiver.__aenter__()
    taking, ticking = asyncio.create_task(take()), asyncio.create_task(tick())
    await serve(lag=lag, leave=leave, lines=loud.count)
    ticking.cancel()


@click.command(help=sys.modules["__main__"].__doc__)
@click.option("--quick", is_flag=True, help="Half the time for each.")
@click.option("--only", multiple=True, help="These rows alone.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
def main(*, quick: bool, only: tuple[str, ...], json_file: Path | None) -> None:
    """Measure."""
    machine = Machine.now()
    found = asyncio.run(run(quick=quick, only=only))
    show(found, machine)
    if json_file is not None:
        json_file.write_text(json.dumps({"machine": machine.as_json(), **as_json(found)}, indent=1) + "\n")


CHILDREN: dict[str, Callable[..., Awaitable[None]]] = {
    "serve": serve_signaling,
    "broadcast": broadcast,
    "watch": watch,
    "fall": fall,
}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == str(ANYWHERE):
        asyncio.run(CHILDREN[sys.argv[2]](*sys.argv[3:]))  # type: ignore[arg-type]
    else:
        main()
