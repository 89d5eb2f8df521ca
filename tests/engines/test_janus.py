"""A VideoRoom of Debian's Janus: frames with their own faces through it, and what those read who are not let in."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import av
import numpy as np
import pytest
from waiting import until
from websockets.asyncio.client import connect
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.janus_server import JANUS, JanusServer
from synopticon_rtc import Broadcaster, Face, PeerEvent, Receiver, Room, TestPattern, Tone
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.engines import janus_room, janus_session
from synopticon_rtc.engines.janus import read_address
from synopticon_rtc.engines.janus_room import PLUGIN, Section, advise, sections
from synopticon_rtc.engines.janus_session import PROTOCOL, JanusError, open_session
from synopticon_rtc.errors import InvalidURL, SignalingError
from synopticon_rtc.media import Codec
from synopticon_rtc.signaling import receiver_handshake

SIZE = 320, 240
LOCKED, SMALL = 2, 3
SECRET = "of the tokens"  # noqa: S105 - of a server in a test
real = pytest.mark.skipif(JANUS is None, reason="needs janus: apt-get install janus")


@pytest.fixture(scope="module")
def janus() -> Iterator[JanusServer]:
    with JanusServer({1: "", LOCKED: 'pin = "1234"', SMALL: "publishers = 1"}) as server:
        yield server


class Numbered:
    """A detector whose faces tell the number of their frame."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        number = TestPattern.read_number(frame.to_ndarray()[: frame.height])
        await asyncio.sleep(0.005)
        return (Face(np.full((478, 3), (number or 0) / 2000, np.float32), {}),)


def told(face: Face) -> int:
    return round(float(face.landmarks[:, 0].mean()) * 2000)


def broadcaster(url: str, name: str = "cam", codec: Codec = "vp8") -> Broadcaster:
    return Broadcaster(url, TestPattern(SIZE, 30), faces=Numbered(), name=name, codecs=[codec], bitrate=300_000)


@real
@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_each_frame_comes_with_its_own_faces(janus: JanusServer, codec: Codec) -> None:
    paired = 0
    async with (
        asyncio.timeout(60),
        broadcaster(janus.url(1), codec=codec) as sender,
        Receiver(janus.url(1)) as receiver,
    ):
        async for moment in receiver:
            number = TestPattern.read_number(moment.frame.to_ndarray()[: moment.frame.height])
            assert [told(face) for face in moment.faces] in ([], [number])
            assert moment.captured is not None or not moment.detected  # the others may tell too
            paired += bool(moment.faces)
            if paired == 60:
                break
        assert receiver.stats.frames <= 70
        assert sender.peer_stats()[janus.url(1)].codec == codec
        assert list(receiver.streams) == ["camera"]


@real
async def test_all_streams_come_at_once_and_what_becomes_of_them_is_told(janus: JanusServer) -> None:
    async with asyncio.timeout(60), broadcaster(janus.url(1)) as sender, Receiver(janus.url(1)) as receiver:
        screen = await sender.publish("screen", TestPattern((160, 120), 10))
        await sender.publish("microphone", audio=Tone())
        await until(lambda: len(receiver.streams) == 3)
        assert {name: stream.kind for name, stream in receiver.streams.items()} == {
            "camera": "video",
            "screen": "video",
            "microphone": "audio",
        }
        async for moment in receiver.moments("screen"):
            assert moment.frame.width == 160
            break
        async for sound in receiver.audio():  # the first may be from before the decoder had any
            if sound.samples.any():
                break
        screen.mute()
        await until(lambda: receiver.streams["screen"].muted)


@real
async def test_of_several_in_a_room_each_is_received_by_its_name(janus: JanusServer) -> None:
    url = janus.url(1)
    async with asyncio.timeout(60), broadcaster(url, "left"), broadcaster(url, "right"):
        async with Receiver(url, broadcaster="right") as receiver:
            await anext(aiter(receiver))
            assert receiver.origin.name == "right"
        async with Room(url) as room:
            await until(lambda: {one.name for one in room.participants} == {"left", "right"})


@real
async def test_who_stops_and_begins_again_is_received_again_and_so_is_janus_itself() -> None:
    with JanusServer({1: ""}) as server:
        async with asyncio.timeout(90), Receiver(server.url(1)) as receiver:
            moments = aiter(receiver)
            async with broadcaster(server.url(1)):
                await anext(moments)
            await until(lambda: receiver.clock_offset is None and not receiver.streams)
            async with broadcaster(server.url(1)):
                await anext(moments)
                server.kill()
                await until(lambda: not receiver.streams)
                server.start()
                came_back = time.monotonic()
                assert (await anext(moments)).frame.width == SIZE[0]
                assert time.monotonic() - came_back < 30  # a benchmark says how soon; here it must be at all


@real
@pytest.mark.long
@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_each_receiver_is_sent_the_layer_that_it_wants_with_its_own_faces(
    janus: JanusServer, codec: Codec
) -> None:
    sender = Broadcaster(
        janus.url(1, "simulcast=yes"), TestPattern((480, 480), 15), faces=Numbered(), name="cam", codecs=[codec]
    )
    small, large = Receiver(janus.url(1)), Receiver(janus.url(1))
    small.limit("camera", 10_000)

    async def watch(receiver: Receiver, width: int) -> None:
        paired = 0
        async for moment in receiver:
            number = TestPattern.read_number(moment.frame.to_ndarray()[: moment.frame.height])
            assert [told(face) for face in moment.faces] in ([], [number])
            paired += bool(moment.faces) and moment.frame.width == width
            if paired == 20:
                break

    async with asyncio.timeout(120), sender, small, large:
        await asyncio.gather(watch(small, 120), watch(large, 480))
        small.limit("camera", None)
        await watch(small, 480)
        small.limit("camera", 1_000_000)
        await watch(small, 240)


@contextlib.asynccontextmanager
async def swallowing(port: int, swallow: str) -> AsyncIterator[int]:
    """Stand before a Janus, and let pass all that is said but what a pattern is found in; gives the port."""

    async def pass_on(came: ServerConnection) -> None:
        async def carry(source: Connection, target: Connection) -> None:
            with contextlib.suppress(ConnectionClosed):
                async for message in source:
                    if not re.search(swallow, str(message)):
                        await target.send(message)

        async with connect(f"ws://127.0.0.1:{port}/", subprotocols=[PROTOCOL]) as janus:
            ends = [asyncio.ensure_future(carry(*both)) for both in ((came, janus), (janus, came))]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()

    async with serve(pass_on, "127.0.0.1", 0, subprotocols=[PROTOCOL]) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@real
async def test_a_publisher_of_whom_the_news_was_lost_is_found(
    janus: JanusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_handshake, "SLOW_SEEK", 0.5)
    monkeypatch.setattr(janus_room, "LOOK_AGAIN", 0.5)
    async with (
        asyncio.timeout(60),
        swallowing(janus.port, r'"event","session_id":\d+,"sender"') as port,
        Receiver(f"janus+ws://127.0.0.1:{port}/1", broadcaster="late") as receiver,
    ):
        await receiver.signaling.wait_open()
        async with broadcaster(janus.url(1), "late"):
            await anext(aiter(receiver))


def token(plugins: str) -> str:
    """Sign a token as Janus wants it: https://janus.conf.meetecho.com/docs/auth."""
    text = f"{int(time.time()) + 600},janus,{plugins}"
    signature = hmac.new(SECRET.encode(), text.encode(), hashlib.sha1).digest()
    return f"{text}:{base64.b64encode(signature).decode()}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[JanusServer]:
    with JanusServer({1: ""}, general=f'token_auth = true\ntoken_auth_secret = "{SECRET}"') as server:
        yield server


@real
async def test_who_is_not_let_in_reads_why(janus: JanusServer, guarded: JanusServer) -> None:
    refused = {
        janus.url(77): r"No such room \(77\) \(426\); create the room in Janus",
        janus.url(LOCKED): r"\(429\); the room wants a PIN",
        janus.url(LOCKED, "pin=4321"): r"\(433\); the room wants a PIN or a token",
        guarded.url(1): r"\(403\); it wants its API secret or a token",
        guarded.url(1, "token=wrong"): r"\(403\); it wants its API secret or a token",
        f"janus+ws://127.0.0.1:{janus.port}/x": r"\(430\)",
    }
    async with asyncio.timeout(60):
        for url, words in refused.items():
            async with Receiver(url) as receiver:
                with pytest.raises(SignalingError, match=words) as caught:
                    await anext(aiter(receiver))
                assert "4321" not in str(caught.value)


def test_a_codec_that_a_room_does_not_take_is_told_with_what_to_do() -> None:
    said = advise(JanusError(430, "Video codec unavailable in this room"))
    assert said == (
        'Video codec unavailable in this room (430); name the codec in the videocodec of the room, like "vp8,h264", '
        "or send another (--codec)"
    )


@real
async def test_who_knows_the_pin_or_has_a_token_is_let_in(janus: JanusServer, guarded: JanusServer) -> None:
    async with asyncio.timeout(60):
        for url in (janus.url(LOCKED, "pin=1234"), guarded.url(1, f"token={token('janus.plugin.videoroom')}")):
            async with broadcaster(url), Receiver(url) as receiver:
                await anext(aiter(receiver))


@real
async def test_a_broadcaster_for_whom_there_is_no_room_reads_why_and_comes_in_later(janus: JanusServer) -> None:
    url = janus.url(SMALL)
    events: list[PeerEvent] = []
    late = broadcaster(url, "second")
    late.events.subscribe(events.append)
    async with asyncio.timeout(60):
        async with broadcaster(url, "first") as first:
            await until(lambda: first.peers)
            await late.start()
            await until(lambda: any("raise the number of publishers" in event.reason for event in events))
            assert first.peers
        await until(lambda: late.peers)
        await late.aclose()


@real
async def test_who_is_put_out_comes_back_also_into_a_room_that_was_made_anew() -> None:
    with JanusServer({1: ""}) as server:
        url = server.url(1)
        async with (
            asyncio.timeout(60),
            broadcaster(url) as sender,
            Receiver(url) as receiver,
            open_session(f"ws://127.0.0.1:{server.port}/", {}, None, Faults()) as operator,
        ):
            moments = aiter(receiver)
            await anext(moments)
            handle = await operator.attach(PLUGIN, lambda _: None)
            for request in ({"request": "kick", "id": int(sender.signaling.session or "")}, {"request": "destroy"}):
                before = receiver.origin.session
                await handle.request(request | {"room": 1})
                if request["request"] == "destroy":
                    await until(
                        lambda: "destroyed" in sender.signaling.reason or "No such room" in sender.signaling.reason
                    )
                    await handle.request({"request": "create", "room": 1})
                await until(lambda: receiver.origin.session != before)  # noqa: B023 - it ends in this turn
                await anext(moments)


@real
async def test_rooms_may_have_names_and_candidates_may_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janus_session, "KEEPALIVE", 0.01)
    with JanusServer({"lab": ""}, videoroom="string_ids = true", nat="full_trickle = true") as server:
        url = server.url("lab")
        async with asyncio.timeout(60), broadcaster(url), Receiver(url) as receiver:
            await anext(aiter(receiver))


def test_streams_of_others_have_the_names_that_they_are_given_each_its_own() -> None:
    described = [
        Section("video", "0", feed_description="Slides"),
        Section("video", "1"),
        Section("video", "2", feed_description="Slides"),
        Section("audio", "3", feed_description='{"name": "voice", "kind": "video", "hint": "microphone"}'),
        Section("data", "4"),
    ]
    assert [(one.name, one.kind, one.mid) for one in sections(described)] == [
        ("Slides", "video", "0"),
        ("camera", "video", "1"),
        ("Slides-2", "video", "2"),
        ("voice", "audio", "3"),
    ]


def test_the_address_of_a_room_leaves_no_room_to_be_named_beside_it() -> None:
    with pytest.raises(InvalidURL, match="says all about rooms: leave the room 'lab' out"):
        Room("janus+ws://host/1", room="lab")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("janus+ws://host:8188/", "is no address of a room of Janus: give one like janus"),
        ("janus+ws://user:secret@host/1", "is no address of a room"),
        ("janus+ws://host:port/1", "is no address of a room"),
        (
            "janus+ws://host/1?password=secret",
            "takes pin, token, secret and simulcast after its question mark, not 'pas",
        ),
        ("janus+ws://host/1?simulcast=3", "takes simulcast=yes or simulcast=no"),
    ],
)
def test_what_is_no_address_of_a_room_is_refused_in_words(address: str, words: str) -> None:
    with pytest.raises(InvalidURL, match=words) as caught:
        read_address(address)
    assert "secret@" not in str(caught.value)


def test_an_address_names_the_room_and_keeps_secrets_for_itself() -> None:
    address = read_address("janus+wss://host/janus/1234?pin=se+cret")
    assert (address.shown, address.url, address.room) == ("janus+wss://host/janus/1234", "wss://host/janus", "1234")
    assert address.secrets == {"pin": "se+cret"}
    assert not address.simulcast
    assert read_address("janus+ws://host/1?simulcast=yes") == ("janus+ws://host/1", "ws://host/", "1", {}, True)
