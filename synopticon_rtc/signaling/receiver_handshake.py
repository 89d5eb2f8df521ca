"""The handshake of a receiver: it looks for a broadcaster until it has one."""

from collections.abc import Callable, Collection, Sequence

import msgspec

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.signaling.actions import (
    Action,
    AddCandidate,
    CreateAnswer,
    CreateOffer,
    Notify,
)
from synopticon_rtc.signaling.calls import Calls
from synopticon_rtc.signaling.handshake import (
    CONNECT_WITHIN,
    KNOWN,
    Handshake,
    Link,
    candidates_of,
    reason_of,
)
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
    RequestOffer,
    Seek,
    one_line,
)

CROSSED_WITHIN = 1.0  # seconds to a connection where our answer may have met another offer than its own, or was lost
PATIENCE = 60.0  # the same from the first offer, where it is made again and again: the peer is slow, but there
# Seconds between discoveries, each of which a busy page has to answer. The last goes on once somebody has answered:
# until then there may be nobody, and who comes should be found soon.
SEEK_INTERVALS = (2.0, 4.0)
SLOW_SEEK = 5.0  # the same, where the server tells of broadcasters, and only pages come without being told of
PACES = (0.5, 1.0, 2.0)  # the same at least, where what answers fails at once; the last goes on
EARLY_SESSIONS = 16  # strangers whose candidates are kept until their offer comes
EARLY_CANDIDATES = 32  # candidates kept for each of them
LISTED = 8  # broadcasters of which people are told at once
ASKED_AT_ONCE = 16  # broadcasters that are asked one by one; of more, others each time


class ReceiverHandshake(Handshake):
    """Looks for one broadcaster until it has a link with it, and again when the link is lost.

    Args:
        want: The name or the session of the one broadcaster to take, None for the first that answers.
        taken: Gives the sessions that others on the same signaling connection are linked with: not to be taken again.
        calls: How often all may be asked at once, shared with others on the same signaling connection.
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
        calls: Calls | None = None,
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
        self._calls = calls or Calls()
        self._waited = False  # to be told of broadcasters, as others on the same signaling connection were
        self._call_at = float("-inf")  # when all are asked at once, though the server tells of broadcasters
        self._asked: dict[str, int] = {}  # of those, by how manieth discovery each was asked last
        self._seek_known = True
        self._seeks = 0
        self._seek_at = float("inf")
        self._paced_until = float("-inf")
        self._early: dict[str, list[Candidate | None]] = {}
        self._came: list[Offer | Ice] = []
        self._away: Callable[[], Collection[str]] = tuple
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

    def expect(self, came: list[Offer | Ice], away: Callable[[], Collection[str]] = tuple) -> None:
        """Take the offer that has come of somebody before there was a session of ours, and what came after it.

        Once there is one, ``came`` is emptied, and nobody is looked for unless the offer cannot be taken. Nobody is
        whose name is ``away``: others on the same signaling connection wait for them to come back.
        """
        self._came, self._away = came, away

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
        self._waited = False
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
        link = self._open(message, now)
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
            return [] if link is None else self._drop(link, f"the broadcaster left: {reason_of(message.bye)}", now)
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
        link = self._open(message, now)
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
        self._early[message.source_session] = kept + candidates_of(message)[: EARLY_CANDIDATES - len(kept)]

    def _drop(self, link: Link, reason: str, now: float) -> list[Action]:
        self._leaving = link.session
        actions = self._leave(link, reason, now)
        self._leaving = ""
        return actions

    def _turned_away(self, message: Ice, now: float) -> list[Action]:
        """A broadcaster does not serve our session: it is asked no more, but others are."""
        session, reason = message.source_session, reason_of(message.bye)
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
        if self._want is None and not heard.isdisjoint(self._away()):
            return False
        return self._want in (None, session) or not self._called.isdisjoint(heard)

    def _met(self, present: dict[str, str], now: float) -> list[Action]:
        """The server tells who broadcasts: those that are new are asked at once."""
        known, self._present = self._present, present
        for session, name in present.items():
            self._hear(session, name)
        if self.link is not None or self._seek_at == float("inf"):
            return []
        if known is None and self._want == self._session_wanted:
            # All, or the one session that is meant, were asked a moment ago, unless others were told of some already.
            return [*self._choices(), *([] if self._seeks else self._ask_each(self._wanted()))]
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
        if self._present is None and self._calls.told and not self._waited and self._session_wanted is None:
            self._waited = True  # we shall be told in a moment whom to ask
            self._call_at = now + SLOW_SEEK
            return []
        self._seeks += 1
        if self._session_wanted is not None:
            return self._ask_each([self._session_wanted])
        wanted = self._wanted()
        return self._call(now, urgent=not wanted) or self._ask_each(wanted)

    def _call(self, now: float, *, urgent: bool) -> list[Action]:
        """Ask all at once: pages of which the server does not tell, where it tells of any."""
        if not urgent and (now < self._call_at or self._want is not None):
            return []
        may = self._calls.take(now)
        if may > now:
            self._seek_at = min(self._seek_at, may)
            return []
        self._call_at = now + SLOW_SEEK
        return self._ask(None)

    def _ask_each(self, whom: Sequence[str]) -> list[Action]:
        """Ask several one by one: of many, those that were not asked for longest."""
        turn = sorted((one for one in whom if one not in self.refused_by), key=lambda one: self._asked.get(one, 0))
        asked = turn[:ASKED_AT_ONCE]
        count = max(self._asked.values(), default=0) + 1
        self._asked = {one: self._asked.get(one, 0) for one in whom} | dict.fromkeys(asked, count)
        return [action for session in asked for action in self._ask(session)]

    def _ask(self, session: str | None) -> list[Action]:
        if self.session is None:
            return []
        want, unwanted = session or self._want, sorted(self._taken_by_others() | self.refused_by.keys()) or None
        discoveries: list[Discovery] = [RequestOffer(want=want, unwanted=unwanted)]
        if self._seek_known:
            discoveries.insert(0, Seek(want=want, unwanted=unwanted))
        return [self._send(discovery, session) for discovery in discoveries]
