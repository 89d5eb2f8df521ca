"""A peer on its way from one stream to another."""

from collections.abc import Callable

from synopticon_rtc.rtc.stream import EncodedFrame, VideoStream

HOLD = 0.125
"""Seconds for which pictures are held at first; where a keyframe came later, twice that, or as long as it was late."""
LONGEST_HOLD = 0.5
MARGIN = 1.5
"""How many times as long as a stream was late it is waited for."""
ASK_AGAIN = 0.5
"""Seconds until a third keyframe is asked for where two came too late; doubled each time."""
LONGEST_WAIT = 32.0


class Arrival:
    """Watches a stream for the keyframe at which a peer can be moved to it.

    While it hopes for one, the pictures of the stream that is to be left are held. Each keyframe that comes too late
    costs everybody who is sent the stream, so they are asked for ever more seldom.

    Args:
        stream: The stream that the peer is to be sent.
        take: Called with each of its frames, and the time, s.

    Attributes:
        hopes: Whether a keyframe is expected in time.
        hold: Seconds by which it may be later than its like of the stream that is to be left.
    """

    def __init__(self, stream: VideoStream, take: Callable[["Arrival", EncodedFrame, float], None]) -> None:
        self.stream = stream
        self.hopes = True
        self.hold = HOLD
        self._take = take
        self._wait = ASK_AGAIN
        self._due = 0.0

    def give_up(self) -> None:
        """Expect no keyframe that comes in time, until it is time to ask for another."""
        self.hopes = False

    def try_again(self, now: float, late: float) -> None:
        """Ask for another keyframe and wait longer for it, if it is time.

        Args:
            now: The time, s.
            late: How much later than the stream that is to be left this one is, s.
        """
        if self.hopes or now < self._due:
            return
        self.hopes = True
        self.hold = min(max(2 * self.hold, MARGIN * late), LONGEST_HOLD)
        self._due = now + self._wait
        self._wait = min(2 * self._wait, LONGEST_WAIT)
        self.stream.request_keyframe()

    def send_frame(self, frame: EncodedFrame, now: float) -> None:
        """Take a frame of the stream."""
        self._take(self, frame, now)
