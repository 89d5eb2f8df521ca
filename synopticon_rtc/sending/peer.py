"""What a broadcaster knows of one receiver."""

import asyncio
from dataclasses import dataclass, field

from synopticon_rtc.engines import Engine
from synopticon_rtc.files.hub import FileLink
from synopticon_rtc.peers.control import Control
from synopticon_rtc.peers.messages import Messages
from synopticon_rtc.rtc import PeerConnection, Sender
from synopticon_rtc.sending.beside import Beside
from synopticon_rtc.sending.watcher import Watcher
from synopticon_rtc.signaling.messages import Relayed


@dataclass(slots=True, eq=False)
class Peer:
    """The other end of one connection of a broadcaster.

    Attributes:
        link: By which the negotiator knows it.
        session: Its signaling session.
        asked: The message by which it asked, which says what it can read and wants.
        name: What it calls itself, for which nobody vouches; empty where it gives no name.
        connection: What all goes over that it is sent.
        watchers: What it is sent of each stream, by the stream's name.
        first: The name of the stream that its first offer carries; None where that has none.
        spare: Senders whose streams are published no more; others can be sent on their media sections.
        engine: What carries all further, where it is no receiver itself.
        beside: What is sent there beside the media; None where nothing can be.
        control: Our side of the control channel, None where it is a page and has none.
        messages: What the application and it say to each other, None where it takes no messages.
        files: What goes to it and comes from it, None where it takes no files.
        connected: Whether it is.
        recording: Whether it records what it is sent.
        number: That of the newest offer that went over the control channel.
        overdue: What happens when no answer to it comes.
    """

    link: int
    session: str
    asked: Relayed
    connection: PeerConnection
    name: str = ""
    watchers: dict[str, Watcher] = field(default_factory=dict)
    first: str | None = None
    spare: list[Sender] = field(default_factory=list)
    engine: Engine | None = None
    beside: Beside | None = None
    control: Control | None = None
    messages: Messages | None = None
    files: FileLink | None = None
    connected: bool = False
    recording: bool = False
    number: int = 0
    overdue: asyncio.TimerHandle | None = None
