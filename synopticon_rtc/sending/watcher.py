"""A peer as one stream of a broadcaster sees it."""

from dataclasses import dataclass

from synopticon_rtc.media import Codec
from synopticon_rtc.peers.faces_channel import FacesChannel
from synopticon_rtc.rtc import PeerConnection, Sender


@dataclass(slots=True, eq=False)
class Watcher:
    """A peer as one stream sees it.

    Attributes:
        connection: Over which it is sent the stream.
        sender: What sends it, None where the peer takes the faces alone.
        faces: The channel for the faces, None where there are none for it.
        joining: The codec that it will most likely take, until it has agreed; None from then on, and where it takes no
            video.
        asked: Whether it was offered the stream, and has neither agreed nor refused.
        inherited: Whether the sender sent another stream, and waits for the peer to agree to this one.
    """

    connection: PeerConnection
    sender: Sender | None = None
    faces: FacesChannel | None = None
    joining: Codec | None = None
    asked: bool = True
    inherited: bool = False

    def settle(self) -> None:
        """Wait for its answer no longer: it has agreed, or refused."""
        self.joining, self.asked = None, False
