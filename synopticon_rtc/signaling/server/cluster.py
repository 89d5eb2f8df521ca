"""Which sessions there are on other servers, and the way to them and from them.

Every server of a cluster knows all sessions, so that limits, lists and ends are answered for on the spot. What a
server tells another one starts with its whole table, and goes on with changes and frames, in order: all of it comes by
one subscription. Each change carries the table's version; where one is missing, the whole table is asked for again.

    subject                                   what it carries
    synopticon.servers                        the heartbeat of each server, with the version of its table
    synopticon.server.SERVER.sessions         to that server alone: tables, their changes, a goodbye
    synopticon.server.SERVER.session.SESSION  to a session of that server: the source's id, a space, the frame
    synopticon.room.ROOM                      a discovery: its source as JSON, a line feed, the frame
"""

import asyncio
import functools
import logging
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Annotated, Protocol, Self
from urllib.parse import quote

import msgspec

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.signaling.addresses import source_of
from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.backplane import Backplane, LocalBackplane

SERVERS = "synopticon.servers"
SERVER = "synopticon.server"
ROOM = "synopticon.room"

BEAT = 0.75  # seconds between heartbeats
SILENT_BEATS = 3  # after which a server is lost to the others
PART_SESSIONS = 100  # of a table in one message: NATS takes 1 MiB by default, and a subject may be as long as a token
LINE = 200  # characters of what another server wrote, in a line of the log
HELD_BYTES = 2**20  # of frames that wait until a server knows this one's table; what is more is lost

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told what comes from other servers."""

    def deliver(self, session: str, frame: bytes, source: Participant) -> None:
        """Pass a frame on to a session of this server, if it is still there."""

    def discovered(self, frame: bytes, source: Participant) -> None:
        """Pass a discovery on to the sessions of this server that are in its source's room."""

    def appeared(self, who: Participant) -> None:
        """Note a session of another server, or that more is known of it now."""

    def vanished(self, who: Participant, reason: str) -> None:
        """Note that a session of another server ended, or that its server is out of reach."""


class _FromServer(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    server: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}\Z")]


class _Beat(_FromServer, frozen=True, tag="beat"):
    version: int


class _Ask(_FromServer, frozen=True, tag="ask"):
    """Please send your table; and ask for mine where I have not told it, or may have missed that you lost it."""

    told: bool


class _Table(_FromServer, frozen=True, tag="table"):
    version: int
    part: int
    parts: int
    sessions: list[Participant]


class _Opened(_FromServer, frozen=True, tag="opened"):
    version: int
    who: Participant


class _Closed(_FromServer, frozen=True, tag="closed"):
    version: int
    session: str
    reason: str


class _Bye(_FromServer, frozen=True, tag="bye"):
    """This server stops."""


_News = _Beat | _Ask | _Table | _Opened | _Closed | _Bye
_news_decoder = msgspec.json.Decoder(_News)
_participant_decoder = msgspec.json.Decoder(Participant)
_encode = msgspec.json.encode


@dataclass(eq=False)
class _Server:
    """Another server: its table as far as it came here, and what it knows of ours."""

    id: str
    sessions: dict[str, Participant] = field(default_factory=dict)
    version: int | None = None  # of its table here; None: not to be built upon
    promised: int = 0  # by its last heartbeat
    arriving: set[str] = field(default_factory=set)  # sessions in the parts of a table that came so far
    arrived: tuple[int, int] = (0, 0)  # its version, and how many parts these are
    asked: bool = False  # for its table, which did not come yet; again with the next tick
    heard: bool = True  # since the last tick
    silent: int = 0  # ticks
    told: bool = False  # it has our table, so that frames may follow
    held: list[tuple[str, bytes]] = field(default_factory=list)
    held_bytes: int = 0


class Cluster:
    """This server among others: it tells them of its sessions, and its listener of theirs.

    ``async with`` connects it and keeps it beating. Within, it is a state machine: messages come in by `receive`, time
    by `tick`, the state of the backplane by `reached`, and messages go out by the backplane's ``publish``.

    Args:
        listener: Who is told what comes from other servers.
        backplane: What joins the servers. Without one this server is alone, and what follows costs it nothing.
        faults: What counts errors that nobody foresaw: each costs one message of another server, or one beat.

    Attributes:
        server: The id of this server: 8 hex digits.
        remote: The sessions of all other servers, by id.
        rooms: How many of them are in each room.
        addresses: How many of them come from each address; those of IPv6 are counted by their /64.
    """

    def __init__(self, listener: Listener, backplane: Backplane | None = None, faults: Faults | None = None) -> None:
        self.server = secrets.token_hex(4)
        self.rooms: Counter[str] = Counter()
        self.addresses: Counter[str] = Counter()
        self._listener = listener
        self._backplane = backplane or LocalBackplane()
        self._faults = faults or Faults()
        self._beating: asyncio.Task[None] | None = None
        self._local: dict[str, Participant] = {}
        self._version = 0
        self._remote: dict[str, Participant] = {}
        self._homes: dict[str, _Server] = {}
        self._servers: dict[str, _Server] = {}
        self._session_prefix = f"{SERVER}.{self.server}.session."

    @property
    def remote(self) -> Mapping[str, Participant]:
        """The sessions of all other servers, by id."""
        return self._remote

    @property
    def connected(self) -> bool:
        """Whether other servers can be reached; a server that is alone is always connected."""
        return self._backplane.connected

    async def __aenter__(self) -> Self:
        subjects = [SERVERS, f"{SERVER}.{self.server}.>", f"{ROOM}.*"]
        receive = functools.partial(self._faults.call, self.receive)
        await self._backplane.open(subjects, receive, self.reached)
        self._beating = asyncio.create_task(self._keep_beating())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._beating:
            self._beating.cancel()
        for server in self._servers.values():
            self._tell(server, _Bye(self.server))
        await self._backplane.close()

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            self._faults.call(self.tick)

    def _publish(self, subject: str, payload: bytes) -> None:
        self._faults.call(self._backplane.publish, subject, payload)  # it may be an application's own

    # What this server tells

    def opened(self, who: Participant) -> None:
        """Announce a session of this server, or that more is known of it now."""
        if self._local.get(who.session) == who:
            return
        self._local[who.session] = who
        self._version += 1
        self._tell_all(_Opened(self.server, self._version, who))

    def closed(self, session: str, reason: str) -> None:
        """Announce the end of a session of this server."""
        del self._local[session]
        self._version += 1
        self._tell_all(_Closed(self.server, self._version, session, reason))

    def send(self, target: Participant, frame: bytes, source: str) -> None:
        """Send a frame (a message as JSON, its source stamped) from a session here to one elsewhere."""
        server = self._homes.get(target.session)
        if server is None:
            return  # gone meanwhile
        subject, payload = f"{SERVER}.{server.id}.session.{target.session}", b"%b %b" % (source.encode(), frame)
        if server.told:
            self._publish(subject, payload)
        elif server.held_bytes + len(payload) <= HELD_BYTES:
            server.held.append((subject, payload))
            server.held_bytes += len(payload)

    def discover(self, source: Participant, frame: bytes) -> None:
        """Send a discovery (a message as JSON, its source stamped) to the source's room on other servers."""
        if source.room in self.rooms:
            # One word of at most 100 characters; rooms that share it are told apart by the source.
            room = quote(source.room, safe="").replace(".", "%2E")[:100] or "-"
            self._publish(f"{ROOM}.{room}", b"%b\n%b" % (_encode(source), frame))

    # What comes in: messages, time, the state of the backplane

    def receive(self, subject: str, payload: bytes) -> None:
        """Take in what another server published."""
        try:
            if subject.startswith(self._session_prefix):
                self._receive_frame(subject[len(self._session_prefix) :], payload)
            elif subject.startswith(ROOM):
                source, _, frame = payload.partition(b"\n")
                self._listener.discovered(frame, _participant_decoder.decode(source))
            else:
                self._receive_news(_news_decoder.decode(payload))
        except (msgspec.DecodeError, UnicodeError) as error:
            text = "message on %s not understood: %s; do all servers run the same version?"
            log.warning(text, subject[:LINE], str(error)[:LINE])

    def tick(self) -> None:
        """Beat; let go of servers that missed three beats, ask again for tables that did not come."""
        # Counted in ticks of our own: a server that was stopped for a while finds the others' beats when it goes on.
        for server in list(self._servers.values()):
            server.silent = 0 if server.heard else server.silent + 1
            server.heard = server.asked = False
            if server.silent >= SILENT_BEATS:
                log.warning("server %s is lost, with %d sessions", server.id, len(server.sessions))
                self._lose(server, "Server lost")
            elif server.version is None:
                self._ask(server)
        self._publish_beat()

    def reached(self, connected: bool) -> None:  # noqa: FBT001  # a callback for one bit of news
        """Take in that the backplane has others in reach now, or has lost them."""
        for server in self._servers.values():
            server.version = None  # its changes may have passed us by
            server.told = False
            if connected:
                self._ask(server)
        if connected:
            self._publish_beat()

    def _receive_frame(self, session: str, payload: bytes) -> None:
        source, _, frame = payload.partition(b" ")
        # A source that is unknown came before its server's table, which is asked for then: a frame was lost on the way.
        if who := self._remote.get(source.decode()):
            self._listener.deliver(session, frame, who)

    def _receive_news(self, news: _News) -> None:
        if news.server == self.server:
            return
        server = self._servers.get(news.server)
        if isinstance(news, _Bye):
            if server:
                self._lose(server, "Server stopped")
            return
        if server is None:
            server = self._servers[news.server] = _Server(news.server)
            log.info("server %s is there", server.id)
        server.heard = True
        self._take_in(server, news)
        if server.version is None and not server.asked:
            self._ask(server)

    def _take_in(self, server: _Server, news: _News) -> None:
        match news:
            case _Beat(version=version):
                # A change may still be on its way when a beat tells of its version, but not when the next beat does.
                if server.version is not None and server.version < server.promised:
                    server.version = None
                server.promised = version
            case _Ask(told=told):
                if not told:
                    server.version, server.asked = None, False
                self._tell_table(server)
            case _Table():
                self._take_part(server, news)
            case _Opened(version=version, who=who):
                if self._follows(server, version):
                    self._add(server, who)
            case _Closed(version=version, session=session, reason=reason):
                if self._follows(server, version):
                    self._remove(server, session, reason)

    # Telling

    def _tell(self, server: _Server, news: _News) -> None:
        self._publish(f"{SERVER}.{server.id}.sessions", _encode(news))

    def _tell_all(self, news: _News) -> None:
        for server in self._servers.values():
            self._tell(server, news)

    def _tell_table(self, server: _Server) -> None:
        sessions = list(self._local.values())
        parts = max(1, -(-len(sessions) // PART_SESSIONS))
        for part in range(parts):
            some = sessions[part * PART_SESSIONS : (part + 1) * PART_SESSIONS]
            self._tell(server, _Table(self.server, self._version, part, parts, some))
        server.told = True
        for subject, payload in server.held:
            self._publish(subject, payload)
        server.held.clear()
        server.held_bytes = 0

    def _ask(self, server: _Server) -> None:
        server.asked = True
        self._tell(server, _Ask(self.server, server.told))

    def _publish_beat(self) -> None:
        self._publish(SERVERS, _encode(_Beat(self.server, self._version)))

    # The others' tables

    def _follows(self, server: _Server, version: int) -> bool:
        """Step on to the version of a change where it is the next one; where one is missing, to none."""
        if server.version is None or version <= server.version:
            return False
        server.version = version if version == server.version + 1 else None
        return server.version is not None

    def _take_part(self, server: _Server, table: _Table) -> None:
        if server.version is not None and table.version < server.version:
            return
        if table.part == 0:
            server.arriving, server.arrived = set(), (table.version, 0)
        if server.arrived != (table.version, table.part):
            return  # a part is missing: the table is asked for again with the next tick
        server.arrived = table.version, table.part + 1
        for who in table.sessions:
            server.arriving.add(who.session)
            if server.sessions.get(who.session) != who:
                self._add(server, who)
        if table.part + 1 == table.parts:
            for session in [session for session in server.sessions if session not in server.arriving]:
                self._remove(server, session, "Session ended")
            server.version, server.asked = table.version, False

    def _add(self, server: _Server, who: Participant) -> None:
        self._forget(server, who.session)
        server.sessions[who.session] = self._remote[who.session] = who
        self._homes[who.session] = server
        self.rooms[who.room] += 1
        self.addresses[source_of(who.address)] += 1
        self._listener.appeared(who)

    def _remove(self, server: _Server, session: str, reason: str) -> None:
        if who := self._forget(server, session):
            self._listener.vanished(who, reason)

    def _forget(self, server: _Server, session: str) -> Participant | None:
        who = server.sessions.pop(session, None)
        if who:
            del self._remote[session], self._homes[session]
            for counter, key in (self.rooms, who.room), (self.addresses, source_of(who.address)):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]
        return who

    def _lose(self, server: _Server, reason: str) -> None:
        del self._servers[server.id]
        for session in list(server.sessions):
            self._remove(server, session, reason)
