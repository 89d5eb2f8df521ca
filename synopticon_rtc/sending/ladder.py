"""The sizes in which one source is encoded, and which of them each receiver is sent."""

import asyncio
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import av
from av.stream import Stream

from synopticon_rtc import tracing
from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.media import Codec, Hint, Picture, SharedEncoder
from synopticon_rtc.rtc import EncodedVideoFrame, FanoutSender, VideoStream
from synopticon_rtc.rtc.pacer import BURST, Pacer, packets_a_turn


@dataclass(frozen=True, slots=True)
class Rung:
    """How one layer compares to the source: so many times smaller a side, at a share of the bit rate.

    Attributes:
        scale: How many times smaller a side is than the source.
        share: Of the bit rate of the top layer.
    """

    scale: int
    share: float


RUNGS = (Rung(1, 1.0), Rung(2, 0.35), Rung(4, 0.125))
SCREEN_RUNGS = (Rung(1, 1.0),) * len(RUNGS)
"""Of a screen, which has to be read: with fewer frames instead, as the encoder gives them at a lower bit rate."""
BITRATES = 10_000, 1_000_000_000
"""Of the top layer: the lowest and the highest with which all layers can be encoded, bit/s."""
SMALLEST = 120
"""Pixels of the shorter side below which there is no further layer."""
LOWEST = 50_000
"""Bit/s below which nothing is encoded."""
FLOOR = 1.2
"""A layer is not encoded below so many times the rate at which the next smaller one looks as good."""
UPWARD = 1.1
DOWNWARD = 0.95
"""How far from the rate of a layer a receiver's must be for it to be moved up or down."""
NOTABLE = 0.15
"""The share by which a layer's bit rate must be off to be changed: VP8 pays with a keyframe."""
CHANGE_INTERVAL = 2.0
"""Seconds between two changes of a layer's bit rate."""
SPEED = 2.0
"""How much faster than it is encoded a layer must be sent at least."""
HALVED = 0.6
"""The share of its bit rate below which the smallest layer is encoded at half the frame rate."""


class Encoder(Protocol):
    """What makes a layer: an encoder here, or the other end of a connection by which it comes encoded."""

    @property
    def codec(self) -> Codec:
        """``"vp8"`` or ``"h264"``."""
        ...  # pragma: no cover

    @property
    def frames(self) -> int:
        """Frames that it gave."""
        ...  # pragma: no cover

    @property
    def keyframes(self) -> int:
        """Keyframes among them."""
        ...  # pragma: no cover

    @property
    def encode_ms(self) -> float:
        """Milliseconds that one takes, a moving average."""
        ...  # pragma: no cover

    @property
    def wait_ms(self) -> float:
        """Milliseconds that one waits before, a moving average."""
        ...  # pragma: no cover

    @property
    def bitrate(self) -> int:
        """What is aimed at, bit/s."""
        ...  # pragma: no cover

    @property
    def is_busy(self) -> bool:
        """Whether frames wait until the last has been sent at the bit rate."""
        ...  # pragma: no cover

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to send, and no wonder."""
        ...  # pragma: no cover

    def encode(self, frame: Picture) -> None:
        """Encode a frame next."""

    def request_keyframe(self) -> None:
        """Have a keyframe come soon."""

    def set_bitrate(self, bitrate: int) -> None:
        """Aim at another bit rate, bit/s."""

    async def aclose(self) -> None:
        """Give no more."""


@dataclass(slots=True, eq=False)
class Layer:
    """One size of one codec: what makes it, and the stream that it feeds.

    Attributes:
        encoder: What makes it.
        stream: What packs it, and sends it to all who watch it.
        scale: How many times smaller a side is than the source.
        halved: Whether every other frame is left out.
        changed: When its bit rate was last set, s.
    """

    encoder: Encoder
    stream: VideoStream
    scale: int
    halved: bool = False
    changed: float = 0.0


class _Demand:
    """What the receivers of one layer bear: the fastest, and the fastest but for it, bit/s."""

    def __init__(self) -> None:
        self.fastest = self._second = 0.0
        self._sender: FanoutSender | None = None

    def add(self, sender: FanoutSender) -> None:
        rate = sender.bearable
        if rate > self.fastest:
            self.fastest, self._second, self._sender = rate, self.fastest, sender
        else:
            self._second = max(self._second, rate)

    def add_all(self) -> None:
        """Add somebody who bears everything."""
        self.fastest = self._second = math.inf

    def of_others(self, sender: FanoutSender) -> float:
        return self._second if sender is self._sender else self.fastest


def count_rungs(planned: Sequence[Rung], width: int, height: int) -> int:
    """Return how many layers there are of pictures of a size in pixels."""
    shorter = min(width, height)
    return 1 + sum(shorter // rung.scale >= SMALLEST for rung in planned[1:])


class Ladder:
    """The layers of one source in one codec, each encoded once, and only while somebody watches it.

    Receivers start at the top. Each is moved at keyframes to the layer that its link bears, down and up again, so that
    a slow one lowers no other: those on similar links share a layer, whose bit rate follows the fastest of them. The
    layers of a camera differ in size as well, those of a screen in the rate of their frames alone.

    Args:
        codec: ``"vp8"`` or ``"h264"``.
        bitrate: Of the top layer, bit/s.
        fps: The frame rate for which the encoders plan their bit rates.
        origin: The RTP timestamp of presentation time 0, the same for all layers.
        began: When that was, seconds since the epoch; None where nobody knows.
        hint: Whether the source is a camera or a screen.
        encoder: FFmpeg's name of the encoder, where it is not this package's own choice.
        on_packet: Called with the size of each encoded frame in bytes.
        faults: What counts errors that nobody foresaw.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        bitrate: int,
        fps: float,
        origin: int,
        began: float | None = None,
        hint: Hint = "camera",
        encoder: str = "",
        on_packet: Callable[[int], None],
        faults: Faults | None = None,
    ) -> None:
        self._codec: Codec = codec
        self._bitrate = bitrate
        self._fps = fps
        self._origin = origin
        self._began = began
        self._hint: Hint = hint
        self._named = encoder
        self._planned = SCREEN_RUNGS if hint == "screen" else RUNGS
        self._newest: Picture | None = None  # of a screen, which may stay as it is for long
        self._on_packet = on_packet
        self._faults = faults or Faults()
        self._layers: dict[int, Layer] = {}
        self._pacer = Pacer()
        self._taps: list[Callable[[EncodedVideoFrame], None]] = []
        self._rungs = 1
        self._count = 0
        self._counted = 0  # when the layers were last adapted

    @property
    def top(self) -> VideoStream:
        """The stream in full size."""
        return self._layer(0).stream

    def stream(self, index: int) -> VideoStream:
        """Return the stream of a layer, by its index from the top."""
        return self._layer(index).stream

    @property
    def frames(self) -> int:
        """Frames encoded, in all layers."""
        return sum(layer.encoder.frames for layer in self._layers.values())

    def tap(self, tap: Callable[[EncodedVideoFrame], None]) -> Callable[[], None]:
        """Give somebody each frame in full size and at the full bit rate, from a keyframe on.

        Returns:
            What ends it.
        """
        self._taps.append(tap)
        self.top.request_keyframe()
        return functools.partial(self._taps.remove, tap)

    def layer_of(self, sender: FanoutSender) -> Layer | None:
        """Return the layer that a peer is sent, None if it is none of these."""
        return next((layer for layer in self._layers.values() if layer.stream is sender.stream), None)

    def encode(self, picture: Picture, *, joining: bool = False) -> bool:
        """Encode a picture in each layer that is watched, and in the top one if somebody is about to.

        Returns:
            Whether any encoder took it.
        """
        self._rungs = count_rungs(self._planned, picture.frame.width, picture.frame.height)
        self._newest = picture if self._hint == "screen" else None
        self._count += 1
        watched = [
            layer
            for index, layer in self._layers.items()
            if (layer.stream.viewers or (index == 0 and (joining or self._taps)))
            and not (layer.halved and self._count % 2)
        ]
        for layer in watched:
            layer.encoder.encode(picture)
        return bool(watched)

    def set_bitrate(self, bitrate: int) -> None:
        """Aim at another bit rate of the top layer, bit/s, from the next :meth:`adapt` on."""
        self._bitrate = bitrate
        for index, layer in self._layers.items():
            layer.stream.turn = max(BURST, packets_a_turn(SPEED * self._nominal(index)))

    def adapt(self, senders: Iterable[FanoutSender], now: float) -> None:
        """Move receivers to the layers that their links bear, and set the layers' bit rates; a few times a second.

        Args:
            senders: Those of all peers; peers that are sent no layer of this ladder are left alone.
            now: The time, s, as the senders' rates are given it.
        """
        indices = {layer.stream: index for index, layer in self._layers.items()}
        places = {
            sender: indices[sender.next_stream] for sender in senders if sender.next_stream in indices
        }  # what else there is has not begun, or is in another codec
        has_frames, self._counted = self._count > self._counted, self._count
        for sender, place in places.items():
            encoder = self._layer(place).encoder
            if encoder.is_idle:
                sender.rate.rest(now)
                continue
            sender.rate.grow(now, enough=self._bitrate * FLOOR)
            if has_frames and not encoder.is_busy:
                sender.watch(now)
        demands = self._demands(places)
        for sender, place in places.items():
            places[sender] = place if sender.fixed else self._best(sender, place, demands)
        demands = self._demands(places)
        for sender, place in places.items():
            layer = self._layer(place)
            if layer.stream is not sender.next_stream:
                sender.note(tracing.Layer(scale=layer.scale, bitrate=layer.encoder.bitrate))
            sender.switch(layer.stream)
        for index, layer in self._layers.items():
            if demands[index].fastest:
                self._set_bitrate(layer, self._bearable(index, demands[index].fastest), self._nominal(index), now)
            smallest = index == self._rungs - 1 and self._hint != "screen"
            layer.halved = smallest and layer.encoder.bitrate < HALVED * self._nominal(index)

    async def aclose(self) -> None:
        """Stop all encoders."""
        self._newest = None
        await asyncio.gather(*(layer.encoder.aclose() for layer in self._layers.values()))

    def _demands(self, places: dict[FanoutSender, int]) -> list[_Demand]:
        demands = [_Demand() for _ in self._planned]
        if self._taps:
            demands[0].add_all()
        for sender, place in places.items():
            demands[place].add(sender)
        return demands

    def _best(self, sender: FanoutSender, place: int, demands: list[_Demand]) -> int:
        """Return the index of the largest layer that a peer's link bears as the others there need it."""
        for index in range(self._rungs - 1):
            needed = self._bearable(index, demands[index].of_others(sender))
            if sender.bearable >= needed * (UPWARD if index < place else DOWNWARD):
                return index
        return self._rungs - 1

    def _bearable(self, index: int, fastest: float) -> int:
        """Return the bit rate of a layer whose fastest receiver bears this much."""
        smaller = index + 1 < self._rungs and self._hint != "screen"
        floor = round(self._nominal(index + 1) * FLOOR) if smaller else LOWEST
        return min(max(round(min(fastest, self._bitrate)), floor), self._nominal(index))

    def _nominal(self, index: int) -> int:
        return round(self._bitrate * self._planned[index].share)

    def _set_bitrate(self, layer: Layer, bitrate: int, nominal: int, now: float) -> None:
        current = layer.encoder.bitrate
        if self._hint == "screen":
            layer.encoder.set_bitrate(bitrate)  # which costs nothing
            return
        if bitrate == current or now - layer.changed < CHANGE_INTERVAL:
            return
        if abs(bitrate - current) > NOTABLE * current or bitrate == nominal:
            layer.encoder.set_bitrate(bitrate)
            layer.changed = now

    def _layer(self, index: int) -> Layer:
        if index not in self._layers:
            rung = self._planned[index]
            encoder = self._make(index)
            packets = packets_a_turn(SPEED * self._nominal(index))
            stream = VideoStream(
                self._codec,
                timestamp_origin=self._origin,
                began=self._began,
                on_keyframe_request=lambda: self._request_keyframe(encoder),
                burst=min(BURST, packets if self._hint == "screen" else max(BURST // rung.scale**2, packets)),
                turn=max(BURST, packets),
                pacer=self._pacer,
                faults=self._faults,
            )
            self._layers[index] = Layer(encoder, stream, rung.scale)
        return self._layers[index]

    def _make(self, index: int) -> Encoder:
        """Make what encodes a layer."""
        return SharedEncoder(
            self._codec,
            bitrate=self._nominal(index),
            fps=self._fps,
            scale=self._planned[index].scale,
            hint=self._hint,
            encoder=self._named,
            on_packet=lambda packet: self._encoded(index, packet),
        )

    def _request_keyframe(self, encoder: Encoder) -> None:
        """Have a keyframe come with the next frame, or of a screen at once: nobody knows when it changes."""
        encoder.request_keyframe()
        if self._newest is not None:
            encoder.encode(self._newest)

    def _encoded(self, index: int, packet: "av.Packet[Stream]") -> None:
        self._on_packet(packet.size)
        timestamp = self._layers[index].stream.send(packet)
        if index == 0 and self._taps:
            epoch = (packet.pts or 0) - timestamp
            now = clock.monotonic()
            self._tell(EncodedVideoFrame(self._codec, bytes(packet), timestamp, packet.is_keyframe, now, epoch))

    def _tell(self, frame: EncodedVideoFrame) -> None:
        for tap in self._taps.copy():
            self._faults.call(tap, frame)
