"""A peer as one stream of a broadcaster sees it."""

from dataclasses import dataclass
from typing import Protocol

from synopticon_rtc.media import Codec
from synopticon_rtc.peers.faces_channel import WrittenFaces
from synopticon_rtc.rtc import PeerConnection, Sender


class FacesWay(Protocol):
    """A way for the faces of one stream to one peer."""

    def send(self, faces: WrittenFaces, now: float) -> None:
        """Send what was found in a frame, or that it was not looked at, at a time by any clock in seconds."""

    def close(self) -> None:
        """Send nothing more."""


@dataclass(slots=True, eq=False)
class Watcher:
    """A peer as one stream sees it.

    Attributes:
        connection: Over which it is sent the stream.
        sender: What sends it, None where the peer takes the faces alone.
        faces: The way for the faces, None where there are none for it.
        joining: The codec that it will most likely take, until it has agreed; None from then on, and where it takes no
            video.
        asked: Whether it was offered the stream, and has neither agreed nor refused.
        inherited: Whether the sender sent another stream, and waits for the peer to agree to this one.
    """

    connection: PeerConnection
    sender: Sender | None = None
    faces: FacesWay | None = None
    joining: Codec | None = None
    asked: bool = True
    inherited: bool = False

    def settle(self) -> None:
        """Wait for its answer no longer: it has agreed, or refused."""
        self.joining, self.asked = None, False
