"""Who takes part in signaling, and who may connect to whom."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import msgspec

# Ids of sessions are words of subjects of a backplane, which knows blanks, dots and line ends as its own.
SessionId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
Role = Literal["broadcast", "receive", "record"]


class Participant(msgspec.Struct, frozen=True):
    """What a server knows of a session, wherever it is connected.

    Attributes:
        session: Its id.
        subject: Whom its token is for; empty without a token.
        room: Where it is; messages do not leave the room.
        roles: What it does, or None where neither its token nor itself has said so.
        name: What people call it; empty where nobody has said.
        address: Where it comes from, without the port.
        invitation: Which invitation its token is, one that lets in one client at a time; empty where it is none.
        holder: What the client says to be known by when it comes again with the same invitation.
    """

    session: SessionId
    subject: str = ""
    room: str = ""
    roles: frozenset[Role] | None = None
    name: str = ""
    address: str = ""
    invitation: str = ""
    holder: str = ""

    @property
    def broadcasts(self) -> bool:
        """Whether it is known to be a broadcaster."""
        return self.roles is not None and "broadcast" in self.roles

    @property
    def may_broadcast(self) -> bool:
        """Whether it is a broadcaster as far as anybody knows."""
        return self.roles is None or "broadcast" in self.roles

    @property
    def receives(self) -> bool:
        """Whether it is known to be a receiver, which may record or not."""
        return self.roles is not None and not self.roles.isdisjoint(RECEIVERS)


ROLES: tuple[Role, ...] = ("broadcast", "receive", "record")
RECEIVERS: frozenset[Role] = frozenset({"receive", "record"})
WITHOUT_SAYING: frozenset[Role] = frozenset({"broadcast", "receive"})
"""What a token lets its bearer do that says nothing of it: whoever records needs to be told so."""
CanConnect = Callable[[Participant, Participant], bool | Awaitable[bool]]


def roles_meet(source: Participant, target: Participant) -> bool:
    """Let a broadcaster and a receiver of one room connect, and everybody whose role is not known."""
    if source.room != target.room:
        return False
    if source.roles is None or target.roles is None:
        return True
    return (source.broadcasts and target.receives) or (source.receives and target.broadcasts)
