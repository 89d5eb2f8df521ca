"""The handshake of both roles, without I/O: messages and time in, actions out.

A **link** is one attempt to connect with one session; a session that asks again gets a new link. Whoever drives a
handshake feeds it what happens (``received``, ``described``, ``gathered``, ``connected``, ``lost``, ``tick``, ...) and
carries out the actions it returns, in order. No method raises for anything a peer or server may send, none blocks, and
none reads a clock: ``now`` is any clock in seconds that does not go back.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.signaling.actions import (
    Action,
    AddCandidate,
    ApplyAnswer,
    Check,
    Close,
    Fail,
    Notify,
    Send,
)
from synopticon_rtc.signaling.messages import (
    Answer,
    AnyMessage,
    Candidate,
    Error,
    Ice,
    Offer,
    PeerLeft,
    Relayed,
    Requirements,
    SessionDescription,
    one_line,
)

Role = Literal["broadcast", "receive", "record"]

REPEAT_AFTER = 1.0  # seconds without a reaction after which an offer or an answer is sent once more
GIVE_UP_AFTER = 5.0  # seconds without an answer after which an offer is given up
CONNECT_WITHIN = 15.0  # seconds from the answer to a connection, relays and slow networks included
BATCH_WITHIN = 0.01  # seconds in which candidates are collected to be sent together
LINK_CANDIDATES = 128  # candidates that are taken of a peer
KNOWN = 1024  # peers of the other role that are kept count of


@dataclass(slots=True)
class Link:
    """One attempt to connect with one session. Times are by the clock that the handshake is given; ``inf`` is never.

    Attributes:
        id: By which actions and news mean this link.
        session: The peer's.
        ours: By which the peer knows us; signaling may have given us another since.
        name: What the peer calls itself, for people.
        takes_bye: Whether the peer understands a goodbye.
        takes_more: Whether it reads several candidates in one message.
        reachable: Whether it is reached by signaling: nothing is sent to a session that ended.
        phase: ``describing`` until our description is there, ``described`` until the peer has answered our offer,
            ``connecting`` until the connection is up, then ``connected``.
        connect_within: Seconds from the answer until the connection must be up.
        deadline: When the link is given up.
        repeat_at: When our description is sent once more.
        description: Our offer or answer, None before it is there.
        origin: Of the offer that we answer, by which it is known again.
        patience: The last moment for which a peer that makes the same offer again is waited for.
        taken: Candidates of the peer that were added.
        unsent: Candidates of ours that are yet to be sent.
        send_at: When they are.
    """

    id: int
    session: str
    ours: str | None
    name: str
    takes_bye: bool
    takes_more: bool
    reachable: bool = True
    phase: Literal["describing", "described", "connecting", "connected"] = "describing"
    connect_within: float = CONNECT_WITHIN
    deadline: float = float("inf")
    repeat_at: float = float("inf")
    description: Offer | Answer | None = None
    origin: tuple[str, ...] = ()
    patience: float = float("inf")
    taken: int = 0
    unsent: list[Candidate] = field(default_factory=list)
    send_at: float = float("inf")


class Handshake(ABC):
    """What both roles share: links, candidates, deadlines.

    Attributes:
        role: What we are.
        other: What the peers are.
        tell: What we want the server to tell us, where it can.
        requirements: What the server is told of it.
        name: A name of ours for people.
        accept: The formats that we can read, by kind.
        session: Ours, None before signaling has given us one.
        links: The links that there are, by their ids.

    Args:
        name: A name for people, sent along with descriptions.
        accept: The formats that this peer can read, by kind (see :class:`~synopticon_rtc.signaling.messages.Relayed`).
        timestamp: Gives the ``timestamp`` that messages carry, ms since the epoch.
        ids: Gives links their ids, where those of several handshakes shall differ.
    """

    role: ClassVar[Role]
    other: ClassVar[str]
    tell: ClassVar[tuple[str, ...]] = ("peers", "errors", "ice")

    def __init__(
        self,
        *,
        name: str,
        accept: dict[str, list[str]],
        timestamp: Callable[[], int],
        ids: Iterator[int] | None = None,
    ) -> None:
        self.requirements = Requirements(role=(self.role,), tell=self.tell, name=name)
        self.name = name
        self.accept = accept
        self.session: str | None = None
        self.links: dict[int, Link] = {}
        self._timestamp = timestamp
        self._ids = itertools.count(1) if ids is None else ids

    # What the driver asks

    def next_tick(self) -> float:
        """When ``tick`` wants to be called next, ``inf`` for never."""
        dues = (min(link.deadline, link.repeat_at, link.send_at) for link in self.links.values())
        return min(dues, default=float("inf"))

    def link_with(self, session: str) -> Link | None:
        """The link with that session."""
        return next((link for link in self.links.values() if link.session == session), None)

    # What the driver tells

    def opened(self, session: str, now: float) -> list[Action]:
        """Signaling is (again) there and gave us this session."""
        self.session = session
        actions: list[Action] = []
        for link in list(self.links.values()):
            if link.ours != session and link.phase in ("describing", "described"):
                # The peer knows us by the old session: what is not connected yet can't be finished.
                actions += self._drop(link, "signaling reconnected", now)
        return actions

    @abstractmethod
    def received(self, message: AnyMessage, now: float) -> list[Action]:
        """Take a message from the server; none back means that it was not for us."""

    def unclaimed(self, message: AnyMessage) -> list[Action]:  # noqa: ARG002 - receivers override it
        """Answer a message that was not for us, nor for anybody else on the same signaling connection."""
        return []

    def judged(self, session: str, now: float, *, admitted: bool) -> list[Action]:  # noqa: ARG002 - of broadcasters
        """The application has said whether the receiver may watch of which it was asked."""
        return []

    @abstractmethod
    def described(self, link: int, sdp: str, now: float) -> list[Action]:
        """The offer or answer that was asked for is there."""

    def gathered(self, link: int, candidate: Candidate | None, now: float) -> list[Action]:
        """A local candidate that the description does not hold is there."""
        known = self.links.get(link)
        # Some pages throw on an end of candidates, and none needs it.
        if known is None or candidate is None or not known.reachable:
            return []
        known.unsent.append(candidate)
        if known.description is not None:
            known.send_at = min(known.send_at, now + BATCH_WITHIN)
        return []

    def reached(self, link: int) -> None:
        """The peer has our description; some take the same one again for a new one, and lose the way they chose."""
        if link in self.links:
            self.links[link].repeat_at = float("inf")

    def connected(self, link: int) -> list[Action]:
        """The peer connection is up."""
        known = self.links.get(link)
        if known is None or known.phase == "connected":
            return []
        known.phase = "connected"
        known.deadline = known.repeat_at = float("inf")
        reason = f"connected with {visible(known.name or known.session, NAME)}"
        return [Notify("connected", known.session, reason, known.name)]

    def lost(self, link: int, reason: str, now: float) -> list[Action]:
        """The peer connection failed, went silent, or was closed by the peer."""
        known = self.links.get(link)
        return [] if known is None else self._drop(known, reason, now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        actions: list[Action] = []
        for link in list(self.links.values()):
            if now >= link.deadline:
                actions += self._drop(link, self._overdue(link), now)
                continue
            if now >= link.repeat_at and link.description is not None:
                link.repeat_at = float("inf")
                actions.append(self._to(link, link.description))
            if now >= link.send_at:
                actions += self._candidates(link)
        return actions

    def stop(self, reason: str) -> list[Action]:
        """Say goodbye to every peer."""
        actions: list[Action] = []
        for link in list(self.links.values()):
            actions += self._end(link, reason, bye=True)
        return actions

    # Within

    @abstractmethod
    def _drop(self, link: Link, reason: str, now: float) -> list[Action]:
        """End a link that the other side did not end on purpose."""

    def _told(self, message: AnyMessage, now: float) -> list[Action]:
        """Take what servers tell both roles, if they are asked to."""
        match message:
            case PeerLeft(session=session, reason=reason):
                return self._left(session, f"the {self.other} left signaling: {reason_of(reason)}", now)
            case Error(error_code="target_not_found", target_session=str() as session):
                return self._left(session, f"the {self.other} is not there any more", now)
            case Error(error_code="not_allowed", target_session=str() as session, error=text) if session:
                return self._left(session, f"not allowed by the signaling server: {one_line(text)}", now)
            case Error(error_code="not_allowed", role=role, error=text) if role in (None, *self.requirements.role):
                ends = self.stop("it may not be recorded") if role == "record" else []
                return [*ends, Fail(f"not allowed by the signaling server: {one_line(text)}")]
            case _:
                return []

    def _left(self, session: str, reason: str, now: float) -> list[Action]:
        """Signaling reaches a session no more: media may play on, but nothing new comes about."""
        link = self.link_with(session)
        if link is None or not link.reachable:
            return []
        link.reachable = False
        if link.phase == "connected":
            return [Check(link.id, f"{reason}, and does not answer")]
        return self._drop(link, reason, now)

    def _overdue(self, link: Link) -> str:
        if link.phase == "connecting":
            return f"no connection within {link.connect_within:g} s of the answer"
        return f"no answer within {GIVE_UP_AFTER:g} s"

    def _open(self, message: Relayed, now: float) -> Link:
        link = Link(
            id=next(self._ids),
            session=message.source_session,
            ours=self.session,
            name=one_line(message.name),
            takes_bye=takes_bye(message),
            takes_more=message.accepts("ice", "more"),
            deadline=now + GIVE_UP_AFTER,
        )
        self.links[link.id] = link
        return link

    def _end(self, link: Link, reason: str, *, bye: bool) -> list[Action]:
        del self.links[link.id]
        actions: list[Action] = []
        if bye and link.takes_bye and link.reachable and self.session is not None:
            actions.append(self._to(link, Ice(bye=reason)))
        return [*actions, Close(link.id, reason), Notify("closed", link.session, reason, link.name)]

    def _describe(self, link: Link, message: Offer | Answer, now: float) -> list[Action]:
        link.description = message
        if link.takes_bye:  # it is no page of Synopticon, which takes the same one again for another, and throws
            link.repeat_at = now + REPEAT_AFTER
        return [self._to(link, message), *self._candidates(link)]

    def _offer(self, link: Link, sdp: str, now: float) -> list[Action]:
        link.phase = "described"
        link.deadline = now + GIVE_UP_AFTER
        return self._describe(link, Offer(sdp=SessionDescription("offer", sdp)), now)

    def _answer(self, link: Link, sdp: str, now: float) -> list[Action]:
        link.phase = "connecting"
        link.deadline = now + link.connect_within
        return self._describe(link, Answer(sdp=SessionDescription("answer", sdp)), now)

    def _answered(self, message: Answer, now: float) -> list[Action]:
        """Take an answer to an offer of ours."""
        link = self.link_with(message.source_session)
        if link is None or link.phase != "described":
            return []
        link.phase = "connecting"
        link.deadline, link.repeat_at = now + CONNECT_WITHIN, float("inf")
        return [ApplyAnswer(link.id, message.sdp.sdp)]

    def _candidates(self, link: Link) -> list[Action]:
        """Send what was gathered meanwhile: in one message where the peer can read that, else one by one."""
        candidates, link.unsent, link.send_at = link.unsent, [], float("inf")
        if candidates and link.takes_more:
            return [self._to(link, Ice(candidate=candidates[0], more=candidates[1:]))]
        return [self._to(link, Ice(candidate=candidate)) for candidate in candidates]

    def _added(self, message: Ice) -> list[Action] | None:
        """Take the candidates of a known peer; None if it is a stranger."""
        link = self.link_with(message.source_session)
        if link is None:
            return None
        link.repeat_at = float("inf")  # the peer reacted
        candidates = candidates_of(message)[: LINK_CANDIDATES - link.taken]
        link.taken += len(candidates)
        return [AddCandidate(link.id, candidate) for candidate in candidates]

    def _to(self, link: Link, message: Relayed) -> Send:
        return self._send(message, link.session)

    def _send(self, message: Relayed, session: str | None = None) -> Send:
        fields = {key: getattr(message, key) for key in message.__struct_fields__}
        fields |= {
            "target_session": session,
            "device_id": self.session,
            "timestamp": self._timestamp(),
            "accept": self.accept,
            "name": self.name or None,
        }
        return Send(type(message)(**fields))


def takes_bye(message: Relayed) -> bool:
    """Tell whether whoever sent it understands a goodbye."""
    return message.accepts("control", "control/1") or message.accepts("bye", "words")


def reason_of(told: object) -> str:
    """Give what others say of why, in one line."""
    return one_line(told) or "it did not say why"


def candidates_of(message: Ice) -> list[Candidate | None]:
    """Give the candidates of a message; None, an empty one too, is the end of them."""
    return [
        candidate if candidate and candidate.candidate else None for candidate in (message.candidate, *message.more)
    ]
