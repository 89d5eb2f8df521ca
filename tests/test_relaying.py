"""A relay between a broadcaster and receivers, on machines with clocks of their own: all in memory but one."""

import asyncio
import contextlib
import contextvars
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from lobby import Lobby, ahead, clocks
from turned import elapse, turned
from waiting import until
from wires import Host, Losses, Way

from synopticon_rtc import (
    Broadcaster,
    EncodedVideoFrame,
    Face,
    Moment,
    Receiver,
    Relay,
    SignalingClient,
    SignalingServer,
    StateEvent,
    StreamEvent,
    TestPattern,
    Tone,
)
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.peers.tap import Tapped
from synopticon_rtc.rtc import EncodedSound
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.signaling.server.tokens import TokenKeys

__all__ = ["clocks"]
pytestmark = pytest.mark.usefixtures("clocks")
FPS = 20
LEVELS, STEP, DARKEST = 20, 10, 30
"""Shades of grey that number the frames, far enough from one another to be told apart once they were encoded."""


class Shades:
    """A source of frames in one shade each, by which they can be told apart.

    Args:
        size: Of the frames, pixels.
        noise: In them; the more, the larger they are when they are encoded.
    """

    def __init__(self, size: tuple[int, int] = (64, 48), noise: float = 0.0, hint: str = "camera") -> None:
        self.hint = hint
        self._size = size
        self._noise = noise

    async def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        width, height = self._size
        chance = np.random.default_rng(1)
        film = []
        for level in range(LEVELS):
            picture = np.full((height * 3 // 2, width), DARKEST + STEP * level, np.float32)
            picture[:height] += chance.normal(0, self._noise, (height, width))
            film.append(picture.clip(0, 255).astype(np.uint8))
        for number in itertools.count():
            frame = av.VideoFrame.from_ndarray(film[number % LEVELS], format="yuv420p")
            frame.pts, frame.time_base = number * 90_000 // FPS, Fraction(1, 90_000)
            yield frame
            await elapse(1 / FPS)


def shade(frame: av.VideoFrame) -> int:
    luma = frame.to_ndarray(format="yuv420p")[: frame.height]
    return round((float(luma.mean()) - DARKEST) / STEP)


class Reader:
    """Finds one face in each frame, whose place tells the shade of that."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        return [Face(np.full((478, 3), shade(frame) / 100, np.float32), {})]


def is_right(moment: Moment[av.VideoFrame]) -> bool:
    """Whether a frame has the face that was found in it."""
    return len(moment.faces) == 1 and round(float(moment.faces[0].landmarks[0, 0]) * 100) == shade(moment.frame)


class Tape:
    """Notes all that is sent, or comes: when each frame was captured, what was written of faces, what was heard."""

    def __init__(self) -> None:
        self.captured: dict[int, float] = {}
        self.keyframes: list[int] = []
        self.written: dict[int | None, bytes | None] = {}
        self.heard: dict[int, tuple[bytes, float | None]] = {}
        self.lost = 0

    def video(self, stream: Tapped, frame: EncodedVideoFrame, captured: float | None) -> None:  # noqa: ARG002
        if captured is not None:
            self.captured[frame.rtp_timestamp] = captured
        if frame.keyframe:
            self.keyframes.append(frame.rtp_timestamp)

    def faces(self, stream: Tapped, message: FacesMessage, written: bytes | None) -> None:  # noqa: ARG002
        self.written[message.rtp_timestamp] = written

    def sound(self, stream: Tapped, packet: EncodedSound) -> None:  # noqa: ARG002
        self.heard[packet.rtp_timestamp] = packet.data, packet.captured
        self.lost += packet.lost


class Lab:
    """Rooms in a row, with relays between them, on one network."""

    def __init__(self, rooms: int) -> None:
        first = Lobby()
        self.rooms = [first, *(Lobby(first.network) for _ in range(rooms - 1))]
        self.network = first.network

    def way(self, source: Relay | Broadcaster, to: Relay | Receiver[Any]) -> Way:
        assert isinstance(source.network, Host)
        assert isinstance(to.network, Host)
        return self.network.way(source.network.address, to.network.address)

    @contextlib.asynccontextmanager
    async def at(self, what: Broadcaster | Receiver[Any], clock_ahead: float = 0.0) -> AsyncIterator[None]:
        """Have something run meanwhile, on a machine of its own, whose clock is ahead by so many seconds."""
        what.network = self.network.host()
        async with run(what, clock_ahead):
            yield

    @contextlib.asynccontextmanager
    async def relay(self, source: int, to: int, clock_ahead: float = 0.0, **options: Any) -> AsyncIterator[Relay]:
        """Have a relay from one room to another meanwhile."""
        relay = Relay(self.rooms[source].client(), self.rooms[to].client(), **options)
        relay.network = relay.receiver.network = self.network.host()
        async with run(relay, clock_ahead):
            yield relay
        await relay.wait_closed()  # where nothing went wrong

    def receiver(self, room: int, **options: Any) -> Receiver[Any]:
        return Receiver(self.rooms[room].client(), **options)

    def broadcaster(self, room: int, source: Shades | None = None, name: str = "source", **options: Any) -> Broadcaster:
        return Broadcaster(self.rooms[room].client(), source or Shades(), name=name, fps=FPS, **options)


@contextlib.asynccontextmanager
async def run(what: Any, clock_ahead: float) -> AsyncIterator[None]:
    context = contextvars.copy_context()
    context.run(ahead.set, clock_ahead)
    await asyncio.create_task(what.start(), context=context)
    try:
        yield
    finally:
        await asyncio.create_task(what.aclose(), context=context)


async def come_true(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Let time pass until something has come true."""
    for _ in range(round(seconds / 0.05)):
        if condition():
            return
        await elapse(0.05)
    pytest.fail("it has not come true")


async def seen(receiver: Receiver[av.VideoFrame], seconds: float) -> list[Moment[av.VideoFrame]]:
    """Take the moments of some seconds."""
    moments = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for moment in receiver:
                moments.append(moment)  # noqa: PERF401 - those that came before the time was over
    return moments


@turned
async def test_frames_have_their_faces_and_their_times_behind_a_relay_of_a_relay() -> None:
    lab = Lab(3)
    sent, came = Tape(), Tape()
    source, receiver = lab.broadcaster(0, faces=Reader()), lab.receiver(2)
    async with (
        lab.at(source, clock_ahead=3.0),
        lab.relay(0, 1, clock_ahead=-2.0, name="hall") as first,
        lab.relay(1, 2, clock_ahead=100.0) as second,
        lab.at(receiver),
    ):
        source.tap(sent)
        receiver.tap(came)
        await come_true(lambda: receiver.stats.frames)
        moments = (await seen(receiver, 6))[FPS:]  # from when clocks are known
        assert len(moments) > 4 * FPS
        assert all(map(is_right, moments))
        for moment in moments:
            assert moment.rtp_timestamp is not None
            assert moment.captured == pytest.approx(sent.captured[moment.rtp_timestamp], abs=1e-4)
        shared = sent.written.keys() & came.written.keys()
        assert len(shared) > 4 * FPS
        assert all(sent.written[at] == came.written[at] for at in shared)
        assert receiver.clock_offset == pytest.approx(3.0, abs=receiver.clock_error)
        assert receiver.clock_error is not None
        assert 0.029 < receiver.clock_error < 0.05  # half of three round trips
        assert receiver.relays == (first.id, second.id)
        assert first.id.startswith("hall#")
        assert receiver.origin.name == "source"
        stats = receiver.stats
        assert stats.delay is not None
        assert stats.delays.network is not None
        assert 0.02 < stats.delays.network <= stats.delay < 0.1  # three ways of 10 ms


def counted_from(timestamp: int, broadcaster: Broadcaster) -> Broadcaster:
    """Have RTP timestamps begin with that, and not with one by chance."""
    assert broadcaster._stream is not None
    broadcaster._stream._capture.origin = timestamp
    return broadcaster


@turned
async def test_a_source_that_goes_and_comes_back_does_so_for_all() -> None:
    lab = Lab(2)
    told: list[StreamEvent] = []
    states: list[StateEvent] = []
    receiver = lab.receiver(1)
    receiver.stream_events.subscribe(told.append)
    receiver.events.subscribe(states.append)
    async with lab.relay(0, 1), lab.at(receiver):
        async with lab.at(counted_from(2**31, lab.broadcaster(0, faces=Reader()))):
            await come_true(lambda: receiver.stats.frames > FPS)
        await come_true(lambda: told[-1].state == "muted")
        connection = states[-1]
        async with lab.at(counted_from(2**30, lab.broadcaster(0, faces=Reader()))):
            moments = await seen(receiver, 5)
            assert all(is_right(moment) or not moment.faces for moment in moments)
            assert all(map(is_right, moments[FPS:]))
            assert len(moments) > 3 * FPS
            assert [event.state for event in told] == ["published", "muted", "unmuted", "replaced"]
            assert states[-1] is connection  # it is the same
        await come_true(lambda: states[-1].state == "seeking", 30)  # it is not waited for for ever
        assert "left" in states[-1].reason
        async with lab.at(lab.broadcaster(0)):
            await come_true(lambda: states[-1].state == "connected")


@turned
async def test_keyframes_are_asked_for_once_however_many_want_one() -> None:
    lab = Lab(2)
    sent = Tape()
    source = lab.broadcaster(0)
    receivers = [lab.receiver(1) for _ in range(5)]
    async with lab.at(source), lab.relay(0, 1), contextlib.AsyncExitStack() as stack:
        source.tap(sent)
        for receiver in receivers:
            await stack.enter_async_context(lab.at(receiver))
        await come_true(lambda: all(receiver.stats.frames for receiver in receivers))
        await elapse(5)
        sent.keyframes.clear()
        for receiver in receivers:
            receiver.request_keyframe()
        await elapse(2)
        assert len(sent.keyframes) == 1


@turned
async def test_a_slow_link_gets_a_smaller_layer_and_costs_the_others_nothing() -> None:
    lab = Lab(2)
    source = lab.broadcaster(0, Shades((320, 240), noise=12.0), bitrate=800_000)
    fast, slow = lab.receiver(1), lab.receiver(1)
    async with lab.at(source), lab.relay(0, 1) as relay, lab.at(fast):
        async with lab.at(slow):
            await come_true(lambda: slow.stats.frames > FPS)
            way = lab.way(relay, slow)
            way.rate, way.queue = 450_000.0, 20_000
            await come_true(lambda: slow.stats.width == 160, 60)
            await elapse(5)
            before = slow.stats.frames, fast.stats.frames
            await elapse(5)
            assert slow.stats.frames - before[0] > 4 * FPS
            assert fast.stats.frames - before[1] > 4.8 * FPS
            assert fast.stats.width == 320
            assert len(source.peers) == 2  # the relay has both
            assert sorted(peer.scale or 0 for peer in source.peer_stats().values()) == [1, 2]
        await come_true(lambda: len(source.peers) == 1)  # and only what somebody needs


@turned
async def test_what_a_receiver_wants_less_of_comes_smaller_also_when_its_source_has_come_back() -> None:
    lab = Lab(2)
    receiver = lab.receiver(1)
    async with lab.relay(0, 1), lab.at(receiver):
        receiver.limit("camera", 200_000)
        for _ in range(2):
            source = lab.broadcaster(0, Shades((320, 240)), bitrate=800_000)
            async with lab.at(source):
                await come_true(lambda: receiver.stats.width == 160 and len(source.peers) == 2)  # noqa: B023 - at once
                frames = receiver.stats.frames
                await elapse(2)
                assert receiver.stats.frames > frames + FPS
                assert receiver.stats.width == 160
        async with lab.at(lab.broadcaster(0, Shades((320, 240)), bitrate=800_000)):
            receiver.limit("camera", None)
            await come_true(lambda: receiver.stats.width == 320)
    with pytest.raises(ValueError, match="bitrate must be above 0"):
        receiver.limit("camera", 0)


@turned
async def test_a_source_with_another_codec_or_another_name_is_followed() -> None:
    lab = Lab(2)
    told: list[StreamEvent] = []
    receiver = lab.receiver(1, decode=False)
    receiver.stream_events.subscribe(told.append)
    async with lab.relay(0, 1) as relay, lab.at(receiver):
        async with lab.at(lab.broadcaster(0, name="")):
            assert (await anext(receiver)).frame.codec == "vp8"
        async with lab.at(lab.broadcaster(0, name="", codecs=["h264"])):
            while (await anext(receiver)).frame.codec != "h264":
                pass
        assert [event.state for event in told][-2:] == ["unpublished", "published"]
        async with lab.at(lab.broadcaster(0, name="another")):
            await come_true(lambda: receiver.origin.name == "another")
            while (await anext(receiver)).frame.codec != "vp8":
                pass
    with pytest.raises(RuntimeError, match="only once"):
        await relay.start()


async def test_a_server_that_refuses_ends_a_relay() -> None:
    keys = TokenKeys(secret=b"a secret of thirty-two characters")
    async with SignalingServer(port=0) as below, SignalingServer(port=0, tokens=keys) as server:
        relay = Relay(server.url, below.url)
        with pytest.raises(RuntimeError, match="not open"):
            await relay.wait_closed()
        async with relay, asyncio.timeout(20):
            with pytest.raises(SignalingError, match="token"):
                await relay.wait_closed()


@turned
async def test_streams_come_go_and_are_muted_behind_a_relay_too() -> None:
    lab = Lab(2)
    told: list[StreamEvent] = []
    source, receiver = lab.broadcaster(0), lab.receiver(1)
    receiver.stream_events.subscribe(told.append)
    async with lab.at(source), lab.relay(0, 1), lab.at(receiver):
        await come_true(lambda: receiver.stats.frames)
        screen = await source.publish("window", Shades((80, 48), hint="screen"), faces=Reader())
        await come_true(lambda: "window" in receiver.streams and receiver.streams["window"].stats.frames)
        window = receiver.streams["window"]
        assert (window.hint, window.detector, window.kind) == ("screen", "Reader", "video")
        screen.mute()
        await come_true(lambda: window.muted)
        screen.unmute()
        await come_true(lambda: not window.muted)
        await screen.replace(Shades((96, 48), hint="screen"))
        await come_true(lambda: window.stats.width == 96)
        await screen.unpublish()
        await come_true(lambda: "window" not in receiver.streams)
        await source.publish("window", Shades((64, 64)))
        await come_true(lambda: "window" in receiver.streams and receiver.streams["window"].stats.height == 64)
        states = [event.state for event in told if event.name == "window"]
        assert states == ["published", "muted", "unmuted", "replaced", "unpublished", "published"]
        assert len(receiver.streams) == 2


@turned
async def test_sound_keeps_its_packets_and_their_times() -> None:
    lab = Lab(2)
    sent, came = Tape(), Tape()
    source, receiver = lab.broadcaster(0, audio=Beats()), lab.receiver(1)
    async with lab.at(source, clock_ahead=7.0), lab.relay(0, 1, clock_ahead=-1.0), lab.at(receiver):
        source.tap(sent)
        receiver.tap(came)
        await come_true(lambda: len(came.heard) > 100)
        for timestamp, (data, captured) in came.heard.items():
            packet, at = sent.heard[timestamp]
            assert data == packet
            assert captured == pytest.approx(at, abs=2e-3)


@turned
async def test_sound_that_is_lost_before_a_relay_is_missing_behind_it_too_and_is_no_silence() -> None:
    lab = Lab(2)
    came = Tape()
    source, receiver = lab.broadcaster(0, audio=Beats()), lab.receiver(1)
    async with lab.at(source), lab.relay(0, 1) as relay, lab.at(receiver):
        receiver.tap(came)
        await come_true(lambda: len(came.heard) > 50)
        assert not came.lost
        lab.way(source, relay).losses = Losses(share=0.1)
        await come_true(lambda: came.lost > 5)


class Beats:
    """A source of sound whose pieces come evenly."""

    async def __aiter__(self) -> AsyncIterator[av.AudioFrame]:
        chance = np.random.default_rng(1)
        while True:
            samples = (chance.normal(0, 3000, (1, 960))).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 48_000
            yield frame
            await elapse(0.02)


@turned
async def test_a_page_is_relayed_too() -> None:
    lab = Lab(2)
    receiver = lab.receiver(1, sync="latest")
    relay = Relay(lab.rooms[0].client(), lab.rooms[1].client())
    relay.network = relay.receiver.network = lab.network.host()
    relay.receiver._handshake.accept = {}  # so a broadcaster is to it what a page is
    async with lab.at(lab.broadcaster(0, faces=Reader())), run(relay, 0.0), lab.at(receiver):
        await come_true(lambda: receiver.stats.frames and receiver.stats.frames_with_faces)
        assert list(receiver.streams) == ["camera"]
        assert receiver.origin.name == "source"
        assert receiver.relays == (relay.id,)


@turned
async def test_messages_pass_both_ways() -> None:
    lab = Lab(2)
    source, receiver = lab.broadcaster(0), lab.receiver(1)
    async with lab.at(source), lab.relay(0, 1) as relay, lab.at(receiver):
        await come_true(lambda: receiver.stats.frames)
        down, up = receiver.messages("task"), source.messages("answers")
        await source.send("task", "look left")
        await receiver.send("answers", b"done")
        await receiver.send("answers", b"newest", latest=True)
        async with asyncio.timeout(5):
            assert (await anext(down)).data == "look left"
            answers = [await anext(up), await anext(up)]
        assert {(answer.data, answer.latest) for answer in answers} == {(b"done", False), (b"newest", True)}
        assert {answer.session for answer in answers} == {relay.receiver.signaling.session}


@turned
async def test_a_recording_behind_a_relay_is_told_on_both_sides_of_it() -> None:
    lab = Lab(2)
    source, receiver, other = lab.broadcaster(0), lab.receiver(1), lab.receiver(1)
    async with lab.at(source), lab.relay(0, 1) as relay, lab.at(receiver), lab.at(other):
        await come_true(lambda: receiver.stats.frames and other.stats.frames)
        assert not source.recorders
        end = receiver.tap(Tape())
        await come_true(lambda: source.recorders == (relay.receiver.signaling.session,))
        await come_true(lambda: other.recorded)
        end()
        await come_true(lambda: not source.recorders)
        await come_true(lambda: not other.recorded)


@turned
async def test_relays_in_a_circle_let_each_other_go() -> None:
    lab = Lab(2)
    async with lab.relay(0, 1) as there, lab.relay(1, 0) as back:
        async with lab.at(lab.broadcaster(0)):
            await come_true(lambda: back.broadcaster is not None)
            assert back.relays == (there.id, back.id)
        refused: list[StateEvent] = []
        there.events.subscribe(refused.append)  # it finds nobody but the other relay, which has all from it
        await come_true(lambda: any(event.state == "refused" for event in refused), 30)
        assert "passes on what it has from this relay" in next(e.reason for e in refused if e.state == "refused")
        await come_true(lambda: there.broadcaster is None and back.broadcaster is None, 60)
        receiver = lab.receiver(1)
        async with lab.at(lab.broadcaster(0)), lab.at(receiver):
            await come_true(lambda: receiver.stats.frames, 60)


def test_a_relay_leads_from_one_room_to_another() -> None:
    with pytest.raises(ValueError, match="these are the same"):
        Relay("ws://127.0.0.1:1/ws?room=lab", SignalingClient("ws://127.0.0.1:1/ws", room="lab"))
    with pytest.raises(ValueError, match="at most 64"):
        Relay("ws://127.0.0.1:1/ws?room=lab", "ws://127.0.0.1:1/ws", name="x" * 65)


async def test_all_of_it_passes_over_real_sockets() -> None:
    """H.264 and sound too, from one room of a server to another."""

    class Marker:
        async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
            number = TestPattern.read_number(frame.to_ndarray(format="bgr24")) or 0
            return [Face(np.full((478, 3), number % 100 / 100, np.float32), {})]

    async with SignalingServer(port=0) as server:
        here, there = (SignalingClient(server.url, room=room) for room in ("here", "there"))
        below = SignalingClient(server.url, room="there")
        card = TestPattern((320, 240))
        async with (
            Broadcaster(SignalingClient(server.url, room="here"), card, faces=Marker(), audio=Tone(), codecs=["h264"]),
            Relay(here, there) as relay,
            Receiver(below, timeout=20) as receiver,
        ):
            count = 0
            async for moment in receiver:
                number = TestPattern.read_number(moment.frame.to_ndarray(format="bgr24"))
                assert not moment.faces or round(float(moment.faces[0].landmarks[0, 0]) * 100) == (number or 0) % 100
                count += bool(moment.faces)
                if count == 20:
                    break
            async for piece in receiver.audio():
                if not piece.concealed and abs(piece.samples).max() > 0.1:
                    break
            assert relay.broadcaster is not None
            await until(
                lambda: relay.broadcaster and next(iter(relay.broadcaster.peer_stats().values())).codec == "h264"
            )
            assert relay.faults == 0


async def test_a_relay_uses_one_network_at_both_ends_also_one_that_it_shares() -> None:
    relay = Relay("ws://127.0.0.1:1/ws?room=here", "ws://127.0.0.1:1/ws?room=there", udp_ports=(5000, 5000))
    network = LocalNetwork((6000, 6000))
    for _ in range(2):
        assert relay.receiver.network is relay.network
        assert relay.receive_more("camera").network is relay.network
        relay.share(network)
    assert relay.network is network
