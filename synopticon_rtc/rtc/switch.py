"""Which stream one peer is sent, and how it gets from one to another."""

import asyncio
from collections import deque
from collections.abc import Callable

from synopticon_rtc.rtc.arrival import LONGEST_HOLD, Arrival
from synopticon_rtc.rtc.backlog import BACKLOG_FRAMES, Backlog, after
from synopticon_rtc.rtc.stream import CLOCK_RATE, EncodedFrame, VideoStream, Viewer, ntp_time


class Switch:
    """Moves a peer to another stream of the same source at a keyframe of it, so that it sees every picture once.

    The frames of both have the same timestamps. Those of the old stream are held until that of the new one is there.

    Args:
        viewer: The peer, as its streams know it.
        backlog: What waits to be sent to it.
        send: Called with each frame that is to wait.

    Attributes:
        stream: The one that the peer is sent; None before the first, and in the end.
        held: The frames that are held.
    """

    def __init__(self, viewer: Viewer, backlog: Backlog, send: Callable[[EncodedFrame], None]) -> None:
        self.stream: VideoStream | None = None
        self.held: deque[EncodedFrame] = deque()
        self._viewer: Viewer | None = viewer  # None in the end
        self._backlog = backlog
        self._send = send
        self._arrival: Arrival | None = None
        self._hold_ends: asyncio.TimerHandle | None = None

    @property
    def next_stream(self) -> VideoStream | None:
        """The stream that the peer is being moved to, else the one that it is sent."""
        return self.stream if self._arrival is None else self._arrival.stream

    @property
    def is_moving(self) -> bool:
        """Whether the peer is being moved."""
        return self._arrival is not None

    def move(self, stream: VideoStream) -> None:
        """Move to another stream of the same codec and source, at its next keyframe."""
        if stream is self.next_stream:
            return
        self.abandon()
        if stream is not self.stream:
            self._arrival = Arrival(stream, self._arrive)
            stream.add_at_keyframe(self._arrival)

    def take(self, frame: EncodedFrame) -> None:
        """Take a frame of the stream that the peer is sent: send it, or hold it while the other one is expected."""
        arrival = self._arrival
        if arrival is not None and arrival.hopes and not self._backlog.needs_keyframe:
            self._hold(frame, arrival.hold)
        else:
            self._send(frame)

    def abandon(self) -> None:
        """Stay with the stream that the peer is sent."""
        if self._arrival is not None:
            self._arrival.stream.remove(self._arrival)
            self._arrival = None
            self._release()

    def drop(self) -> None:
        """Send nothing of what is held."""
        self._backlog.dropped += len(self.held)
        self.held.clear()

    def leave(self) -> None:
        """Leave all streams."""
        self.held.clear()
        self.abandon()
        if self._hold_ends is not None:
            self._hold_ends.cancel()
            self._hold_ends = None
        if self.stream is not None and self._viewer is not None:
            self.stream.remove(self._viewer)
            self.stream = None

    def close(self) -> None:
        """Leave all streams for good, and let go of the peer, which holds this."""
        self.leave()
        self._send = lambda _: None
        self._viewer = None

    def _arrive(self, arrival: Arrival, frame: EncodedFrame, now: float) -> None:
        """Take a frame of the stream that the peer is being moved to, ahead of that of the stream it is sent."""
        if arrival is not self._arrival or self.stream is None or self._viewer is None:
            return  # it was abandoned in this very moment
        newest = self._backlog.newest
        if frame.keyframe and (newest is None or after(frame.timestamp, newest)):
            self.drop()
            self._backlog.forget()
            self.stream.remove(self._viewer)
            arrival.stream.replace(arrival, self._viewer)
            self.stream, self._arrival = arrival.stream, None
            self._send(frame)
            return
        if frame.keyframe:
            self._hold_no_longer()  # it took longer than pictures are held
        else:
            self._release(until=frame.timestamp)
        newest = frame.timestamp if self._backlog.newest is None else self._backlog.newest
        late = (newest - frame.timestamp & 0xFFFFFFFF) / CLOCK_RATE if after(newest, frame.timestamp) else 0.0
        arrival.try_again(now, late)

    def _hold(self, frame: EncodedFrame, seconds: float) -> None:
        """Hold a picture until its like of the other stream is there, or for some time."""
        self.held.append(frame)
        ticks = frame.timestamp - self.held[0].timestamp & 0xFFFFFFFF
        if ticks >= seconds * CLOCK_RATE or len(self.held) >= BACKLOG_FRAMES:
            self._hold_no_longer()
        elif self._hold_ends is None:  # where no other frame comes to end it
            self._hold_ends = asyncio.get_running_loop().call_later(LONGEST_HOLD, self._end_hold)

    def _end_hold(self) -> None:
        """Hold no picture for ever, and look again later for those that are newer."""
        self._hold_ends = None
        if self.held:
            left = LONGEST_HOLD - (ntp_time() - self.held[0].ntp_time) / 2**32
            if left > 0:
                self._hold_ends = asyncio.get_running_loop().call_later(left, self._end_hold)
            else:
                self._hold_no_longer()

    def _hold_no_longer(self) -> None:
        if self._arrival is not None:
            self._arrival.give_up()
        self._release()

    def _release(self, until: int | None = None) -> None:
        """Send the pictures that are held, up to a timestamp."""
        while self.held and (until is None or not after(self.held[0].timestamp, until)):
            self._send(self.held.popleft())
