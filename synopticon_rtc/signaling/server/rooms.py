"""Who is in which room, on this server and elsewhere."""

from collections.abc import Iterator

from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.cluster import Cluster
from synopticon_rtc.signaling.server.session import Peer, Session


class Elsewhere:
    """A session of another server: what is delivered to it goes there.

    Attributes:
        who: What is known of it.
        links: The sessions of this server with which it exchanges targeted messages, by id.
    """

    __slots__ = ("_cluster", "links", "who")

    def __init__(self, who: Participant, cluster: Cluster) -> None:
        self.who = who
        self.links: dict[str, Peer] = {}
        self._cluster = cluster

    def deliver(self, message: bytes, source: str) -> None:
        """Send it a message of that session."""
        self._cluster.send(self.who, message, source)

    def lost(self, session: str, reason: str) -> None:  # noqa: ARG002  # its server knows it
        """Forget a link; its own server tells it."""
        del self.links[session]


class Room:
    """The sessions that may reach each other.

    Attributes:
        sessions: Those of this server, by id.
        seekable: Those of these that a discovery is for, by id.
        elsewhere: Those of other servers, by id.
        watchers: Those of this server that are told of broadcasters.
    """

    __slots__ = ("elsewhere", "seekable", "sessions", "watchers")

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.seekable: dict[str, Session] = {}
        self.elsewhere: dict[str, Elsewhere] = {}
        self.watchers: set[Session] = set()

    def __len__(self) -> int:
        return len(self.sessions) + len(self.elsewhere)

    def __iter__(self) -> Iterator[Peer]:
        yield from self.sessions.values()
        yield from self.elsewhere.values()

    def put(self, session: Session) -> None:
        """Add a session of this server, or note what else is known of it."""
        self.sessions[session.id] = session
        if session.who.may_broadcast:
            self.seekable[session.id] = session
        else:
            self.seekable.pop(session.id, None)

    def remove(self, session: Session) -> None:
        """Remove a session of this server."""
        del self.sessions[session.id]
        self.seekable.pop(session.id, None)
        self.watchers.discard(session)

    def find(self, session: str) -> Peer | None:
        """Find a session by its id, wherever it is."""
        return self.sessions.get(session) or self.elsewhere.get(session)


class Rooms(dict[str, Room]):
    """All rooms by name; one is there as long as somebody is in it."""

    def __missing__(self, name: str) -> Room:
        room = self[name] = Room()
        return room

    def leave(self, name: str) -> None:
        """Forget a room that is empty."""
        if not len(self[name]):
            del self[name]
