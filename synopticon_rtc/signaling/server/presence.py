"""Who comes and goes, and who is told of it."""

import functools
from collections.abc import Callable

from synopticon_rtc.signaling.server import answers
from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.cluster import Cluster
from synopticon_rtc.signaling.server.permissions import Permissions
from synopticon_rtc.signaling.server.rooms import Elsewhere, Room, Rooms
from synopticon_rtc.signaling.server.session import Peer, Session

Tell = Callable[[Participant], object]


class Presence:
    """Keeps the rooms, and tells the sessions that asked for it of broadcasters and of peers that left.

    Args:
        rooms: Who is where.
        cluster: Whom else to tell.
        permissions: Whose broadcasters are news to whom.
    """

    def __init__(self, rooms: Rooms, cluster: Cluster, permissions: Permissions) -> None:
        self._rooms = rooms
        self._cluster = cluster
        self._permissions = permissions

    def enter(self, session: Session) -> None:
        """A session of this server is there."""
        room = self._rooms[session.who.room]
        room.put(session)
        self._cluster.opened(session.who)
        self._announce(room, session)

    def change(self, session: Session, who: Participant) -> None:
        """More is known of a session of this server."""
        if who == session.who:
            return
        session.who = who
        session.denied.clear()
        room = self._rooms[who.room]
        room.put(session)
        for other in room.sessions.values():
            other.denied.discard(session.id)
        self._cluster.opened(who)
        self._announce(room, session)
        if session in room.watchers:  # others may be news to it now
            for peer in room:
                if peer is not session and peer.who.broadcasts:
                    self._ask(session, peer, functools.partial(self._tell_available, session))

    def leave(self, session: Session) -> None:
        """A session of this server ended."""
        room = self._rooms[session.who.room]
        room.remove(session)
        self._cluster.closed(session.id, session.reason)
        self._leave(room, session, session.reason)

    def appeared(self, who: Participant) -> None:
        """A session of another server is there, or more is known of it."""
        room = self._rooms[who.room]
        peer = room.elsewhere.get(who.session)
        if peer is None:
            peer = room.elsewhere[who.session] = Elsewhere(who, self._cluster)
        else:
            peer.who = who
            for other in room.sessions.values():
                other.denied.discard(who.session)
        self._announce(room, peer)

    def vanished(self, who: Participant, reason: str) -> None:
        """A session of another server ended, or is out of reach."""
        room = self._rooms[who.room]
        self._leave(room, room.elsewhere.pop(who.session), reason)

    def namesake(self, session: Session) -> str | None:
        """Find another broadcaster of the room that has the name of this one."""
        who = session.who
        if not who.broadcasts or not who.name:
            return None
        others = (peer.who for peer in self._rooms[who.room] if peer is not session)
        return next((other.session for other in others if other.broadcasts and other.name == who.name), None)

    def watch(self, session: Session) -> None:
        """Tell a session who broadcasts, and from now on who comes and goes."""
        room = self._rooms[session.who.room]
        room.watchers.add(session)
        session.announced.clear()
        known: list[Participant] = []
        listed = False

        def tell(who: Participant) -> None:
            if listed:
                self._tell_available(session, who)
            else:
                known.append(who)

        for peer in room:
            if peer is not session and peer.who.broadcasts:
                self._ask(session, peer, tell)
        session.announced.update((who.session, who.name) for who in known)
        session.deliver(answers.message("broadcasters", broadcasters=[_described(who) for who in known]))
        listed = True  # what a hook takes its time over comes as news

    def ignore(self, session: Session) -> None:
        """Tell a session no more of broadcasters."""
        self._rooms[session.who.room].watchers.discard(session)
        session.announced.clear()

    def _announce(self, room: Room, peer: Peer) -> None:
        for watcher in list(room.watchers):
            if watcher is peer:
                continue
            if not peer.who.broadcasts:
                self._tell_gone(watcher, peer.who.session)
            else:  # a new one, or a new name, or none any more to this one
                self._ask(watcher, peer, functools.partial(self._tell_available, watcher))

    def _ask(self, watcher: Session, peer: Peer, tell: Tell) -> None:
        def then(allowed: bool) -> None:  # noqa: FBT001  # the answer of a hook
            room = self._rooms.get(watcher.who.room)
            here = room is not None and watcher in room.watchers and room.find(peer.who.session) is peer
            if here and allowed and peer.who.broadcasts:
                tell(peer.who)
            elif here:
                self._tell_gone(watcher, peer.who.session)

        self._permissions.ask(watcher, peer, "presence", then)

    def _tell_available(self, watcher: Session, who: Participant) -> None:
        if watcher.announced.get(who.session) != who.name:
            watcher.announced[who.session] = who.name
            watcher.deliver(answers.message("broadcaster_available", **_described(who)))

    def _tell_gone(self, watcher: Session, session: str) -> None:
        if watcher.announced.pop(session, None) is not None:
            watcher.deliver(answers.message("broadcaster_gone", session=session))

    def _leave(self, room: Room, peer: Peer, reason: str) -> None:
        session = peer.who.session
        for linked in list(peer.links.values()):
            linked.lost(session, reason)
        peer.links.clear()
        for watcher in room.watchers:
            self._tell_gone(watcher, session)
        self._rooms.leave(peer.who.room)


def _described(who: Participant) -> dict[str, str]:
    return {"session": who.session, "name": who.name}
