"""The handshake of both roles, without I/O: messages and time in, actions out.

A **link** is one attempt to connect with one session; a session that asks again gets a new link. Whoever drives a
handshake feeds it what happens (``received``, ``described``, ``gathered``, ``connected``, ``lost``, ``tick``, ...) and
carries out the actions it returns, in order. No method raises for anything a peer or server may send, none blocks, and
none reads a clock: ``now`` is any clock in seconds that does not go back.
"""

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import msgspec

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.signaling.messages import (
    NAME_LENGTH,
    Answer,
    AnyMessage,
    BroadcasterAvailable,
    BroadcasterGone,
    Broadcasters,
    Candidate,
    Discovery,
    Error,
    Ice,
    Offer,
    PeerLeft,
    Relayed,
    RequestOffer,
    Requirements,
    Seek,
    SessionDescription,
    one_line,
)

logger = logging.getLogger(__name__)

State = Literal["seeking", "connecting", "connected", "interrupted", "refused", "closed"]
Role = Literal["broadcast", "receive", "record"]

REPEAT_AFTER = 1.0  # seconds without a reaction after which an offer or an answer is sent once more
GIVE_UP_AFTER = 5.0  # seconds without an answer after which an offer is given up
CONNECT_WITHIN = 15.0  # seconds from the answer to a connection, relays and slow networks included
CROSSED_WITHIN = 1.0  # the same, where an answer of ours may have met another offer than its own, or was lost
PATIENCE = 60.0  # the same from the first offer, where it is made again and again: the peer is slow, but there
# Seconds between discoveries, each of which a busy page has to answer. The last goes on once somebody has answered:
# until then there may be nobody, and who comes should be found soon.
SEEK_INTERVALS = (2.0, 4.0)
SLOW_SEEK = 5.0  # the same, where the server tells of broadcasters, and only pages come without being told of
PACES = (0.5, 1.0, 2.0)  # the same at least, where what answers fails at once; the last goes on
BATCH_WITHIN = 0.01  # seconds in which candidates are collected to be sent together
EARLY_SESSIONS = 16  # strangers whose candidates are kept until their offer comes
EARLY_CANDIDATES = 32  # candidates kept for each of them
LINK_CANDIDATES = 128  # candidates that are taken of a peer
OFFER_INTERVAL, OFFERS = 1.0, 4  # seconds between offers to one receiver on average, and how many it may have at once
JOINING = 128  # links not connected yet that a broadcaster has at a time
ASKING = 64  # receivers that wait to be admitted at a time
SILENT = 30.0  # seconds without another discovery after which one of them gives way to others
KNOWN = 1024  # peers of the other role that are kept count of
LISTED = 8  # broadcasters of which people are told at once
NOT_ADMITTED = "the broadcaster does not admit you"
SENT_AWAY = "the broadcaster has sent you away"
ASKED_ALONE = 16  # broadcasters that are asked one by one; more are asked all at once


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message to the signaling server.

    Attributes:
        message: Complete, with its receiver where it is for one alone.
    """

    message: Relayed


@dataclass(frozen=True, slots=True)
class CreateOffer:
    """Open a peer connection for ``link`` and hand its offer to ``described``.

    Attributes:
        link: The new link.
        session: Of the receiver; of the broadcaster, where that wants the receiver to offer.
        asked: What it asked for, and what it can read.
    """

    link: int
    session: str
    asked: Discovery


@dataclass(frozen=True, slots=True)
class CreateAnswer:
    """Open a peer connection for ``link``, apply the offer, and hand the answer to ``described``.

    Attributes:
        link: The new link.
        session: Of the broadcaster; of the receiver, where that offers.
        asked: Its offer.
    """

    link: int
    session: str
    asked: Offer


@dataclass(frozen=True, slots=True)
class ApplyAnswer:
    """Apply the peer's answer.

    Attributes:
        link: Whose offer was answered.
        sdp: The answer.
    """

    link: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AddCandidate:
    """Add a candidate of the peer, or None for the end of its candidates; it may come before the description.

    Attributes:
        link: Whose peer can perhaps be reached there.
        candidate: Where.
    """

    link: int
    candidate: Candidate | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the peer connection of ``link``.

    Attributes:
        link: Which is known no more.
        reason: Why, in words for people; some are the peer's own.
    """

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the application.

    Attributes:
        state: Of the peer, or of a receiver itself.
        session: The peer's, empty where there is none.
        reason: Why, in words for people; some are others' own.
        name: What the peer calls itself, for which nobody vouches; empty where it gives no name.
    """

    state: State
    session: str
    reason: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the application whether a receiver may watch, and hand what it says to ``judged``.

    Attributes:
        session: Of the receiver.
        name: What it calls itself, for which nobody vouches; empty where it gives no name.
    """

    session: str
    name: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Ask the application no more: that receiver has left, or is refused already.

    Attributes:
        session: Of the receiver.
    """

    session: str


@dataclass(frozen=True, slots=True)
class Check:
    """See at once whether the peer is still there, and if not, say so by ``lost``.

    Attributes:
        link: Whose peer is to be asked.
        reason: What is to be said by ``lost``.
    """

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell the application that the server does not let it take part.

    Attributes:
        reason: Why, in words for people.
    """

    reason: str


Wish = Discovery | Offer
"""What a receiver asks by: for an offer or, with one of its own, for an answer."""
Action = Send | CreateOffer | CreateAnswer | ApplyAnswer | AddCandidate | Close | Notify | Ask | Withdraw | Check | Fail


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
                return self._left(session, f"the {self.other} left signaling: {_reason(reason)}", now)
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

    def _open(self, message: Relayed) -> Link:
        link = Link(
            id=next(self._ids),
            session=message.source_session,
            ours=self.session,
            name=one_line(message.name),
            takes_bye=_takes_bye(message),
            takes_more=message.accepts("ice", "more"),
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
        candidates = _candidates(message)[: LINK_CANDIDATES - link.taken]
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


def _takes_bye(message: Relayed) -> bool:
    return message.accepts("control", "control/1") or message.accepts("bye", "words")


def _reason(told: object) -> str:
    return one_line(told) or "it did not say why"


def _candidates(message: Ice) -> list[Candidate | None]:
    """Give the candidates of a message; None, an empty one too, is the end of them."""
    return [
        candidate if candidate and candidate.candidate else None for candidate in (message.candidate, *message.more)
    ]


class BroadcasterHandshake(Handshake):
    """Answers discoveries with offers, one link for each session.

    Args:
        name: As for :class:`Handshake`.
        accept: As for :class:`Handshake`.
        timestamp: As for :class:`Handshake`.
        asks: Whether the application is asked whether a session may watch, once for each, before it is sent anything.
        ids: As for :class:`Handshake`.
    """

    role = "broadcast"
    other = "receiver"

    def __init__(
        self,
        *,
        name: str,
        accept: dict[str, list[str]],
        timestamp: Callable[[], int],
        asks: bool = False,
        ids: Iterator[int] | None = None,
    ) -> None:
        super().__init__(name=name, accept=accept, timestamp=timestamp, ids=ids)
        self._asks = asks
        self._asking: dict[str, tuple[float, Wish]] = {}  # who waits for the answer, and when it was heard last
        self._verdicts: dict[str, str] = {}  # by session, why it is refused; empty where it is admitted
        self._was_full = False
        self._offered: dict[str, float] = {}  # by session, when it may again have all offers at once

    def received(self, message: AnyMessage, now: float) -> list[Action]:
        """Take a message from the server; none back means that it was not for us."""
        match message:
            case Discovery(source_session=session) if session and not message.is_turned:
                return self._discovered(message, now)
            case Offer(source_session=session) if session and message.is_turned:
                return self._discovered(message, now)
            case Answer():
                return self._answered(message, now)
            case Ice(source_session=session, bye=bye) if bye is not None:
                link = self.link_with(session)
                return [] if link is None else self._end(link, f"the receiver left: {_reason(bye)}", bye=False)
            case Ice():
                return self._added(message) or []
            case _:
                return self._told(message, now)

    def judged(self, session: str, now: float, *, admitted: bool) -> list[Action]:
        """The application has said whether the receiver may watch of which it was asked."""
        if session not in self._asking:
            return []
        _, message = self._asking.pop(session)
        self._remember(session, "" if admitted else NOT_ADMITTED)
        if admitted:
            return self._serve(message, now)
        return [
            *self._refuse(message),
            Notify("refused", session, "the receiver is not admitted", one_line(message.name)),
        ]

    def send_away(self, session: str, reason: str) -> list[Action]:
        """Let a receiver go, if it is there, and serve its session no more."""
        because = f": {reason}" if reason else ""
        self._remember(session, f"{SENT_AWAY}{because}")
        actions = self._withdraw(session)
        link = self.link_with(session)
        if link is None:
            return [*actions, Notify("refused", session, f"the receiver is sent away{because}")]
        if link.takes_bye and link.reachable and self.session is not None:
            actions.append(self._to(link, Ice(bye=self._verdicts[session], refused=True)))
        return [*actions, *self._end(link, f"the receiver was sent away{because}", bye=False)]

    def stop(self, reason: str) -> list[Action]:
        """Say goodbye to every peer."""
        withdrawn = [action for session in list(self._asking) for action in self._withdraw(session)]
        return [*withdrawn, *super().stop(reason)]

    def described(self, link: int, sdp: str, now: float) -> list[Action]:
        """The offer, or the answer, that was asked for is there."""
        known = self.links.get(link)
        if known is None:
            return []
        return self._answer(known, sdp, now) if known.origin else self._offer(known, sdp, now)

    def _discovered(self, message: Wish, now: float) -> list[Action]:
        if not self._is_meant(message):
            return []
        verdict = self._verdicts.get(message.source_session)
        if verdict:
            return self._refuse(message) if self._may_have_another(message.source_session, now) else []
        return self._ask(message, now) if verdict is None and self._asks else self._serve(message, now)

    def _is_meant(self, message: Wish) -> bool:
        if isinstance(message, Offer):
            return True
        if message.want is not None and message.want not in (self.name, self.session):
            return False
        unwanted = message.unwanted if isinstance(message.unwanted, list) else []
        return not any(session in unwanted for session in self._ours())

    def _told(self, message: AnyMessage, now: float) -> list[Action]:
        """Forget what the application has said of a session that is gone."""
        match message:
            case PeerLeft(session=session) | Error(error_code="target_not_found", target_session=str() as session):
                self._verdicts.pop(session, None)
                return [*self._withdraw(session), *super()._told(message, now)]
            case _:
                return super()._told(message, now)

    def _serve(self, message: Wish, now: float) -> list[Action]:
        """Make an offer, or answer that of the receiver."""
        actions: list[Action] = []
        link = self.link_with(message.source_session)
        if link is not None:
            if link.phase in ("describing", "described") and isinstance(message, Discovery):
                return []  # one offer a handshake: a page that gets two throws
        elif self._full():
            return []
        if not self._may_have_another(message.source_session, now):
            return []
        if link is not None:
            actions += self._end(link, "the receiver asked anew", bye=False)
        link = self._open(message)
        link.deadline = now + GIVE_UP_AFTER
        create: Action
        if isinstance(message, Offer):
            link.origin = message.sdp.origin
            create = CreateAnswer(link.id, link.session, message)
        else:
            create = CreateOffer(link.id, link.session, message)
        return [*actions, Notify("connecting", link.session, "a receiver asked for the stream", link.name), create]

    def _ask(self, message: Wish, now: float) -> list[Action]:
        """Have the application asked of a receiver, once; of what it seeks meanwhile, the last counts."""
        session = message.source_session
        actions: list[Action] = []
        if session not in self._asking:
            if len(self._asking) >= ASKING:
                first = next(iter(self._asking))  # who has been silent for longest
                if now - self._asking[first][0] < SILENT:
                    return []
                actions = self._withdraw(first)
            actions.append(Ask(session, one_line(message.name)))
        self._asking.pop(session, None)
        self._asking[session] = now, message
        return actions

    def _withdraw(self, session: str) -> list[Action]:
        return [] if self._asking.pop(session, None) is None else [Withdraw(session)]

    def _remember(self, session: str, verdict: str) -> None:
        self._verdicts.pop(session, None)
        self._verdicts[session] = verdict
        if len(self._verdicts) > KNOWN:
            del self._verdicts[next(iter(self._verdicts))]

    def _refuse(self, message: Wish) -> list[Action]:
        """Say why a receiver is not served, if it understands that."""
        session = message.source_session
        if not _takes_bye(message):
            return []
        return [self._send(Ice(bye=self._verdicts[session], refused=True), session)]

    def _ours(self) -> set[str | None]:
        """The sessions by which we are known: peers that were there before signaling came back know an earlier one."""
        return {self.session, *(link.ours for link in self.links.values())}

    def _may_have_another(self, session: str, now: float) -> bool:
        """Whether a receiver has not asked too often; who has asks again, as all do that get no answer."""
        settled = max(now, self._offered.get(session, now)) + OFFER_INTERVAL
        if settled > now + OFFERS * OFFER_INTERVAL:
            return False
        self._offered.pop(session, None)
        self._offered[session] = settled
        if len(self._offered) > KNOWN:
            del self._offered[next(iter(self._offered))]  # whoever was offered something longest ago
        return True

    def _full(self) -> bool:
        """Whether so many are joining that the next has to ask again; each costs sockets before it proved anything."""
        full = sum(link.phase != "connected" for link in self.links.values()) >= JOINING
        if full and not self._was_full:
            logger.warning("%d receivers are joining at once: others have to ask again", JOINING)
        self._was_full = full
        return full

    def _drop(self, link: Link, reason: str, now: float) -> list[Action]:  # noqa: ARG002 - the receiver role needs now
        return self._end(link, reason, bye=True)


class ReceiverHandshake(Handshake):
    """Looks for one broadcaster until it has a link with it, and again when the link is lost.

    Args:
        want: The name or the session of the one broadcaster to take, None for the first that answers.
        taken: Gives the sessions that others on the same signaling connection are linked with: not to be taken again.
        name: As for :class:`Handshake`.
        accept: As for :class:`Handshake`.
        timestamp: As for :class:`Handshake`.

    Attributes:
        heard: The sessions that answered or that the server told of, wanted or not, and their names.
        refusal: Why the server did not pass on the last discovery, if it said so.
        refused_by: The sessions of broadcasters that do not serve ours, and why.
    """

    role = "receive"
    other = "broadcaster"
    tell = (*Handshake.tell, "broadcasters")

    def __init__(
        self,
        *,
        want: str | None = None,
        taken: Callable[[], frozenset[str]] = frozenset,
        name: str = "",
        accept: dict[str, list[str]],
        timestamp: Callable[[], int],
    ) -> None:
        super().__init__(name=name, accept=accept, timestamp=timestamp)
        self.heard: dict[str, str] = {}
        self.refusal = ""
        self.refused_by: dict[str, str] = {}
        self._wish(want)
        self._taken = taken
        self._seek_known = True
        self._seeks = 0
        self._seek_at = float("inf")
        self._paced_until = float("-inf")
        self._early: dict[str, list[Candidate | None]] = {}
        self._came: list[Offer | Ice] = []
        self._leaving = ""  # a session that counts as taken by us until its link's end is carried out
        self._present: dict[str, str] | None = None  # the broadcasters that the server tells of, None if it does not

    def _wish(self, want: str | None) -> None:
        self._want = want
        # As others have heard that name: as text that can be shown, and of a server cut short.
        self._called = set() if want is None else {one_line(want), one_line(want[:NAME_LENGTH])}
        self._session_wanted = want if want and want.startswith("ws_") else None  # a session can be asked alone

    def record(self, on: bool) -> None:  # noqa: FBT001 - what it is about
        """Take note whether what comes is recorded, for which the server may want a role of its own."""
        self.requirements = msgspec.structs.replace(self.requirements, role=("record" if on else "receive",))

    def expect(self, came: list[Offer | Ice]) -> None:
        """Take the offer that has come of somebody before there was a session of ours, and what came after it.

        Once there is one, ``came`` is emptied, and nobody is looked for unless the offer cannot be taken.
        """
        self._came = came

    def stay(self) -> None:
        """Look for no other broadcaster any more than the one that there is: by its name, where it has one."""
        if self.link is not None:
            self._wish(self.link.name or self.link.session)

    @property
    def link(self) -> Link | None:
        """The one link, if there is one."""
        return next(iter(self.links.values()), None)

    def next_tick(self) -> float:
        """When ``tick`` wants to be called next, ``inf`` for never."""
        return min(super().next_tick(), self._seek_at)

    def opened(self, session: str, now: float) -> list[Action]:
        """Signaling is (again) there and gave us this session."""
        self._seek_known = True  # another server may know it
        self._paced_until = now
        self._early.clear()
        self._present = None  # another server may not tell, and another room has others
        self.refusal = ""
        if session != self.session:
            self.refused_by.clear()  # a session is refused, not a receiver
        actions = super().opened(session, now)
        if self.link is not None and self.link.ours != session and self.link.phase == "connecting":
            # Our answer may have been lost with the session; if it was not, the connection is there in a moment.
            self.link.connect_within = CROSSED_WITHIN
            self.link.deadline = min(self.link.deadline, now + CROSSED_WITHIN)
        came = self._came.copy()
        self._came.clear()
        for message in came:
            actions += self.received(message, now)
        if self.link is None and not any(isinstance(action, Notify) for action in actions):
            actions += self._seek_again("looking for a broadcaster", now)
        return actions

    def received(self, message: AnyMessage, now: float) -> list[Action]:
        """Take a message from the server; none back means that it was not for us."""
        match message:
            case Offer() if not message.is_turned:
                return self._offered(message, now)
            case Discovery() if message.is_turned:
                return self._requested(message, now)
            case Answer():
                return self._answered(message, now)
            case Ice():
                return self._heard_of(message, now)
            case Error(error=text) if "webrtc_seek_broadcaster" in text:
                self._seek_known = False
                return []
            case _:
                return self._told(message, now)

    def unclaimed(self, message: AnyMessage) -> list[Action]:
        """Let a broadcaster go that nobody wants, so that it need not wait in vain."""
        match message:
            case Offer(source_session=session) if session not in self._taken() and message.accepts(
                "control", "control/1"
            ):
                return [self._send(Ice(bye="another broadcaster was chosen"), session)]
            case _:
                return []

    def described(self, link: int, sdp: str, now: float) -> list[Action]:
        """The answer, or the offer, that was asked for is there."""
        known = self.links.get(link)
        if known is None:
            return []
        return self._answer(known, sdp, now) if known.origin else self._offer(known, sdp, now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        actions = super().tick(now)
        if now >= self._seek_at:
            actions += self._seek(now)
        return actions

    def stop(self, reason: str) -> list[Action]:
        """Say goodbye and look no further."""
        self._seek_at = float("inf")
        return super().stop(reason)

    def _offered(self, message: Offer, now: float) -> list[Action]:
        session = message.source_session
        if not session or message.sdp.type != "offer":
            return []
        own = one_line(message.name)
        name = (self._present or {}).get(session) or own  # its token's name goes before what it calls itself
        self._hear(session, name)
        actions: list[Action] = []
        connect_within = CONNECT_WITHIN
        link = self.link
        if link is not None and link.session == session:
            if link.origin == message.sdp.origin:
                return self._offered_again(link, now)
            if link.phase == "connecting":  # a page takes the answer on its way for one to the new offer, and is stuck
                connect_within = CROSSED_WITHIN
            actions += self._end(link, "the broadcaster offered anew", bye=False)
        elif link is not None or session in self._taken() or not self._wants(session, own):
            return []
        link = self._open(message)
        link.name = name
        link.origin = message.sdp.origin
        self.refused_by.pop(session, None)
        link.connect_within = connect_within
        link.deadline, link.patience = now + connect_within, now + PATIENCE
        self._seek_at = float("inf")
        return [
            *actions,
            Notify("connecting", session, f"{visible(name or session, NAME)} answered"),
            CreateAnswer(link.id, session, message),
            *(AddCandidate(link.id, candidate) for candidate in self._early.pop(session, ())),
        ]

    def _heard_of(self, message: Ice, now: float) -> list[Action]:
        """Take candidates, or that a broadcaster lets us go."""
        if message.bye is not None and message.refused is True:
            return self._turned_away(message, now)
        if message.bye is not None:
            link = self.link_with(message.source_session)
            return [] if link is None else self._drop(link, f"the broadcaster left: {_reason(message.bye)}", now)
        actions = self._added(message)
        if actions is None:
            self._keep_early(message)
        return actions or []

    def _requested(self, message: Discovery, now: float) -> list[Action]:
        """A broadcaster wants us to offer."""
        session, name = message.source_session, one_line(message.name)
        self._hear(session, name)
        if not session or self.link is not None or session in self._taken() or not self._wants(session, name):
            return []
        link = self._open(message)
        link.deadline = now + GIVE_UP_AFTER
        self._seek_at = float("inf")
        return [
            Notify("connecting", session, f"{visible(name or session, NAME)} answered"),
            CreateOffer(link.id, session, message),
        ]

    def _offered_again(self, link: Link, now: float) -> list[Action]:
        """One peer connection made another offer of the same: it takes the same answer, and no other.

        Our answer was lost, or a page that is busy comes only now to a discovery of ours that it had answered before.
        """
        if link.description is None:
            return []
        if link.phase == "connecting":
            link.deadline = max(link.deadline, min(now + CONNECT_WITHIN, link.patience))
        return [self._to(link, link.description)]

    def _keep_early(self, message: Ice) -> None:
        if self.link is not None:
            return
        kept = self._early.pop(message.source_session, [])
        if len(self._early) >= EARLY_SESSIONS:
            del self._early[next(iter(self._early))]  # whoever has been silent for longest
        self._early[message.source_session] = kept + _candidates(message)[: EARLY_CANDIDATES - len(kept)]

    def _drop(self, link: Link, reason: str, now: float) -> list[Action]:
        self._leaving = link.session
        actions = self._leave(link, reason, now)
        self._leaving = ""
        return actions

    def _turned_away(self, message: Ice, now: float) -> list[Action]:
        """A broadcaster does not serve our session: it is asked no more, but others are."""
        session, reason = message.source_session, _reason(message.bye)
        link = self.link_with(session)
        name = (self._present or {}).get(session) or one_line(message.name)
        if session in self.refused_by or (link is None and not self._wants(session, name)):
            return []
        if len(self.refused_by) >= EARLY_SESSIONS:
            return [] if link is None else self._drop(link, reason, now)
        self.refused_by[session] = reason
        if link is not None:
            return self._drop(link, reason, now)
        return [Notify("refused", session, reason), Notify("seeking", "", reason)] if self.link is None else []

    def refuse(self, session: str, reason: str, now: float) -> list[Action]:
        """Take a broadcaster no more."""
        self.refused_by[session] = reason
        link = self.link_with(session)
        return [] if link is None else self._drop(link, reason, now)

    def _leave(self, link: Link, reason: str, now: float) -> list[Action]:
        actions: list[Action] = [a for a in self._end(link, reason, bye=True) if not isinstance(a, Notify)]
        if link.session in self.refused_by:
            return [*actions, Notify("refused", link.session, reason), *self._seek_again(reason, now)]
        if link.phase == "connected":
            return [*actions, Notify("interrupted", link.session, reason), *self._seek_again(reason, now)]
        actions.append(Notify("seeking", "", reason))
        if now >= self._paced_until:
            return [*actions, *self._seek(now)]
        self._seek_at = self._paced_until  # what fails at once would otherwise be asked for in a loop
        return actions

    def _told(self, message: AnyMessage, now: float) -> list[Action]:
        """Take what servers tell receivers, if they are asked to."""
        match message:
            case Broadcasters(broadcasters=present):
                return self._met({one.session: one_line(one.name) for one in present[:KNOWN]}, now)
            case BroadcasterAvailable(session=session, name=name):
                known = self._present or {}
                return self._met(known | {session: one_line(name)}, now) if len(known) < KNOWN else []
            case BroadcasterGone(session=session):
                (self._present or {}).pop(session, None)
                self.refused_by.pop(session, None)
                return []
            case Error(error_code="rate_limited", error=text):
                return self._refused(text, now)
            case Error(error_code="target_not_found" | "not_allowed", target_session=str() as session, error=text) if (
                self.link is None and session == self._session_wanted
            ):
                return self._refused(text, now)
            case _:
                return super()._told(message, now)

    def _hear(self, session: str, name: str) -> None:
        if len(self.heard) < EARLY_SESSIONS:
            self.heard[session] = name

    def _wants(self, session: str, name: str) -> bool:
        # A server may know a broadcaster by another name than it calls itself: its token's.
        heard = {name, (self._present or {}).get(session)}
        return self._want in (None, session) or not self._called.isdisjoint(heard)

    def _met(self, present: dict[str, str], now: float) -> list[Action]:
        """The server tells who broadcasts: those that are new are asked at once."""
        known, self._present = self._present, present
        for session, name in present.items():
            self._hear(session, name)
        if self.link is not None or self._seek_at == float("inf"):
            return []
        if known is None and self._want == self._session_wanted:
            return self._choices()  # all, or the one session that is meant, were asked a moment ago
        new = [session for session in self._wanted() if (known or {}).get(session) != present[session]]
        if new:
            self._seeks, self._seek_at = 0, now + SEEK_INTERVALS[0]
        return [*self._choices(), *self._ask_each(new)] if known is None or new else []

    def _choices(self) -> list[Action]:
        """Say whom there is to choose from, where it is several."""
        wanted = self._wanted()
        if len(wanted) < 2:  # noqa: PLR2004 - several
            return []
        listed = ", ".join(f"{(self._present or {})[session] or 'unnamed'} ({session})" for session in wanted[:LISTED])
        more = f" and {len(wanted) - LISTED} more" if len(wanted) > LISTED else ""
        return [Notify("seeking", "", f"the first to answer is taken, of {len(wanted)} broadcasters: {listed}{more}")]

    def _taken_by_others(self) -> frozenset[str]:
        return self._taken() - {self._leaving}

    def _wanted(self) -> list[str]:
        """Sessions that the server tells of and that we want."""
        others = self._taken_by_others() | {self.session} | self.refused_by.keys()
        present = (self._present or {}).items()
        return [session for session, name in present if session not in others and self._wants(session, name)]

    def _refused(self, reason: str, now: float) -> list[Action]:
        """The server did not pass a discovery on: ask again later, and say why."""
        if self.link is not None or self._seek_at == float("inf"):
            return []
        self._seek_at = self._paced_until = now + SLOW_SEEK
        reason = one_line(reason)
        if reason == self.refusal:
            return []
        self.refusal = reason
        return [Notify("seeking", "", f"the signaling server: {reason}")]

    def _seek_again(self, reason: str, now: float) -> list[Action]:
        self._seeks = 0
        return [Notify("seeking", "", reason), *self._seek(now)]

    def _seek(self, now: float) -> list[Action]:
        interval = SEEK_INTERVALS[min(self._seeks, len(SEEK_INTERVALS) - 1) if self.heard else 0]
        if self._present is not None and not self._wanted():
            interval = SLOW_SEEK
        self._seek_at = now + interval
        self._paced_until = now + PACES[min(self._seeks, len(PACES) - 1)]
        self._seeks += 1
        whom: list[str | None] = [self._session_wanted]
        if self._want != self._session_wanted:  # a name must be asked of all, unless the server tells whose it is
            whom = [*self._wanted()] or whom
        return self._ask_each([session for session in whom if session not in self.refused_by])

    def _ask_each(self, whom: Sequence[str | None]) -> list[Action]:
        if len(whom) > ASKED_ALONE:
            whom = [None]
        return [action for session in whom for action in self._ask(session)]

    def _ask(self, session: str | None) -> list[Action]:
        if self.session is None:
            return []
        want, unwanted = session or self._want, sorted(self._taken_by_others() | self.refused_by.keys()) or None
        discoveries: list[Discovery] = [RequestOffer(want=want, unwanted=unwanted)]
        if self._seek_known:
            discoveries.insert(0, Seek(want=want, unwanted=unwanted))
        return [self._send(discovery, session) for discovery in discoveries]
