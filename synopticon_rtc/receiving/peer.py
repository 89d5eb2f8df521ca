"""What a receiver knows of its broadcaster."""

from dataclasses import dataclass

from synopticon_rtc.peers.control import Control
from synopticon_rtc.receiving.stream import Stream
from synopticon_rtc.rtc import PeerConnection


@dataclass(slots=True, eq=False)
class Peer:
    """The other end of a receiver's connection.

    Attributes:
        session: Its signaling session.
        connection: What all comes over that it sends.
        stream: What it sends.
        control: Our side of the control channel; None before it is there, and where the broadcaster is a page.
    """

    session: str
    connection: PeerConnection
    stream: Stream
    control: Control | None = None

    @property
    def too_large(self) -> int:
        """Frames that were left out as they are larger than is received."""
        return self.connection.stats().frames_too_large
