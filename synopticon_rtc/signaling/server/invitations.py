"""Invitations: tokens that let in one client at a time, and have the same one back when its connection was lost.

Who may come back is told by a word that a client makes up once and shows each time, its holder: a page keeps it in its
browser. Whoever has only the link cannot know it.
"""

import asyncio
from http import HTTPStatus

from synopticon_rtc.signaling.server.access import Participant
from synopticon_rtc.signaling.server.http import Refused
from synopticon_rtc.signaling.server.rooms import Rooms
from synopticon_rtc.signaling.server.session import Session

KEPT = 60.0  # seconds for whom a connection was lost to come back, before somebody else may use the link
HOLDER_LENGTH = 64  # characters that count
OPENED_AGAIN = 4409  # close code; 4000 to 4999 are the application's (RFC 6455, 7.4.2)


class Invitations:
    """Who has which invitation.

    Args:
        rooms: Who is where, on all servers.
    """

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._sessions: dict[str, Session] = {}  # by invitation; the last one, where it may still come back
        self._kept: dict[str, asyncio.TimerHandle] = {}  # until it may not

    def check(self, invitation: str, room: str, holder: str) -> None:
        """Let a client pass whose invitation nobody else uses.

        Raises:
            Refused: Somebody does.
        """
        if invitation and any(who.holder != holder or not holder for who in self._users(invitation, room)):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "invitation_used",
                "This link is for one person, and is in use in another browser or on another device: close it there "
                "and open it again here in a minute, or ask for a link of your own",
            )

    def enter(self, session: Session) -> None:
        """Give a session its invitation, and end the one of the same client that had it."""
        invitation = session.who.invitation
        if not invitation:
            return
        if timer := self._kept.pop(invitation, None):
            timer.cancel()
        elif before := self._sessions.get(invitation):
            before.end(OPENED_AGAIN, "The link was opened once more in this browser: go on there")
        self._sessions[invitation] = session

    def leave(self, session: Session) -> None:
        """Take the invitation of a session back: at once if it said that it goes, else when it has not come back."""
        invitation = session.who.invitation
        if self._sessions.get(invitation) is not session:
            return
        if session.parted:
            del self._sessions[invitation]
        else:
            self._kept[invitation] = asyncio.get_running_loop().call_later(KEPT, self._release, invitation)

    def close(self) -> None:
        """Keep none any longer."""
        for timer in self._kept.values():
            timer.cancel()

    def _users(self, invitation: str, room: str) -> list[Participant]:
        here = self._sessions.get(invitation)
        elsewhere = self._rooms[room].elsewhere.values() if room in self._rooms else ()
        return [
            *([here.who] if here else []),
            *(peer.who for peer in elsewhere if peer.who.invitation == invitation),
        ]

    def _release(self, invitation: str) -> None:
        del self._kept[invitation], self._sessions[invitation]
