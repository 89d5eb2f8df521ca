"""WHIP and WHEP between our own two ends, over HTTP and real sockets."""

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import av
import numpy as np
import pytest
from rtc_network import coturn
from waiting import until

from synopticon_rtc import Broadcaster, Face, Moment, PeerEvent, Receiver, SignalingServer
from synopticon_rtc.engines import as_engine, as_signaling
from synopticon_rtc.engines.http import Web
from synopticon_rtc.errors import InvalidURL, SignalingError
from synopticon_rtc.faces.wire import PROTOCOL, decode
from synopticon_rtc.ingest import Ingest
from synopticon_rtc.peers import faces_beside
from synopticon_rtc.rtc import Channel, Codec, EncodedVideoFrame, PeerConnection
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

SECRET = b"a secret of thirty-two bytes....."
SIZE = 64, 48


LEVELS = range(40, 220, 20)


class Numbers:
    """Frames, each of another brightness than the one before."""

    async def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        for number, level in enumerate(itertools.cycle(LEVELS)):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE[1] * 3 // 2, SIZE[0]), level, np.uint8), format="yuv420p")
            frame.pts, frame.time_base = number * 4500, Fraction(1, 90_000)
            yield frame
            await asyncio.sleep(0.05)


class Finds:
    """Finds one face in each frame, at a place that tells how bright that is."""

    async def detect(self, frame: av.VideoFrame) -> tuple[Face, ...]:
        return (Face(np.full((478, 3), brightness(frame), np.float32), {}, None),)


def brightness(frame: av.VideoFrame) -> float:
    """Return how bright a frame is, 0 to 1."""
    return float(frame.to_ndarray(format="yuv420p")[: SIZE[1]].mean()) / 255


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0, ingest=Ingest()) as server:
        yield server


def whip(server: SignalingServer, where: str = "lab/cam") -> str:
    return f"whip+http://127.0.0.1:{server.port}/whip/{where}"


def whep(server: SignalingServer, where: str = "lab/cam") -> str:
    return f"whep+http://127.0.0.1:{server.port}/whep/{where}"


async def first(receiver: Receiver[Any], count: int = 1) -> list[Moment[Any]]:
    """Return the next moments."""
    found = []
    async for moment in receiver:
        found.append(moment)
        if len(found) == count:
            break
    return found


def told(broadcaster: Broadcaster) -> list[PeerEvent]:
    events: list[PeerEvent] = []
    broadcaster.events.subscribe(events.append)
    return events


async def test_what_is_published_by_whip_is_watched_in_the_room_and_by_whep_and_ends_with_a_delete(
    server: SignalingServer,
) -> None:
    room = f"{server.url}?room=lab"
    async with Broadcaster(whip(server), Numbers()) as sender:
        async with Receiver(room, broadcaster="cam", timeout=10) as near, Receiver(whep(server), timeout=10) as far:
            for receiver in (near, far):
                (moment,) = await first(receiver)
                assert (moment.frame.width, moment.frame.height) == SIZE
        assert sender.peers == (whip(server),)
        await until(lambda: len(server.sessions) == 1)  # both have said goodbye
    await until(lambda: not server.sessions)


async def test_faces_go_through_whip_and_whep_to_their_frames(server: SignalingServer) -> None:
    async with (
        Broadcaster(whip(server), Numbers(), faces=Finds(), codecs=("h264",)),
        Receiver(whep(server), timeout=10) as receiver,
    ):
        moments = await first(receiver, 20)
    found = [moment for moment in moments if moment.faces]
    assert len(found) >= 10
    for moment in found:
        assert moment.faces[0].landmarks[0, 0] == pytest.approx(brightness(moment.frame), abs=0.02)


@contextlib.asynccontextmanager
async def player(server: SignalingServer, *, channel: bool) -> AsyncIterator[tuple[list[EncodedVideoFrame], list[int]]]:
    """Watch by WHEP; gives the frames, and the RTP timestamps of the faces, by a channel if there is to be one."""
    frames: list[EncodedVideoFrame] = []
    found: list[int] = []

    def take(data: str | bytes) -> None:
        assert isinstance(data, bytes)
        found.append(decode(data).rtp_timestamp or 0)

    def add(channel: Channel) -> None:
        channel.on_message = take

    def see(_: str, frame: EncodedVideoFrame) -> None:
        frames.append(frame)
        for data in faces_beside.read(frame):
            take(data)

    connection = PeerConnection(on_encoded=see, on_channel=add)
    connection.receive()
    if channel:
        connection.add_channel("faces", protocol=PROTOCOL)
    try:
        offer = await connection.offer()
        reply = await Web().ask("POST", whep(server).removeprefix("whep+"), {"Content-Type": "application/sdp"}, offer)
        await connection.set_answer(reply.text)
        yield frames, found
    finally:
        await connection.close()


@pytest.mark.parametrize(("codec", "channel"), [("h264", False), ("h264", True), ("vp8", True)])
async def test_whoever_watches_what_came_by_whip_gets_the_faces_of_each_frame_once(
    server: SignalingServer, codec: Codec, *, channel: bool
) -> None:
    async with (
        Broadcaster(whip(server), Numbers(), faces=Finds(), codecs=[codec]),
        Receiver(f"{server.url}?room=lab", broadcaster="cam", timeout=10) as near,
    ):
        await first(near)
        async with player(server, channel=channel) as (frames, found):
            await until(lambda: len(frames) > 40)
        assert frames[0].codec == codec
        assert len(found) >= 30
        assert len(set(found)) == len(found)
        assert set(found) & {frame.rtp_timestamp for frame in frames}
        moments = await first(near, 20)
        assert sum(bool(moment.faces) for moment in moments) >= 15
        assert near.stats.faces_messages <= near.stats.frames + 1


async def test_a_publisher_that_ends_before_it_sends_anything_leaves_no_session(server: SignalingServer) -> None:
    connection = PeerConnection()
    connection.add_audio(None)
    try:
        url, headers = whip(server).partition("+")[2], {"Content-Type": "application/sdp"}
        reply = await Web().ask("POST", url, headers, await connection.offer())
        assert (reply.status, len(server.sessions)) == (201, 1)
        await Web().ask("DELETE", urljoin(url, reply.headers["Location"]), {})
        await until(lambda: not server.sessions, seconds=3)
    finally:
        await connection.close()


async def test_offers_of_strangers_that_cannot_be_used_fill_no_log(
    server: SignalingServer, caplog: pytest.LogCaptureFixture
) -> None:
    url, headers = whip(server).partition("+")[2], {"Content-Type": "application/sdp"}
    for offer in ("v=0", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 20, "a=" + "x" * 40_000):
        reply = await Web().ask("POST", url, headers, offer)
        assert (reply.status, "session description" in reply.text) == (400, True)
    assert caplog.records == []
    await until(lambda: not server.sessions)


async def test_all_that_a_server_takes_and_sends_on_goes_by_its_one_udp_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with (
        SignalingServer(port=0, ingest=Ingest((port, port))) as server,
        Broadcaster(whip(server), Numbers()),
        Receiver(f"{server.url}?room=lab", broadcaster="cam", timeout=10) as near,
    ):
        await first(near)
        receives, sends = PeerConnection(on_encoded=lambda _, __: None), PeerConnection()
        receives.receive()
        sends.add_audio(None)
        try:
            for connection, url in ((receives, whep(server)), (sends, whip(server, "lab/other"))):
                headers = {"Content-Type": "application/sdp"}
                reply = await Web().ask("POST", url.partition("+")[2], headers, await connection.offer())
                ports = re.findall(r"^a=candidate:\S+ 1 udp \d+ \S+ (\d+) ", reply.text, re.MULTILINE)
                assert set(ports) == {str(port)}
        finally:
            await receives.close()
            await sends.close()


async def test_behind_a_nat_publishers_reach_a_server_by_the_turn_server_that_it_names(tmp_path: Path) -> None:
    async with coturn(tmp_path, secret=SECRET.decode()) as turn:
        servers = TurnServers(turn=[turn.turn("udp").url], secret=SECRET)
        async with SignalingServer(port=0, ingest=Ingest(), ice_servers=servers) as server:
            connection = PeerConnection()
            connection.add_audio(None)
            try:
                headers = {"Content-Type": "application/sdp"}
                url = whip(server).partition("+")[2]
                reply = await Web().ask("POST", url, headers, await connection.offer())
                assert "typ relay" in reply.text
            finally:
                await connection.close()


async def test_a_broadcaster_is_watched_by_whep_until_it_ends_the_resource(server: SignalingServer) -> None:
    async with Broadcaster(f"{server.url}?room=lab", Numbers(), name="cam") as sender:
        async with Receiver(whep(server), timeout=10) as receiver:
            await first(receiver)
            assert len(sender.peers) == 1
            sender.send_away(sender.peers[0], "enough")
            async for event in receiver.events:
                if event.state == "interrupted":
                    break
        await until(lambda: len(server.sessions) == 1)


async def test_whoever_is_not_there_yet_is_waited_for(server: SignalingServer) -> None:
    async with Receiver(whep(server), timeout=20) as receiver:
        states = receiver.events
        reasons = []
        async for event in states:
            reasons.append(event.reason)
            if "HTTP 404" in event.reason:
                break
        async with Broadcaster(whip(server), Numbers()):
            await first(receiver)


async def test_a_publisher_is_back_once_the_server_is() -> None:
    async with SignalingServer(port=0, ingest=Ingest()) as server:
        url, port = whip(server), server.port
        sender = Broadcaster(url, Numbers())
        await sender.start()
        await until(lambda: sender.peers)
    try:
        await until(lambda: not sender.peers)
        async with SignalingServer(port=port, ingest=Ingest()):
            await until(lambda: sender.peers)
            await sender.aclose()
    finally:
        await sender.aclose()


async def test_a_token_that_is_none_or_for_less_is_told_in_words_and_disturbs_nobody() -> None:
    keys = TokenKeys(secret=SECRET)
    receives = make_token(SECRET, Claims("", "lab", frozenset({"receive"}), "", 2e9))
    sends = make_token(SECRET, Claims("", "lab", frozenset({"broadcast"}), "", 2e9))
    async with SignalingServer(port=0, ingest=Ingest(), tokens=keys) as server, SignalingServer(port=0) as own:
        for token, words in (("", "HTTP 401"), (receives, "HTTP 403")):
            async with Broadcaster(own.url, Numbers(), publish_to=[as_engine(whip(server), token=token or None)]) as it:
                (event,) = [event async for event in _until_refused(it)]
                assert words in event.reason
                async with Receiver(own.url, timeout=10) as near:
                    await first(near)
        async with Broadcaster(f"{whip(server)}?token={sends}", Numbers()) as sender:
            await until(lambda: sender.peers)
            assert sends not in str(told(sender)) + sender.signaling.url
            async with Receiver(as_signaling(whep(server), token=receives), timeout=10) as receiver:
                await first(receiver)
            async with Receiver(as_signaling(whep(server), token=sends), timeout=10) as receiver:
                with pytest.raises(SignalingError, match="HTTP 403"):
                    await first(receiver)


async def _until_refused(broadcaster: Broadcaster) -> AsyncIterator[PeerEvent]:
    async for event in broadcaster.events:
        if event.state == "refused":
            yield event
            return


async def test_a_name_that_is_taken_is_waited_for(server: SignalingServer) -> None:
    async with SignalingServer(port=0) as own:
        first_one = Broadcaster(whip(server), Numbers())
        await first_one.start()
        await until(lambda: first_one.peers)
        async with Broadcaster(own.url, Numbers(), publish_to=[whip(server)]) as second:
            async for event in second.events:
                if "HTTP 409" in event.reason:
                    break
            await first_one.aclose()
            await until(lambda: second.peers)


@pytest.mark.parametrize("url", ["whip+https:///lab", "whep+http://user:secret@host/lab", "whip+http://host:0/lab"])
def test_what_is_no_endpoint_is_refused_in_words(url: str) -> None:
    with pytest.raises(InvalidURL, match=r"give one like wh[ie]p\+https") as caught:
        as_engine(url)
    assert "secret" not in str(caught.value)


async def test_an_endpoint_to_publish_by_is_none_to_watch_by_and_the_other_way_round(server: SignalingServer) -> None:
    async with Receiver(whip(server), timeout=5) as receiver:
        with pytest.raises(SignalingError, match="endpoint to broadcast by: receive from the WHEP endpoint"):
            await first(receiver)
    async with Broadcaster(whep(server), Numbers()) as sender:
        with pytest.raises(SignalingError, match="endpoint to receive by: publish to the WHIP endpoint"):
            await sender.wait_closed()
