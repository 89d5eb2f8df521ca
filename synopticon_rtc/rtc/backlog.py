"""What waits to be sent to one peer."""

from collections import deque

from synopticon_rtc.rtc.stream import EncodedFrame

BACKLOG_FRAMES = 64
"""Frames that may wait for their turn: the cached pictures that a joining peer is sent, and then some."""


def after(timestamp: int, other: int) -> bool:
    """Whether an RTP timestamp comes after another; they wrap around."""
    return 0 < (timestamp - other) & 0xFFFFFFFF < 2**31


class Backlog:
    """The frames that a peer is still to be sent, in order, burst by burst: from a keyframe on, and none left out.

    Attributes:
        needs_keyframe: Whether nothing can be sent but a keyframe, as something that the next frame builds on was not.
        wants_keyframe: Whether a keyframe is to be asked for.
        newest: The RTP timestamp of the last frame that was sent, or waits; None before the first.
        dropped: Frames that were not sent.
        frames: Those that wait; the first of them may have been sent in part.
        position: How many bursts of the first were sent.
    """

    def __init__(self) -> None:
        self.needs_keyframe = True
        self.wants_keyframe = False
        self.newest: int | None = None
        self.dropped = 0
        self.frames: deque[EncodedFrame] = deque()
        self.position = 0

    def is_full(self) -> bool:
        """Whether no more may wait."""
        return len(self.frames) >= BACKLOG_FRAMES

    def is_fresh(self) -> bool:
        """Whether all that waits is one frame, of which nothing was sent: it has just come."""
        return len(self.frames) == 1 and not self.position

    def is_past(self, frame: EncodedFrame) -> bool:
        """Whether a frame that comes after this one was sent, or waits."""
        return self.newest is not None and after(self.newest, frame.timestamp)

    def put(self, frame: EncodedFrame) -> bool:
        """Have a frame wait; False if it is not sent. Where it is full, :meth:`drop` comes first."""
        if self.is_past(frame):
            self.needs_keyframe = self.wants_keyframe = True  # what came before it went without it
        elif frame.keyframe or not self.needs_keyframe:
            self.needs_keyframe = False
            self.newest = frame.timestamp
            self.frames.append(frame)
            return True
        self.dropped += 1
        return False

    def advance(self) -> bool:
        """Go on behind the next burst; True if it was the last of its frame."""
        self.position += 1
        if self.position < len(self.frames[0].bursts):
            return False
        frame = self.frames.popleft()
        self.position = 0
        if frame.keyframe:
            self.wants_keyframe = False
        return True

    def forget(self) -> None:
        """Finish what was begun, and send nothing else of what waits: a keyframe comes."""
        while len(self.frames) > bool(self.position):
            self.frames.pop()
            self.dropped += 1

    def clear(self) -> None:
        """Let nothing wait."""
        self.frames.clear()
        self.position = 0

    def drop(self) -> None:
        """Send nothing until the next keyframe."""
        self.dropped += len(self.frames)
        self.clear()
        self.needs_keyframe = self.wants_keyframe = True
