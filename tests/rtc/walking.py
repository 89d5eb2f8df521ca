"""Senders without peers, fed by layers without encoders, in time that jumps to whatever is due next."""

import random
from dataclasses import dataclass, field
from typing import TypeVar

from turned import elapse

from synopticon_rtc.rtc.pacer import Pacer
from synopticon_rtc.rtc.repair import Repair
from synopticon_rtc.rtc.sender import FanoutSender
from synopticon_rtc.rtc.stream import CLOCK_RATE, EncodedFrame, VideoStream, ntp_time

FPS = 30
TICKS = CLOCK_RATE // FPS
KEYFRAME_GAP = 9
"""Frames from one keyframe of an encoder to the next, at least."""


@dataclass(eq=False)
class Layer:
    """An encoder and its stream.

    Attributes:
        late: Frames by which it is later than the source.
    """

    late: int
    pacer: Pacer
    wanted: bool = False
    keyframed: int = -KEYFRAME_GAP
    keyframes: int = 0
    encoded: int = 0
    under_way: list[tuple[int, EncodedFrame]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stream = VideoStream("vp8", on_keyframe_request=self.want, pacer=self.pacer)

    def want(self) -> None:
        self.wanted = True

    def encode(self, number: int, *, skip: bool) -> None:
        """Encode a picture, or skip it, and hand out what is ready."""
        if self.stream.viewers and not skip:
            keyframe = self.encoded == 0 or (self.wanted and number - self.keyframed >= KEYFRAME_GAP)
            if keyframe:
                self.wanted, self.keyframed = False, number
                self.keyframes += 1
            payloads = [self.encoded.to_bytes(4, "big")] * (40 if keyframe else 3)
            bursts = [payloads[at : at + 16] for at in range(0, len(payloads), 16)]
            ntp = ntp_time()
            octets, timestamp = 1000 * len(payloads), number * TICKS % 2**32
            frame = EncodedFrame(payloads, bursts, octets, timestamp, keyframe, ntp, ntp, keyframe)
            self.under_way.append((number, frame))
            self.encoded += 1
        while self.under_way and self.under_way[0][0] <= number - self.late:
            self.stream._publish(self.under_way.pop(0)[1])


class Paper:
    """What takes the place of a way out and of what writes packets: the sender itself takes them."""

    is_full = False
    has_rtx = True

    def __init__(self, sender: "Wire") -> None:
        self.next_number = 0
        self.packets = 0
        self._sender = sender

    def open(self) -> bool:
        return True

    def write(self, frame: EncodedFrame, position: int, *_: object) -> bool:
        first = self.next_number
        self.next_number += len(frame.bursts[position])
        return self._sender.write(frame, position, first)

    def write_again(self, frame: EncodedFrame, index: int, number: int) -> int:
        return self._sender.write_again(frame, index, number)

    def send_report(self, data: bytes) -> None:
        """Say nothing."""


class Wire(FanoutSender):
    """A sender without a peer, which notes what it would have sent."""

    def __init__(self) -> None:
        self._RTCRtpSender__kind = "video"  # there is no transport, without which aiortc makes none
        self._ssrc, self._rtx_ssrc = 1, 2
        self._set_up(None, None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - neither is used
        self._outlet = self._writer = Paper(self)  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]
        self._repair = Repair(self._writer, self.rate)
        self.refuses = False
        self.sent: list[tuple[VideoStream, EncodedFrame]] = []

    def write(self, frame: EncodedFrame, position: int, first: int) -> bool:  # noqa: ARG002 - as it is called
        assert self.stream is not None
        if self.refuses:
            return False
        if position == len(frame.bursts) - 1:
            self.sent.append((self.stream, frame))
        return True

    def write_again(self, frame: EncodedFrame, index: int, number: int) -> int:  # noqa: ARG002 - as it is called
        return len(frame.payloads[index])

    def check(self) -> None:
        """See that nothing went backwards, came twice, or built on what was not sent."""
        before: tuple[VideoStream, int] | None = None
        newest = None
        for stream, frame in self.sent:
            number = int.from_bytes(frame.payloads[0], "big")
            if not frame.keyframe:
                assert before == (stream, number - 1), "a frame builds on one that was not sent"
            if newest is not None:
                assert 0 < (frame.timestamp - newest) % 2**32 < 2**31, "a frame went out behind a newer one"
            before, newest = (stream, number), frame.timestamp


W = TypeVar("W", bound=Wire)


class Show:
    """A source in layers, and peers that watch it."""

    def __init__(self, late: list[int], begin: int = 0) -> None:
        pacer = Pacer()
        self.layers = [Layer(each, pacer) for each in late]
        self.peers: list[Wire] = []
        self.number = begin

    def join(self, peer: W) -> W:
        stream = peer._switch.stream = self.layers[0].stream
        self.peers.append(peer)
        stream.add(peer)
        return peer

    def leave(self, peer: Wire) -> None:
        self.peers.remove(peer)
        peer._leave()
        peer.check()

    async def play(self, seconds: float, skips: random.Random | None = None) -> None:
        for _ in range(round(seconds * FPS)):
            for layer in self.layers:
                layer.encode(self.number, skip=skips is not None and skips.random() < 0.3)
            self.number += 1
            await elapse(1 / FPS)
