"""Which sessions there are on other servers, and the way to them and from them.

Every server of a cluster knows all sessions, so that limits, lists and ``peer_left`` are answered on the spot. What one
server tells another begins with its whole table and goes on with each change and each frame, in order: all of it
comes by one subscription. The table's version counts its changes; where one was lost, the whole table is asked for again.

    subject                             what it carries
    synopticon.servers                  a heartbeat of each server, with the version of its table
    synopticon.server.ID.sessions       to server ID alone: tables and their changes
    synopticon.server.ID.session.ID     a frame for a session of that server
    synopticon.room.NAME                a discovery in a room
"""

import secrets
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from synopticon_rtc.signaling.access import Participant
from synopticon_rtc.signaling.backplane import Backplane

SERVERS = "synopticon.servers"
SERVER = "synopticon.server"
ROOM = "synopticon.room"

BEAT = 1.0
SILENT_BEATS = 3
HELD_BYTES = 2**20  # for one server while tables are exchanged; more is dropped
PART_SESSIONS = 1000  # of a table in one message: NATS takes 1 MiB


class Listener(Protocol):
    """Who is told what comes from other servers: the server."""

    def deliver(self, session: str, frame: bytes, source: Participant) -> None:
        """Pass a frame on to a session of this server, if it is still there."""

    def discovered(self, frame: bytes, source: Participant) -> None:
        """Pass a discovery on to the sessions of this server in the source's room."""

    def appeared(self, who: Participant) -> None:
        """Note a session of another server: it is new, or its roles or name are known only now."""

    def vanished(self, who: Participant, reason: str) -> None:
        """Note that a session of another server ended, or that its server is lost."""


class Cluster:
    """This server among others, told of its sessions and telling of theirs.

    It does no I/O of its own but through the backplane; ``async with`` opens that, and keeps the heartbeat.

    Args:
        listener: Who is told what comes from other servers.
        backplane: What joins the servers; without one this server is alone, and all of this costs nothing.
        beat: Seconds between two heartbeats. A server that is silent for three of them is taken for lost.

    Attributes:
        server: The id of this server, 8 hex digits.
        remote: All sessions on other servers, by session id.
        rooms: How many sessions on other servers are in each room.
        addresses: How many sessions on other servers come from each address.
    """

    def __init__(self, listener: Listener, backplane: Backplane | None = None, *, beat: float = BEAT) -> None:
        self.server = secrets.token_hex(4)
        self.remote: Mapping[str, Participant] = {}
        self.rooms: Counter[str] = Counter()
        self.addresses: Counter[str] = Counter()

    @property
    def connected(self) -> bool:
        """Whether the other servers can be reached; True for a server that is alone."""
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Say goodbye, so that the sessions of this server are gone at once."""

    def opened(self, who: Participant) -> None:
        """Announce a session of this server, or that its roles or its name are known now."""

    def closed(self, session: str, reason: str) -> None:
        """Announce the end of a session of this server."""

    def send(self, target: Participant, frame: bytes, source: str) -> None:
        """Send a frame, a message as JSON with its source in it, to a session on another server."""

    def discover(self, source: Participant, frame: bytes) -> None:
        """Send a discovery, a message as JSON with its source in it, to the source's room on other servers."""
