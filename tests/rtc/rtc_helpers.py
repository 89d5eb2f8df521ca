"""Real video, and two real peers in one process."""

import asyncio
import contextlib
import fractions
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from waiting import PATIENCE
from wires import Way, own_host

from synopticon_rtc.rtc import Channel, EncodedVideoFrame, IceServer, PeerConnection, Received, VideoStream, VideoTrack
from synopticon_rtc.rtc.bitstream import MAX_SIZE
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.rtc.stream import Codec

WIDTH, HEIGHT = 160, 96
TICKS = 3000
"""From one frame to the next, in 1/90000 s."""
_OPTIONS = {
    "vp8": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "h264": {"preset": "ultrafast", "tune": "zerolatency"},
}


class Clip:
    """Noise, really encoded, whose brightness tells the number of the frame (modulo 16)."""

    def __init__(self, codec: Codec = "vp8", *, origin: int | None = None) -> None:
        self.requests = 0
        """How often a keyframe was asked for."""
        self.viewers: list[int] = []
        self.numbers: dict[int, int] = {}
        """Which frame was sent with an RTP timestamp."""
        self.stream = VideoStream(
            codec, on_keyframe_request=self._request, on_viewers=self.viewers.append, timestamp_origin=origin
        )
        self._count = 0
        self._keyframe = True
        self._noise = np.random.default_rng(1).integers(0, 60, (HEIGHT, WIDTH), np.uint8)
        encoder = av.CodecContext.create({"vp8": "libvpx", "h264": "libx264"}[codec], "w")
        assert isinstance(encoder, VideoCodecContext)
        self._encoder = encoder
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        self._encoder.time_base = fractions.Fraction(1, 90_000)
        self._encoder.framerate = fractions.Fraction(30)
        self._encoder.bit_rate = 3_000_000
        self._encoder.gop_size = 3000
        self._encoder.options = _OPTIONS[codec]
        if codec == "h264":
            self._encoder.profile = "Baseline"

    def packet(self) -> "av.Packet[Any]":
        """Encode the next frame."""
        luma = np.roll(self._noise, self._count * 3, axis=1) + np.uint8(self._count % 16 * 10)
        frame = av.VideoFrame.from_ndarray(
            np.concatenate([luma, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)]), format="yuv420p"
        )
        frame.pts, frame.time_base = self._count * TICKS, fractions.Fraction(1, 90_000)
        if self._keyframe:
            frame.pict_type = PictureType.I
            self._keyframe = False
        self._count += 1
        (packet,) = self._encoder.encode(frame)
        return packet

    def send(self) -> int:
        """Send the next frame, and return its RTP timestamp."""
        number = self._count
        timestamp = self.stream.send(self.packet())
        self.numbers[timestamp] = number
        return timestamp

    async def play(self, count: int, interval: float = 0.01) -> list[int]:
        """Send frames, and return their RTP timestamps."""
        timestamps = []
        for _ in range(count):
            timestamps.append(self.send())
            await asyncio.sleep(interval)
        return timestamps

    def shows_its_number(self, received: Received) -> bool:
        """Whether a frame is the one that its timestamp says."""
        number = self.numbers[received.rtp_timestamp]
        luma = received.frame.to_ndarray()[:HEIGHT].mean() - self._noise.mean()
        return bool(abs(luma - number % 16 * 10) < 4)

    def _request(self) -> None:
        self.requests += 1
        self._keyframe = True


def lonely_ice() -> IceConnection:
    """Return an ICE connection that leads nowhere, for what needs one and sends nothing."""
    return IceConnection(
        ice_controlling=True,
        local_username="user",
        local_password="p" * 22,
        servers=(),
        relay_only=False,
        on_lost=lambda: None,
        network=LocalNetwork(),
    )


class Peer:
    """A peer connection, and what it has told; on a loop that is turned it is on a network in memory."""

    def __init__(
        self,
        *,
        ice_servers: tuple[IceServer, ...] = (),
        relay_only: bool = False,
        on_channel: Callable[[Channel], None] | None = None,
        on_encoded: Callable[[EncodedVideoFrame], None] | None = None,
        video: bool = True,
        max_size: tuple[int, int] = MAX_SIZE,
        network: LocalNetwork | None = None,
    ) -> None:
        self.states: list[str] = []
        self.reached: list[str] = []
        self.candidates: list[dict[str, Any] | None] = []
        self.channels: list[Channel] = []
        self.tracks: list[VideoTrack] = []
        self.frames: list[Received] = []
        self.other: Peer | None = None
        self.host = own_host()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection = PeerConnection(
            ice_servers=ice_servers,
            relay_only=relay_only,
            signal_end=True,
            on_candidate=self._on_candidate,
            on_state=self._on_state,
            on_reached=lambda: self.reached.append(self.connection.state),
            on_channel=on_channel or self._on_channel,
            on_video=self._on_video if video else None,
            on_encoded=None if on_encoded is None else lambda _, frame: on_encoded(frame),
            max_size=max_size,
            network=network or self.host,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.connection.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until something is true of this peer."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await self._changed.wait()

    async def until_state(self, state: str, seconds: float = PATIENCE) -> None:
        """Wait for a state."""
        await self.until(lambda: state in self.states, seconds)

    def _on_state(self, state: str) -> None:
        self.states.append(state)
        self._changed.set()

    def _on_channel(self, channel: Channel) -> None:
        self.channels.append(channel)
        self._changed.set()

    def _on_video(self, track: VideoTrack) -> None:
        self.tracks.append(track)
        put = track.put

        def keep(received: Received) -> None:
            """Keep every frame: a track gives out the newest, so on a busy machine not all."""
            self.frames.append(received)
            self._changed.set()
            put(received)

        track.put = keep  # type: ignore[method-assign]

    def _on_candidate(self, candidate: dict[str, Any] | None) -> None:
        self.candidates.append(candidate)
        self._changed.set()
        if self.other is None:
            return
        if candidate is None:
            self._spawn(self.other.connection.add_candidate(None))
        else:
            self._spawn(
                self.other.connection.add_candidate(
                    candidate["candidate"], candidate["sdpMid"], candidate["sdpMLineIndex"]
                )
            )

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def ways(one: Peer, other: Peer) -> tuple[Way, Way]:
    """Return the ways there and back between two peers, on a loop that is turned."""
    assert one.host is not None
    assert other.host is not None
    network = one.host.network
    return network.way(one.host.address, other.host.address), network.way(other.host.address, one.host.address)


def unchanged(sdp: str) -> str:
    """Leave a description as it is."""
    return sdp


async def describe(
    sender: Peer, receiver: Peer, *, offer: Callable[[str], str] = unchanged, answer: Callable[[str], str] = unchanged
) -> None:
    """Carry offer, answer and candidates from one peer to the other."""
    sender.other, receiver.other = receiver, sender
    text = await receiver.connection.answer(offer(await sender.connection.offer()))
    await sender.connection.set_answer(answer(text))


async def join(
    sender: Peer, receiver: Peer, *, offer: Callable[[str], str] = unchanged, answer: Callable[[str], str] = unchanged
) -> None:
    """Connect two peers."""
    await describe(sender, receiver, offer=offer, answer=answer)
    await sender.until_state("connected")
    await receiver.until_state("connected")


@contextlib.asynccontextmanager
async def watching(clip: Clip, *, shown: int = 0, **edits: Callable[[str], str]) -> AsyncIterator[tuple[Peer, Peer]]:
    """Connect a sender of a clip with a receiver, and wait until so many frames are shown."""
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream, [clip.stream.codec])
        viewers = clip.stream.viewers
        await join(sender, receiver, **edits)
        await sender.until(lambda: clip.stream.viewers > viewers)
        await clip.play(shown)
        await receiver.until(lambda: len(receiver.frames) >= shown)
        yield sender, receiver


class Tap:
    """Stands between a peer and its socket.

    Args:
        peer: Whose packets go through here.
        drop: Says of each datagram that is sent whether it gets lost.
    """

    def __init__(self, peer: Peer, drop: Callable[[bytes], bool]) -> None:
        ice = peer.connection._ice
        assert ice is not None
        assert ice.selected_pair is not None
        protocol = ice.selected_pair.protocol
        self._transport: Any = protocol.transport
        self.drop = drop
        self.sent: list[bytes] = []
        protocol.transport = self  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue] - in its place

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        """Pass a datagram on, or lose it."""
        self.sent.append(data)
        if not self.drop(data):
            self._transport.sendto(data, address)

    def get_extra_info(self, name: str) -> None:
        """Hide the socket, by which a sender would go past the tap."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def is_rtp(data: bytes) -> bool:
    """Whether a datagram is RTP, and neither RTCP, DTLS nor STUN (RFC 7983, RFC 5761)."""
    return 127 < data[0] < 192 and not 191 < data[1] < 224
