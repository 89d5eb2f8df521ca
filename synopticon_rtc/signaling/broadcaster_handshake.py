"""The handshake of a broadcaster: who asks is offered the streams, if it may watch."""

import logging
from collections.abc import Callable, Iterator

from synopticon_rtc.signaling.actions import (
    Action,
    Ask,
    CreateAnswer,
    CreateOffer,
    Notify,
    Wish,
    Withdraw,
)
from synopticon_rtc.signaling.handshake import (
    KNOWN,
    Handshake,
    Link,
    reason_of,
    takes_bye,
)
from synopticon_rtc.signaling.messages import (
    Answer,
    AnyMessage,
    Discovery,
    Error,
    Ice,
    Offer,
    PeerLeft,
    one_line,
)
from synopticon_rtc.signaling.pace import Pace

logger = logging.getLogger(__name__)

OFFER_INTERVAL, OFFERS = 1.0, 4  # seconds between offers to one receiver on average, and how many it may have at once
JOINING = 128  # links not connected yet that a broadcaster has at a time
ASKING = 64  # receivers that wait to be admitted at a time
SILENT = 30.0  # seconds without another discovery after which one of them gives way to others
NOT_ADMITTED = "the broadcaster does not admit you"
SENT_AWAY = "the broadcaster has sent you away"


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
        self._offered: dict[str, Pace] = {}  # by session

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
                return [] if link is None else self._end(link, f"the receiver left: {reason_of(bye)}", bye=False)
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
        link = self._open(message, now)
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
        if not takes_bye(message):
            return []
        return [self._send(Ice(bye=self._verdicts[session], refused=True), session)]

    def _ours(self) -> set[str | None]:
        """The sessions by which we are known: peers that were there before signaling came back know an earlier one."""
        return {self.session, *(link.ours for link in self.links.values())}

    def _may_have_another(self, session: str, now: float) -> bool:
        """Whether a receiver has not asked too often; who has asks again, as all do that get no answer."""
        pace = self._offered.get(session) or Pace(OFFER_INTERVAL, OFFERS)
        if pace.take(now) > now:
            return False
        self._offered.pop(session, None)
        self._offered[session] = pace
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
