"""What a broadcaster knows of one receiver."""

from dataclasses import dataclass

from synopticon_rtc.peers.control import Control
from synopticon_rtc.rtc import PeerConnection
from synopticon_rtc.sending.stream import Watcher


@dataclass(slots=True, eq=False)
class Peer:
    """The other end of one connection of a broadcaster.

    Attributes:
        session: Its signaling session.
        connection: What all goes over that it is sent.
        watcher: What it is sent of the stream.
        control: Our side of the control channel, None where it is a page and has none.
        connected: Whether it is.
    """

    session: str
    connection: PeerConnection
    watcher: Watcher
    control: Control | None = None
    connected: bool = False
