"""Who may watch, as the handshakes have it: nothing is sent to whom the application does not admit, but that."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from synopticon_rtc.signaling.actions import Action, Ask, Close, CreateOffer, Notify, Send, Withdraw
from synopticon_rtc.signaling.broadcaster_handshake import (
    ASKING,
    NOT_ADMITTED,
    OFFER_INTERVAL,
    SILENT,
    BroadcasterHandshake,
)
from synopticon_rtc.signaling.handshake import KNOWN
from synopticon_rtc.signaling.messages import (
    Broadcasters,
    Discovery,
    Error,
    Ice,
    Offer,
    PeerLeft,
    Present,
    Relayed,
    Seek,
    SessionDescription,
)
from synopticon_rtc.signaling.receiver_handshake import SEEK_INTERVALS, SLOW_SEEK, ReceiverHandshake

OURS = {"control": ["control/1"]}


def asking() -> BroadcasterHandshake:
    handshake = BroadcasterHandshake(name="cam", accept=OURS, timestamp=lambda: 7, asks=True)
    assert handshake.opened("ws_b", 0) == []
    return handshake


def seek(session: str = "ws_r", **keys: Any) -> Seek:
    return Seek(source_session=session, **{"accept": OURS, **keys})


def seeking(want: str | None = None) -> ReceiverHandshake:
    handshake = ReceiverHandshake(want=want, accept=OURS, timestamp=lambda: 7)
    handshake.opened("ws_r", 0)
    return handshake


def refusal(session: str = "ws_b", why: str = NOT_ADMITTED) -> Ice:
    return Ice(source_session=session, bye=why, refused=True, name="cam")


def offer(session: str = "ws_b") -> Offer:
    return Offer(source_session=session, sdp=SessionDescription("offer", "v=0 offer"), accept=OURS)


def sent(actions: list[Action]) -> list[Relayed]:
    return [action.message for action in actions if isinstance(action, Send)]


def discoveries(actions: list[Action]) -> Iterator[Discovery]:
    return (message for message in sent(actions) if isinstance(message, Discovery))


def states(actions: list[Action]) -> list[str]:
    return [action.state for action in actions if isinstance(action, Notify)]


# The broadcaster


def test_who_asks_again_is_asked_about_once_and_sent_nothing() -> None:
    handshake = asking()
    assert handshake.received(seek(name="Ada"), 0) == [Ask("ws_r", "Ada")]
    assert all(handshake.received(seek(), now) == [] for now in range(1, 600))


def test_who_is_admitted_is_made_an_offer_at_once_and_is_not_asked_about_again() -> None:
    handshake = asking()
    handshake.received(seek(), 0)
    assert [type(action) for action in handshake.judged("ws_r", 9, admitted=True)] == [Notify, CreateOffer]
    handshake.lost(1, "silence", 20)
    assert CreateOffer in map(type, handshake.received(seek(), 21))


def test_an_offer_answers_what_was_asked_for_last() -> None:
    handshake = asking()
    handshake.received(seek(), 0)
    last = seek(accept=OURS | {"video": []})
    handshake.received(last, 1)
    assert [act.asked for act in handshake.judged("ws_r", 9, admitted=True) if isinstance(act, CreateOffer)] == [last]


def test_who_is_not_admitted_is_told_so_each_time_that_it_asks_within_reason() -> None:
    handshake = asking()
    handshake.received(seek(), 0)
    told, change = handshake.judged("ws_r", 9, admitted=False)
    assert sent([told]) == [
        Ice(
            target_session="ws_r",
            bye=NOT_ADMITTED,
            refused=True,
            name="cam",
            device_id="ws_b",
            timestamp=7,
            accept=OURS,
        )
    ]
    assert change == Notify("refused", "ws_r", "the receiver is not admitted")
    answers = [handshake.received(seek(), 10 + now / 100) for now in range(1000)]
    assert 5 < sum(map(len, answers)) < 10 / OFFER_INTERVAL + 5
    assert not any(map(states, answers))


def test_a_page_that_is_not_admitted_is_sent_nothing() -> None:
    handshake = asking()
    handshake.received(seek(accept=None), 0)
    assert sent(handshake.judged("ws_r", 9, admitted=False)) == []
    assert handshake.received(seek(accept=None), 10) == []


@pytest.mark.parametrize(
    "left",
    [PeerLeft(session="ws_r"), Error(error="gone", error_code="target_not_found", target_session="ws_r")],
    ids=["told", "not found"],
)
def test_an_answer_holds_until_the_session_leaves(left: Any) -> None:
    handshake = asking()
    handshake.received(seek(), 0)
    assert handshake.received(left, 1) == [Withdraw("ws_r")]
    assert handshake.judged("ws_r", 2, admitted=True) == []
    assert handshake.received(seek(), 3) == [Ask("ws_r", "")]
    handshake.judged("ws_r", 4, admitted=False)
    handshake.received(left, 5)
    assert handshake.received(seek(), 6) == [Ask("ws_r", "")]


def test_who_was_sent_away_is_told_why_and_not_served_again() -> None:
    handshake = BroadcasterHandshake(name="cam", accept=OURS, timestamp=lambda: 7)
    handshake.opened("ws_b", 0)
    handshake.received(seek(), 0)
    handshake.connected(1)
    bye, close, change = handshake.send_away("ws_r", "the lesson is over")
    assert [(ice.bye, ice.refused) for ice in sent([bye]) if isinstance(ice, Ice)] == [
        ("the broadcaster has sent you away: the lesson is over", True)
    ]
    assert (close, change) == (
        Close(1, "the receiver was sent away: the lesson is over"),
        Notify("closed", "ws_r", "the receiver was sent away: the lesson is over"),
    )
    assert [type(message) for message in sent(handshake.received(seek(), 5))] == [Ice]
    assert CreateOffer in map(type, handshake.received(seek("ws_new"), 5))


def test_who_is_sent_away_while_it_waits_is_not_asked_about_any_more() -> None:
    handshake = asking()
    handshake.received(seek(), 0)
    assert handshake.send_away("ws_r", "") == [
        Withdraw("ws_r"),
        Notify("refused", "ws_r", "the receiver is sent away"),
    ]
    assert handshake.judged("ws_r", 9, admitted=True) == []


def test_as_many_wait_as_may_and_only_one_that_is_silent_gives_way() -> None:
    handshake = asking()
    for number in range(ASKING):
        assert handshake.received(seek(f"ws_{number}"), number / 10)
    assert handshake.received(seek("ws_late"), SILENT - 1) == []
    assert handshake.received(seek("ws_0"), SILENT - 1) == []  # it is still there, and now the last to give way
    assert handshake.received(seek("ws_late"), SILENT + 1) == [Withdraw("ws_1"), Ask("ws_late", "")]


def test_nobody_is_asked_about_any_more_at_the_end() -> None:
    handshake = asking()
    handshake.received(seek(), 0)
    assert handshake.stop("closed") == [Withdraw("ws_r")]


class Strangers(RuleBasedStateMachine):
    """Whatever strangers and an application do: who is not admitted now is sent nothing but a refusal."""

    def __init__(self) -> None:
        super().__init__()
        self.handshake = asking()
        self.now = 0.0
        self.asked: set[str] = set()
        self.verdicts: dict[str, bool] = {}

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Ask(session):
                    assert session not in self.asked
                    assert session not in self.verdicts
                    self.asked.add(session)
                case Withdraw(session):
                    self.asked.remove(session)
                case CreateOffer(session=session):
                    assert self.verdicts[session]
                case Send(message):
                    assert self.verdicts[message.target_session] or (isinstance(message, Ice) and message.refused)

    sessions = st.integers(0, ASKING + 8).map(lambda number: f"ws_{number}")

    @rule(session=sessions, seconds=st.floats(0, 20), accept=st.sampled_from([OURS, None]))
    def discovers(self, session: str, seconds: float, accept: Any) -> None:
        self.now += seconds
        self.take(self.handshake.received(seek(session, accept=accept), self.now))

    @rule(first=st.integers(0, ASKING))
    def many_discover(self, first: int) -> None:
        for number in range(first, ASKING + 8):
            self.take(self.handshake.received(seek(f"ws_{number}"), self.now))

    @rule(session=sessions, admitted=st.booleans())
    def is_judged(self, session: str, *, admitted: bool) -> None:
        if session in self.asked:
            self.asked.remove(session)
            self.verdicts[session] = admitted
        self.take(self.handshake.judged(session, self.now, admitted=admitted))

    @rule(session=sessions)
    def leaves(self, session: str) -> None:
        self.take(self.handshake.received(PeerLeft(session=session), self.now))
        self.verdicts.pop(session, None)

    @rule(session=sessions)
    def is_sent_away(self, session: str) -> None:
        self.verdicts[session] = False
        self.take(self.handshake.send_away(session, ""))

    @rule(sdp=st.text(max_size=5))
    def descriptions_are_there(self, sdp: str) -> None:
        for link in list(self.handshake.links):
            self.take(self.handshake.described(link, sdp, self.now))

    @rule(session=st.sampled_from(["ws_b", "ws_c"]))
    def signaling_comes_back(self, session: str) -> None:
        self.take(self.handshake.opened(session, self.now))

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.handshake.tick(self.now))

    @invariant()
    def few_wait(self) -> None:
        assert self.asked == self.handshake._asking.keys()
        assert len(self.asked) <= ASKING
        assert len(self.handshake._verdicts) <= KNOWN


TestStrangers = Strangers.TestCase


# The receiver


def test_a_receiver_says_once_that_it_is_not_admitted_and_asks_others_alone() -> None:
    handshake = seeking()
    assert handshake.received(refusal(), 1) == [
        Notify("refused", "ws_b", NOT_ADMITTED),
        Notify("seeking", "", NOT_ADMITTED),
    ]
    assert handshake.received(refusal(), 2) == []
    assert [message.unwanted for message in discoveries(handshake.tick(SEEK_INTERVALS[0]))] == [["ws_b"]] * 2
    assert CreateOffer not in map(type, handshake.received(offer("ws_other"), 3))
    assert handshake.link is not None


def test_a_receiver_that_wants_a_broadcaster_alone_does_not_ask_it_again_in_this_session() -> None:
    handshake = seeking("ws_b")
    handshake.received(refusal(), 1)
    assert [*discoveries(handshake.tick(100))] == []
    assert [message.want for message in discoveries(handshake.opened("ws_r2", 200))] == ["ws_b"] * 2


def test_a_receiver_takes_no_refusal_of_one_that_it_does_not_want() -> None:
    handshake = seeking("other")
    assert handshake.received(refusal(), 1) == []
    assert handshake.refused_by == {}


def test_a_receiver_that_is_sent_away_says_why_and_seeks_others() -> None:
    handshake = seeking()
    handshake.received(Broadcasters(broadcasters=[Present("ws_b", "cam")]), 1)
    handshake.received(offer(), 1)
    handshake.described(1, "v=0 answer", 1)
    handshake.connected(1)
    actions = handshake.received(refusal(why="the broadcaster has sent you away"), 9)
    assert states(actions) == ["refused", "seeking"]
    assert {message.target_session for message in discoveries(actions)} == {None}
    assert [*discoveries(handshake.tick(9 + SLOW_SEEK))] != []


def test_a_broadcaster_that_offers_after_all_is_taken() -> None:
    handshake = seeking()
    handshake.received(refusal(), 1)
    handshake.received(offer(), 2)
    assert handshake.link is not None
    assert handshake.refused_by == {}
