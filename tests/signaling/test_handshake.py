"""The handshake of both roles as a pure state machine: what is told comes in, what is to be done goes out."""

from collections.abc import Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.basics.text import WORDS
from synopticon_rtc.signaling.actions import (
    Action,
    AddCandidate,
    ApplyAnswer,
    Ask,
    Check,
    Close,
    CreateAnswer,
    CreateOffer,
    Fail,
    Notify,
    Send,
)
from synopticon_rtc.signaling.broadcaster_handshake import JOINING, OFFER_INTERVAL, OFFERS, BroadcasterHandshake
from synopticon_rtc.signaling.calls import CALL_INTERVAL, CALLS, Calls
from synopticon_rtc.signaling.handshake import (
    BATCH_WITHIN,
    CONNECT_WITHIN,
    GIVE_UP_AFTER,
    KNOWN,
    LINK_CANDIDATES,
    REPEAT_AFTER,
)
from synopticon_rtc.signaling.messages import (
    Answer,
    BroadcasterAvailable,
    BroadcasterGone,
    Broadcasters,
    Candidate,
    Error,
    Ice,
    Offer,
    PeerLeft,
    Present,
    Relayed,
    RequestOffer,
    Seek,
    SessionDescription,
)
from synopticon_rtc.signaling.receiver_handshake import (
    ASKED_AT_ONCE,
    CROSSED_WITHIN,
    EARLY_CANDIDATES,
    EARLY_SESSIONS,
    PACES,
    PATIENCE,
    SEEK_INTERVALS,
    SLOW_SEEK,
    ReceiverHandshake,
)

T = TypeVar("T", bound=Action)

OURS = {"control": ["control/1"]}
HOST = Candidate("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", "0", 0)


def broadcaster(name: str = "cam") -> BroadcasterHandshake:
    handshake = BroadcasterHandshake(name=name, accept=OURS, timestamp=lambda: 7)
    assert handshake.opened("ws_b", 0) == []
    return handshake


def receiver(want: str | None = None, taken: Iterable[str] = (), *, calls: Calls | None = None) -> ReceiverHandshake:
    return ReceiverHandshake(want=want, taken=lambda: frozenset(taken), calls=calls, accept=OURS, timestamp=lambda: 7)


def only(kind: type[T], actions: list[Action]) -> list[T]:
    return [action for action in actions if isinstance(action, kind)]


def sent(actions: list[Action]) -> list[Relayed]:
    return [action.message for action in only(Send, actions)]


def seek(session: str = "ws_r", **keys: Any) -> Seek:
    return Seek(source_session=session, **keys)


def offer(session: str = "ws_b", sdp: str = "v=0 offer", **keys: Any) -> Offer:
    return Offer(source_session=session, sdp=SessionDescription("offer", sdp), **keys)


def described(*, session: str = "4711", version: int = 2, ufrag: str = "abcd") -> str:
    """What a browser offers: nothing but ``version`` changes when a peer connection offers once more."""
    return (
        f"v=0\r\no=- {session} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
        f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{'x' * 22}\r\n"
    )


def answer(session: str = "ws_r") -> Answer:
    return Answer(source_session=session, sdp=SessionDescription("answer", "v=0 answer"))


def ice(session: str, candidate: Candidate | None = HOST, **keys: Any) -> Ice:
    return Ice(source_session=session, candidate=candidate, **keys)


def gone(how: str, session: str) -> PeerLeft | Error:
    """What a server says of a session that it does not have any more."""
    if how == "peer_left":
        return PeerLeft(session=session, reason="closed")
    return Error(error="There is no such session", error_code=how, target_session=session)


def present(**sessions: str) -> Broadcasters:
    return Broadcasters(broadcasters=[Present(session, name) for session, name in sessions.items()])


def states(actions: list[Action]) -> list[str]:
    return [action.state for action in only(Notify, actions)]


@pytest.mark.parametrize("make", [broadcaster, receiver])
@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("no\n\x1b[2Jmore", r"no\n\x1b[2Jmore"),
        ("x" * 10_000, "x" * (WORDS - 1) + "…"),
        ({"a": 1}, "it did not say why"),
        (3, "it did"),
    ],
)
def test_what_a_peer_says_at_its_end_is_told_in_one_short_line(make: Any, told: object, shown: str) -> None:
    handshake = make()
    handshake.session = "ws_us"
    handshake.received(offer("ws_p") if handshake.role == "receive" else seek("ws_p"), 0)
    (change, *_) = only(Notify, handshake.received(ice("ws_p", None, bye=told), 1))
    assert f"left: {shown}" in change.reason
    assert "\n" not in change.reason
    assert len(change.reason) < WORDS + 50


class TestBroadcaster:
    def offered(self, handshake: BroadcasterHandshake, session: str = "ws_r", now: float = 0, **keys: Any) -> int:
        (create,) = only(CreateOffer, handshake.received(seek(session, **keys), now))
        assert create.session == session
        (message,) = sent(handshake.described(create.link, "v=0 mine", now))
        assert isinstance(message, Offer)
        assert message.target_session == session
        assert message.sdp.sdp == "v=0 mine"
        return create.link

    @pytest.mark.parametrize("discovery", [Seek(source_session="ws_r"), RequestOffer(source_session="ws_r")])
    def test_answers_both_discoveries_with_a_targeted_offer_under_its_name(
        self, discovery: Seek | RequestOffer
    ) -> None:
        handshake = broadcaster()
        actions = handshake.received(discovery, 0)
        assert states(actions) == ["connecting"]
        (create,) = only(CreateOffer, actions)
        (message,) = sent(handshake.described(create.link, "v=0", 0))
        assert (message.target_session, message.name, message.device_id) == ("ws_r", "cam", "ws_b")

    def test_gives_one_offer_to_two_discoveries_that_cross(self) -> None:
        handshake = broadcaster()
        (create,) = only(CreateOffer, handshake.received(seek(), 0))
        assert handshake.received(RequestOffer(source_session="ws_r"), 0) == []
        handshake.described(create.link, "v=0", 0)
        assert handshake.received(seek(), 0.1) == []

    def test_serves_each_session_with_a_link_of_its_own(self) -> None:
        handshake = broadcaster()
        first, second = self.offered(handshake, "ws_1"), self.offered(handshake, "ws_2")
        assert first != second
        assert handshake.received(answer("ws_2"), 0) == [ApplyAnswer(second, "v=0 answer")]
        assert handshake.received(answer("ws_1"), 0) == [ApplyAnswer(first, "v=0 answer")]

    def test_replaces_the_link_of_a_session_that_asks_again_after_it_answered(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake)
        handshake.received(answer(), 0)
        handshake.connected(link)
        actions = handshake.received(seek(), 60)
        assert only(Close, actions)[0].link == link
        assert only(CreateOffer, actions)[0].link != link
        assert states(actions) == ["closed", "connecting"]

    def test_ignores_an_answer_to_an_offer_long_gone(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake)
        assert only(Close, handshake.tick(GIVE_UP_AFTER))[0].link == link
        assert handshake.received(answer(), GIVE_UP_AFTER) == []

    def test_ignores_a_second_answer(self) -> None:
        handshake = broadcaster()
        self.offered(handshake)
        handshake.received(answer(), 0)
        assert handshake.received(answer(), 0) == []

    def test_ignores_answers_and_candidates_of_strangers(self) -> None:
        handshake = broadcaster()
        self.offered(handshake)
        assert handshake.received(answer("ws_stranger"), 0) == []
        assert handshake.received(ice("ws_stranger"), 0) == []

    def test_ignores_messages_that_no_server_stamped(self) -> None:
        handshake = broadcaster()
        assert handshake.received(Seek(), 0) == []
        assert handshake.received(Answer(sdp=SessionDescription("answer", "")), 0) == []

    def test_takes_candidates_before_the_answer(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake)
        assert handshake.received(ice("ws_r"), 0) == [AddCandidate(link, HOST)]

    @pytest.mark.parametrize("end", [None, Candidate("")])
    def test_takes_null_and_the_empty_candidate_as_the_end(self, end: Candidate | None) -> None:
        handshake = broadcaster()
        link = self.offered(handshake)
        assert handshake.received(ice("ws_r", end), 0) == [AddCandidate(link, None)]

    def test_repeats_an_offer_without_reaction_once_then_gives_up(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake, accept=OURS)
        assert handshake.next_tick() == REPEAT_AFTER
        assert handshake.tick(REPEAT_AFTER / 2) == []
        (message,) = sent(handshake.tick(REPEAT_AFTER))
        assert isinstance(message, Offer)
        assert handshake.tick(REPEAT_AFTER * 2) == []
        assert handshake.next_tick() == GIVE_UP_AFTER
        actions = handshake.tick(GIVE_UP_AFTER)
        assert only(Close, actions) == [Close(link, f"no answer within {GIVE_UP_AFTER:g} s")]
        assert states(actions) == ["closed"]
        assert handshake.next_tick() == float("inf")

    def test_does_not_repeat_an_offer_to_a_page_which_would_throw_at_it(self) -> None:
        handshake = broadcaster()
        self.offered(handshake)
        assert handshake.next_tick() == GIVE_UP_AFTER
        assert handshake.tick(REPEAT_AFTER) == []

    def test_does_not_repeat_an_offer_that_got_a_reaction(self) -> None:
        handshake = broadcaster()
        self.offered(handshake, accept=OURS)
        handshake.received(ice("ws_r"), 0.5)
        assert handshake.tick(REPEAT_AFTER) == []

    def test_gives_up_a_connection_that_does_not_come(self) -> None:
        handshake = broadcaster()
        self.offered(handshake)
        handshake.received(answer(), 1)
        assert only(Close, handshake.tick(1 + CONNECT_WITHIN))

    def test_keeps_a_connection_without_deadline(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake)
        handshake.received(answer(), 0)
        assert states(handshake.connected(link)) == ["connected"]
        assert handshake.connected(link) == []
        assert handshake.tick(1e9) == []

    def test_sends_candidates_after_the_offer_only(self) -> None:
        handshake = broadcaster()
        (create,) = only(CreateOffer, handshake.received(seek(), 0))
        assert handshake.gathered(create.link, HOST, 0) == []
        first, second = sent(handshake.described(create.link, "v=0", 0))
        assert isinstance(first, Offer)
        assert isinstance(second, Ice)
        assert second.candidate == HOST
        assert handshake.gathered(create.link, HOST, 0.5) == []
        assert handshake.next_tick() == 0.5 + BATCH_WITHIN
        (third,) = sent(handshake.tick(0.5 + BATCH_WITHIN))
        assert third.target_session == "ws_r"

    @pytest.mark.parametrize(("accept", "count"), [({"ice": ["more"]}, 1), (None, 3)])
    def test_sends_candidates_that_come_together_in_one_message_where_that_is_read(
        self, accept: dict[str, list[str]] | None, count: int
    ) -> None:
        handshake = broadcaster()
        link = self.offered(handshake, accept=accept)
        for now in (0.5, 0.501, 0.502):
            handshake.gathered(link, HOST, now)
        messages = sent(handshake.tick(0.5 + BATCH_WITHIN))
        assert len(messages) == count
        assert sum(1 + len(message.more) for message in messages if isinstance(message, Ice)) == 3

    def test_takes_all_candidates_of_a_message(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake)
        actions = handshake.received(ice("ws_r", more=[HOST, Candidate("")]), 0)
        assert actions == [AddCandidate(link, HOST), AddCandidate(link, HOST), AddCandidate(link, None)]

    def test_takes_an_answer_that_was_broadcast(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake)
        broadcast = Answer(source_session="ws_r", target_session=None, sdp=SessionDescription("answer", "v=0"))
        assert handshake.received(broadcast, 0) == [ApplyAnswer(link, "v=0")]

    def test_never_sends_an_end_of_candidates(self) -> None:
        handshake = broadcaster()
        assert handshake.gathered(self.offered(handshake), None, 0) == []

    def test_answers_only_who_means_it(self) -> None:
        handshake = broadcaster("cam")
        assert handshake.received(seek(want="other"), 0) == []
        assert handshake.received(seek(unwanted=["ws_b"]), 0) == []
        assert only(CreateOffer, handshake.received(seek("ws_1", want="cam"), 0))
        assert only(CreateOffer, handshake.received(seek("ws_2", want="ws_b"), 0))
        assert only(CreateOffer, handshake.received(seek("ws_3", unwanted="nonsense"), 0))

    @pytest.mark.parametrize("asker", ["ws_r", "ws_r2"])
    def test_is_not_meant_by_who_has_it_under_an_earlier_session(self, asker: str) -> None:
        handshake = broadcaster("cam")
        link = self.offered(handshake, "ws_r")
        handshake.received(answer("ws_r"), 0)
        handshake.connected(link)
        handshake.opened("ws_b2", 1)
        # A sibling of the receiver, on the same connection to the server; that may have a new session, too.
        assert handshake.received(seek(asker, unwanted=["ws_b"]), 2) == []
        assert handshake.received(seek(asker, unwanted=["ws_other", "ws_b"], want="cam"), 2) == []
        assert handshake.links.keys() == {link}
        # The receiver itself, which has lost the stream.
        assert only(CreateOffer, handshake.received(seek(asker, unwanted=["ws_other"]), 2))
        handshake.lost(link, "gone", 2)
        assert only(CreateOffer, handshake.received(seek("ws_r3", unwanted=["ws_b"]), 3))

    def test_so_many_join_at_once_and_no_more(self, caplog: pytest.LogCaptureFixture) -> None:
        handshake = broadcaster()
        for number in range(10_000):
            handshake.received(seek(f"ws_{number}"), 0)
        assert len(handshake.links) == JOINING
        assert len(caplog.records) == 1
        handshake.tick(0)
        for link in list(handshake.links):
            handshake.connected(link)
        assert only(CreateOffer, handshake.received(seek("ws_late"), 1))

    def test_who_asks_anew_all_the_time_gets_an_offer_a_second_and_others_get_theirs(self) -> None:
        handshake = broadcaster()
        offers = 0
        for number in range(1000):
            now = number / 100
            for create in only(CreateOffer, handshake.received(seek("ws_greedy"), now)):
                offers += 1
                handshake.described(create.link, "v=0", now)
                handshake.received(ice("ws_greedy", None, bye="again"), now)
            if number % 100 == 0:
                assert only(CreateOffer, handshake.received(seek(f"ws_{number}"), now))
        assert OFFERS + 9 / OFFER_INTERVAL - 1 <= offers <= OFFERS + 10 / OFFER_INTERVAL

    def test_keeps_count_of_so_many_that_asked(self) -> None:
        handshake = broadcaster()
        for number in range(2 * KNOWN):
            handshake.received(seek(f"ws_{number}"), number)
            handshake.tick(number)
        assert len(handshake._offered) == KNOWN

    def test_takes_so_many_candidates_of_a_peer(self) -> None:
        handshake = broadcaster()
        self.offered(handshake)
        flood = ice("ws_r", more=[HOST] * 999)
        taken = [action for _ in range(10) for action in handshake.received(flood, 0)]
        assert len(only(AddCandidate, taken)) == LINK_CANDIDATES

    def test_lets_go_of_a_receiver_that_says_goodbye(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake)
        actions = handshake.received(ice("ws_r", None, bye="another broadcaster was chosen"), 0)
        assert only(Close, actions)[0].link == link
        assert sent(actions) == []

    def test_says_goodbye_only_to_who_understands_it(self) -> None:
        handshake = broadcaster()
        self.offered(handshake, "ws_page")
        self.offered(handshake, "ws_ours", accept=OURS)
        actions = handshake.stop("closed")
        (message,) = sent(actions)
        assert isinstance(message, Ice)
        assert (message.target_session, message.bye) == ("ws_ours", "closed")
        assert len(only(Close, actions)) == 2

    def test_keeps_connections_when_signaling_comes_back_with_another_session(self) -> None:
        handshake = broadcaster()
        link = self.offered(handshake, "ws_1")
        handshake.received(answer("ws_1"), 0)
        handshake.connected(link)
        unfinished = self.offered(handshake, "ws_2")
        actions = handshake.opened("ws_b2", 1)
        assert [action.link for action in only(Close, actions)] == [unfinished]
        assert handshake.links.keys() == {link}

    @pytest.mark.parametrize("how", ["peer_left", "target_not_found", "not_allowed"])
    def test_ends_a_link_not_yet_connected_when_its_session_is_gone(self, how: str) -> None:
        handshake = broadcaster()
        (create,) = only(CreateOffer, handshake.received(seek("ws_1", accept=OURS), 0))
        offered, answered = self.offered(handshake, "ws_2", accept=OURS), self.offered(handshake, "ws_3", accept=OURS)
        handshake.received(answer("ws_3"), 0)
        for link, session in ((create.link, "ws_1"), (offered, "ws_2"), (answered, "ws_3")):
            actions = handshake.received(gone(how, session), 0.1)
            assert only(Close, actions)[0].link == link
            assert states(actions) == ["closed"]
            assert sent(actions) == []  # to whom there is nobody, no goodbye is said
        assert handshake.next_tick() == float("inf")

    @pytest.mark.parametrize("how", ["peer_left", "target_not_found"])
    def test_sees_whether_media_outlive_the_session_of_a_connected_receiver(self, how: str) -> None:
        handshake = broadcaster()
        link = self.offered(handshake, accept=OURS)
        handshake.received(answer(), 0)
        handshake.connected(link)
        (check,) = handshake.received(gone(how, "ws_r"), 5)
        assert isinstance(check, Check)
        assert check.link == link
        assert handshake.received(gone(how, "ws_r"), 5) == []  # one check is enough
        assert handshake.gathered(link, HOST, 5) == []
        assert handshake.next_tick() == float("inf")  # it answers: media go on
        actions = handshake.lost(link, check.reason, 6)
        assert states(actions) == ["closed"]
        assert sent(actions) == []

    def test_is_not_moved_by_news_of_strangers(self) -> None:
        handshake = broadcaster()
        self.offered(handshake)
        for how in ("peer_left", "target_not_found", "not_allowed"):
            assert handshake.received(gone(how, "ws_stranger"), 0) == []

    @pytest.mark.parametrize("make", [broadcaster, receiver])
    @pytest.mark.parametrize("role", [None, "broadcast", "receive"])
    def test_a_role_that_the_server_does_not_allow_is_told_to_the_application(self, make: Any, role: str) -> None:
        handshake = make()
        actions = handshake.received(Error(error="no such role", error_code="not_allowed", role=role), 0)
        mine = role in (None, handshake.role)
        assert actions == ([Fail("not allowed by the signaling server: no such role")] if mine else [])


class TestReceiver:
    def seeking(self, handshake: ReceiverHandshake, now: float = 0) -> list[Relayed]:
        actions = handshake.opened("ws_r", now)
        assert states(actions) == ["seeking"]
        return sent(actions)

    def answered(self, handshake: ReceiverHandshake, now: float = 0, **keys: Any) -> int:
        (create,) = only(CreateAnswer, handshake.received(offer(**keys), now))
        (message,) = sent(handshake.described(create.link, "v=0 answer", now))
        assert isinstance(message, Answer)
        assert message.target_session == create.session
        return create.link

    def test_a_broadcaster_that_let_us_go_is_asked_again_at_once(self) -> None:
        claimed: list[str] = []
        handshake = receiver(taken=claimed)
        handshake.opened("ws_r", 0)
        handshake.received(present(ws_b="cam"), 0)
        (create,) = only(CreateAnswer, handshake.received(offer(), 0))
        handshake.described(create.link, "v=0 mine", 0)
        handshake.connected(create.link)
        claimed.append("ws_b")  # by us, until the end of the link is carried out
        messages = sent(handshake.received(ice("ws_b", None, bye="silence"), 10))
        asked = [message for message in messages if isinstance(message, Seek | RequestOffer)]
        assert [type(message) for message in asked] == [Seek, RequestOffer]
        assert all(message.unwanted is None for message in asked)
        assert handshake.next_tick() == 10 + SEEK_INTERVALS[0]

    def test_sends_both_discoveries_to_all(self) -> None:
        messages = self.seeking(receiver())
        assert [type(message) for message in messages] == [Seek, RequestOffer]
        assert {message.target_session for message in messages} == {None}

    def test_asks_a_session_alone_and_a_name_of_all(self) -> None:
        assert {message.target_session for message in self.seeking(receiver("ws_b"))} == {"ws_b"}
        assert {message.target_session for message in self.seeking(receiver("cam"))} == {None}

    @pytest.mark.parametrize("heard", [False, True])
    def test_repeats_discovery_until_there_is_a_link_less_often_where_others_answer(self, *, heard: bool) -> None:
        handshake = receiver("ws_b")
        self.seeking(handshake)
        if heard:
            assert handshake.received(offer("ws_other"), 0) == []
        now = 0.0
        for interval in (*SEEK_INTERVALS, SEEK_INTERVALS[-1]) if heard else 3 * SEEK_INTERVALS[:1]:
            assert handshake.next_tick() == now + interval
            now += interval
            assert len(sent(handshake.tick(now))) == 2
        self.answered(handshake, now)
        handshake.connected(1)
        assert handshake.next_tick() == float("inf")

    def test_stops_a_discovery_that_the_server_calls_unknown(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        handshake.received(Error(error="Unknown message type: webrtc_seek_broadcaster"), 0)
        assert [type(message) for message in sent(handshake.tick(SEEK_INTERVALS[0]))] == [RequestOffer]

    def test_tries_both_discoveries_again_on_another_session(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        handshake.received(Error(error="Unknown message type: webrtc_seek_broadcaster"), 0)
        assert len(sent(handshake.opened("ws_r2", 1))) == 2

    def test_takes_the_first_offer_and_lets_the_others_go(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake)
        assert handshake.received(offer("ws_page"), 0) == []
        assert handshake.unclaimed(offer("ws_page")) == []
        assert handshake.received(offer("ws_ours", accept=OURS), 0) == []
        (message,) = sent(handshake.unclaimed(offer("ws_ours", accept=OURS)))
        assert isinstance(message, Ice)
        assert message.target_session == "ws_ours"
        assert message.bye
        assert len(handshake.links) == 1

    def test_takes_an_offer_that_nobody_asked_for(self) -> None:
        handshake = receiver()
        handshake.session = "ws_r"
        assert only(CreateAnswer, handshake.received(offer(), 0))

    def test_takes_an_offer_that_was_broadcast_and_answers_it_targeted(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake, target_session="")

    def test_asks_on_at_a_page_that_serves_somebody_else_until_it_is_free(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        for number in range(10):
            assert len(sent(handshake.tick(10.0 * number + 10))) == 2
        self.answered(handshake, 100)

    def test_takes_the_wanted_broadcaster_only(self) -> None:
        by_name, by_session = receiver("cam"), receiver("ws_b")
        for handshake in (by_name, by_session):
            self.seeking(handshake)
            assert not only(CreateAnswer, handshake.received(offer("ws_x", name="other"), 0))
        assert only(CreateAnswer, by_name.received(offer(name="cam"), 0))
        assert only(CreateAnswer, by_session.received(offer(name="anything"), 0))
        assert by_name.heard == {"ws_x": "other", "ws_b": "cam"}

    def test_leaves_a_broadcaster_that_another_receiver_on_the_connection_has(self) -> None:
        handshake = receiver(taken=["ws_b"])
        messages = self.seeking(handshake)
        assert [message.unwanted for message in messages if isinstance(message, Seek)] == [["ws_b"]]
        assert handshake.received(offer(accept=OURS), 0) == []
        assert handshake.unclaimed(offer(accept=OURS)) == []

    def test_adds_candidates_that_came_before_their_offer(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        for _ in range(EARLY_CANDIDATES + 5):
            assert handshake.received(ice("ws_b"), 0) == []
        actions = handshake.received(offer(), 0)
        added = only(AddCandidate, actions)
        assert len(added) == EARLY_CANDIDATES
        assert actions.index(added[0]) > actions.index(only(CreateAnswer, actions)[0])

    def test_candidates_of_strangers_do_not_displace_those_of_who_offers_next(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        for number in range(1_000):
            handshake.received(ice(f"ws_{number}", more=[HOST] * 99), 0)
        assert len(handshake._early) == EARLY_SESSIONS
        assert sum(map(len, handshake._early.values())) == EARLY_SESSIONS * EARLY_CANDIDATES
        handshake.received(ice("ws_b"), 0)
        assert len(only(AddCandidate, handshake.received(offer(), 0))) == 1

    def test_many_on_one_connection_ask_all_only_so_often(self) -> None:
        calls, asked, last = Calls(), 0, 0.0
        crowd = [receiver(f"p{number}", calls=calls) for number in range(100)]
        for one in crowd:
            asked += len(sent(one.opened("ws_r", 0))) // 2
        assert asked == CALLS
        while last < 2:
            last = min(one.next_tick() for one in crowd)
            asked += sum(len(sent(one.tick(last))) // 2 for one in crowd)
        assert asked <= CALLS + last / CALL_INTERVAL + 1

    def test_where_others_were_told_of_broadcasters_nobody_else_is_asked_first(self) -> None:
        calls = Calls()
        calls.told = True
        handshake = receiver(calls=calls)
        assert sent(handshake.opened("ws_r", 0)) == []
        asked = sent(handshake.received(present(ws_b="cam"), 0))
        assert [(type(message), message.target_session) for message in asked] == [
            (Seek, "ws_b"),
            (RequestOffer, "ws_b"),
        ]
        assert [message.target_session for message in sent(handshake.tick(SLOW_SEEK))] == [None, None]

    def test_where_it_is_not_told_of_broadcasters_as_others_were_it_asks_everybody_soon(self) -> None:
        calls = Calls()
        calls.told = True
        handshake = receiver(calls=calls)
        assert sent(handshake.opened("ws_r", 0)) == []
        assert handshake.next_tick() == SEEK_INTERVALS[0]
        assert [message.target_session for message in sent(handshake.tick(SEEK_INTERVALS[0]))] == [None, None]

    def test_of_thousands_of_broadcasters_others_are_asked_each_time(self) -> None:
        handshake = receiver("cam")
        self.seeking(handshake)
        told = present(**{f"ws_{number}": "cam" for number in range(5_000)})
        first = {message.target_session for message in sent(handshake.received(told, 0))}
        next_ones = {message.target_session for message in sent(handshake.tick(SEEK_INTERVALS[0]))}
        assert len(first) == len(next_ones) == ASKED_AT_ONCE
        assert first.isdisjoint(next_ones)
        for number in range(5_000):
            handshake.received(BroadcasterAvailable(session=f"ws_x{number}", name="other"), 1)
        assert len(handshake._present or {}) == KNOWN
        assert len(handshake.heard) == EARLY_SESSIONS

    def test_ignores_candidates_of_strangers_while_it_has_a_link(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake)
        assert handshake.received(ice("ws_stranger"), 0) == []

    def test_sends_the_answer_again_when_the_offer_comes_again(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake)
        (message,) = sent(handshake.received(offer(), 0.5))
        assert isinstance(message, Answer)

    @pytest.mark.parametrize("phase", ["connecting", "connected"])
    def test_an_offer_of_the_same_peer_connection_gets_the_same_answer_and_ends_nothing(self, phase: str) -> None:
        handshake = receiver()
        self.seeking(handshake)
        link = self.answered(handshake, sdp=described(version=2))
        if phase == "connected":
            handshake.connected(link)
        for version in (3, 4):
            actions = handshake.received(offer(sdp=described(version=version)), 3)
            (message,) = sent(actions)
            assert isinstance(message, Answer)
            assert (message.target_session, message.sdp.sdp) == ("ws_b", "v=0 answer")
            assert len(actions) == 1
        assert handshake.links.keys() == {link}
        assert handshake.links[link].phase == phase

    def test_offers_that_come_while_it_makes_its_answer_get_that_one(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        (create,) = only(CreateAnswer, handshake.received(offer(sdp=described(version=2)), 0))
        assert handshake.received(offer(sdp=described(version=3)), 0.1) == []
        assert len(sent(handshake.described(create.link, "v=0 answer", 0.2))) == 1

    @pytest.mark.parametrize("new", [{"session": "9"}, {"ufrag": "else"}])
    def test_an_offer_of_another_peer_connection_or_after_a_restart_of_ice_starts_anew(self, new: Any) -> None:
        handshake = receiver()
        self.seeking(handshake)
        link = self.answered(handshake, sdp=described())
        handshake.connected(link)
        actions = handshake.received(offer(sdp=described(**new)), 5)
        assert only(Close, actions)[0].link == link
        assert only(CreateAnswer, actions)

    def test_waits_for_a_page_that_offers_again_since_it_is_there_but_not_for_ever(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake, sdp=described())
        now = 0.0
        while now + 10 < PATIENCE:
            now += 10
            assert states(handshake.tick(now)) == []
            assert sent(handshake.received(offer(sdp=described(version=int(now))), now))
        assert states(handshake.tick(PATIENCE)) == ["seeking"]

    def test_starts_anew_when_its_broadcaster_offers_anew(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        link = self.answered(handshake)
        handshake.connected(link)
        actions = handshake.received(offer(sdp="v=0 another"), 5)
        assert only(Close, actions)[0].link == link
        assert only(CreateAnswer, actions)

    def test_soon_seeks_again_when_signaling_was_lost_while_it_was_connecting(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake)
        assert handshake.opened("ws_r2", 2) == []
        actions = handshake.tick(2 + CROSSED_WITHIN)
        assert states(actions) == ["seeking"]
        assert [type(message) for message in sent(actions)] == [Seek, RequestOffer]

    def test_the_same_session_again_is_no_loss_of_signaling(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake)
        handshake.opened("ws_r", 2)
        assert states(handshake.tick(2 + CROSSED_WITHIN)) == []

    def test_soon_seeks_again_when_its_answer_crossed_another_offer(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake)
        self.answered(handshake, now=0.1, sdp="v=0 another")
        assert states(handshake.tick(CROSSED_WITHIN)) == []
        actions = handshake.tick(0.1 + CROSSED_WITHIN)
        assert states(actions) == ["seeking"]
        assert [type(message) for message in sent(actions)] == [Seek, RequestOffer]
        link = self.answered(handshake, now=4, sdp="v=0 a third")
        assert states(handshake.tick(4 + CROSSED_WITHIN)) == []
        assert states(handshake.connected(link)) == ["connected"]

    def test_does_not_seek_in_a_loop_what_fails_at_once(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        now = 0.0
        for interval in (*PACES, PACES[-1]):
            link = self.answered(handshake, now)
            actions = handshake.lost(link, "this peer offers none of our codecs", now + 0.01)
            assert states(actions) == ["seeking"]
            assert sent(actions) == []
            now += interval
            assert handshake.next_tick() == now
            assert [type(message) for message in sent(handshake.tick(now))] == [Seek, RequestOffer]

    def test_seeks_at_once_when_the_connection_is_lost(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        link = self.answered(handshake)
        handshake.connected(link)
        actions = handshake.lost(link, "the connection failed", 9)
        assert states(actions) == ["interrupted", "seeking"]
        assert [type(message) for message in sent(actions)] == [Seek, RequestOffer]

    def test_seeks_at_once_when_the_broadcaster_says_goodbye(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        link = self.answered(handshake, accept=OURS)
        handshake.connected(link)
        actions = handshake.received(ice("ws_b", None, bye="closed"), 9)
        assert states(actions) == ["interrupted", "seeking"]

    def test_seeks_again_when_an_answer_leads_nowhere(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake, accept=OURS)
        (message,) = sent(handshake.tick(REPEAT_AFTER))
        assert isinstance(message, Answer)
        assert states(handshake.tick(CONNECT_WITHIN)) == ["seeking"]

    def test_does_not_repeat_an_answer_to_a_page_which_would_throw_at_it(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake)
        assert handshake.tick(REPEAT_AFTER) == []
        assert states(handshake.tick(CONNECT_WITHIN)) == ["seeking"]

    def test_does_not_repeat_an_answer_that_the_peer_has(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        link = self.answered(handshake, accept=OURS)
        handshake.reached(link)
        assert handshake.tick(REPEAT_AFTER) == []
        assert states(handshake.tick(CONNECT_WITHIN)) == ["seeking"]

    def test_seeks_without_signaling_as_soon_as_it_is_back(self) -> None:
        handshake = receiver()
        assert handshake.tick(5) == []
        assert self.seeking(handshake, 6)

    def test_keeps_a_connection_when_signaling_comes_back(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        handshake.connected(self.answered(handshake))
        assert handshake.opened("ws_r2", 5) == []

    @pytest.mark.parametrize("how", ["peer_left", "target_not_found"])
    def test_seeks_at_once_when_the_session_that_it_answered_is_gone(self, how: str) -> None:
        handshake = receiver()
        self.seeking(handshake)
        self.answered(handshake, now=0.6, accept=OURS)
        actions = handshake.received(gone(how, "ws_b"), 0.7)
        assert only(Close, actions)
        assert states(actions) == ["seeking"]
        assert [type(message) for message in sent(actions)] == [Seek, RequestOffer]

    def test_sees_whether_media_outlive_the_session_of_its_broadcaster(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        link = self.answered(handshake, accept=OURS)
        handshake.connected(link)
        (check,) = handshake.received(gone("peer_left", "ws_b"), 5)
        assert isinstance(check, Check)
        assert handshake.next_tick() == float("inf")
        actions = handshake.lost(link, check.reason, 6)
        assert states(actions) == ["interrupted", "seeking"]
        assert [type(message) for message in sent(actions)] == [Seek, RequestOffer]

    def test_asks_a_broadcaster_that_appears_at_once_and_alone(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        assert handshake.received(present(), 0) == []
        messages = sent(handshake.received(BroadcasterAvailable(session="ws_b", name="cam"), 3))
        assert [type(message) for message in messages] == [Seek, RequestOffer]
        assert {message.target_session for message in messages} == {"ws_b"}
        assert handshake.next_tick() == 3 + SEEK_INTERVALS[0]  # it should answer, else it is asked again
        self.answered(handshake, 3.1)

    def test_asks_seldom_while_the_server_tells_of_none(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        handshake.received(present(ws_x="other"), 0)
        assert handshake.received(BroadcasterGone(session="ws_x"), 0) == []
        now = SEEK_INTERVALS[0]
        handshake.tick(now)
        assert handshake.next_tick() == now + SLOW_SEEK
        assert {message.target_session for message in sent(handshake.tick(now + SLOW_SEEK))} == {None}  # for pages

    def test_asks_often_while_the_server_tells_of_one_that_does_not_answer(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        assert handshake.received(present(ws_b="cam"), 0) == []  # it was asked with all others
        handshake.tick(SEEK_INTERVALS[0])
        assert handshake.next_tick() == SEEK_INTERVALS[0] + SEEK_INTERVALS[1]

    def test_asks_for_a_name_whoever_the_server_knows_by_it(self) -> None:
        handshake = receiver("cam")
        self.seeking(handshake)
        messages = sent(handshake.received(present(ws_x="other", ws_b="cam"), 0))
        assert {(message.target_session, getattr(message, "want", "")) for message in messages} == {("ws_b", "ws_b")}
        # The server's name for it, from its token, counts as well as its own.
        assert not only(CreateAnswer, handshake.received(offer("ws_x", name="another"), 0))
        assert only(CreateAnswer, handshake.received(offer("ws_b", name=""), 0))
        assert handshake.heard == {"ws_x": "other", "ws_b": "cam"}

    def test_calls_a_broadcaster_what_the_server_calls_it(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        handshake.received(present(ws_b="lab-1"), 0)
        actions = handshake.received(offer("ws_b", name="mine"), 0)
        assert [action.reason for action in only(Notify, actions)] == ["lab-1 answered"]
        assert handshake.link is not None
        assert handshake.link.name == "lab-1"

    def test_is_not_moved_by_broadcasters_that_it_does_not_want(self) -> None:
        handshake = receiver("cam", taken=["ws_t"])
        self.seeking(handshake)
        assert handshake.received(present(ws_t="cam", ws_r="cam"), 0) == []  # another receiver's, and itself
        assert handshake.received(BroadcasterAvailable(session="ws_x", name="other"), 0) == []

    def test_takes_news_without_a_list_before_them(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        assert handshake.received(BroadcasterGone(session="ws_b"), 0) == []
        handshake.received(BroadcasterAvailable(session="ws_b", name=3), 0)
        assert handshake.heard == {"ws_b": ""}

    def test_does_not_seek_at_news_while_it_has_a_link_or_once_stopped(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        handshake.received(present(), 0)
        self.answered(handshake)
        assert handshake.received(BroadcasterAvailable(session="ws_c", name=""), 1) == []
        handshake.stop("closed")
        assert handshake.received(BroadcasterAvailable(session="ws_d", name=""), 2) == []

    def test_forgets_whom_the_server_told_of_when_signaling_comes_back(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        handshake.received(present(), 0)
        handshake.opened("ws_r2", 10)
        assert handshake.next_tick() == 10 + SEEK_INTERVALS[0]

    @pytest.mark.parametrize(
        ("want", "code", "target"),
        [("ws_b", "target_not_found", "ws_b"), ("ws_b", "not_allowed", "ws_b"), (None, "rate_limited", None)],
    )
    def test_says_once_why_a_discovery_was_not_passed_on_and_asks_later(
        self, want: str | None, code: str, target: str | None
    ) -> None:
        handshake = receiver(want)
        self.seeking(handshake)
        refusal = Error(error="no", error_code=code, target_session=target)
        (notify,) = handshake.received(refusal, 0.1)
        assert notify == Notify("seeking", "", "the signaling server: no")
        assert handshake.refusal == "no"
        assert handshake.received(refusal, 0.2) == []
        assert handshake.next_tick() == 0.2 + SLOW_SEEK

    def test_lets_its_broadcaster_go_where_it_may_not_record(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        link = self.answered(handshake, accept=OURS)
        handshake.connected(link)
        refusal = Error(error="no", error_code="not_allowed", role="record")
        assert handshake.received(refusal, 1) == []  # it is another one's
        handshake.record(True)
        assert handshake.requirements.role == ("record",)
        actions = handshake.received(refusal, 1)
        assert [ice.bye for ice in sent(actions) if isinstance(ice, Ice)] == ["it may not be recorded"]
        assert only(Fail, actions) == [Fail("not allowed by the signaling server: no")]
        assert handshake.link is None
        handshake.record(False)
        assert handshake.requirements.role == ("receive",)

    @pytest.mark.parametrize("name", ["lab", ""])
    def test_stays_with_the_broadcaster_that_it_has(self, name: str) -> None:
        handshake = receiver()
        handshake.stay()  # with nobody yet
        self.seeking(handshake)
        link = self.answered(handshake, name=name, accept=OURS)
        handshake.connected(link)
        handshake.stay()
        handshake.lost(link, "gone", 1)
        assert handshake.received(offer("ws_2", name="other"), 2) == []
        again = offer("ws_3", name="lab") if name else offer("ws_b")
        assert only(CreateAnswer, handshake.received(again, 3))

    def test_does_not_take_the_refusal_of_another_message_for_that_of_its_discovery(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        assert handshake.received(gone("target_not_found", "ws_x"), 0.1) == []
        self.answered(handshake, 0.2)
        assert handshake.received(Error(error="slow down", error_code="rate_limited"), 0.3) == []
        assert handshake.refusal == ""

    def test_looks_no_further_once_stopped(self) -> None:
        handshake = receiver()
        self.seeking(handshake)
        handshake.stop("closed")
        assert handshake.tick(100) == []


sessions = st.sampled_from(["", "ws_1", "ws_2", "ws_3"])
anything = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.text(max_size=2), max_size=2)
extra = {"accept": anything | st.just(OURS), "name": anything, "target_session": anything}
messages = st.one_of(
    st.builds(Seek, source_session=sessions, want=anything, unwanted=anything, **extra),
    st.builds(RequestOffer, source_session=sessions, **extra),
    st.builds(Offer, source_session=sessions, sdp=st.builds(SessionDescription, st.just("offer"), st.text()), **extra),
    st.builds(
        Answer, source_session=sessions, sdp=st.builds(SessionDescription, st.just("answer"), st.text()), **extra
    ),
    st.builds(Ice, source_session=sessions, candidate=st.none() | st.builds(Candidate, st.text()), bye=anything),
    st.builds(
        Error,
        error=st.text(),
        error_code=anything | st.sampled_from(["target_not_found", "not_allowed", "rate_limited"]),
        target_session=anything | sessions,
    ),
    st.builds(PeerLeft, session=sessions, reason=anything),
    st.builds(Broadcasters, broadcasters=st.lists(st.builds(Present, sessions, anything), max_size=3)),
    st.builds(BroadcasterAvailable, session=sessions, name=anything),
    st.builds(BroadcasterGone, session=sessions),
)
steps = st.one_of(
    st.tuples(st.just("received"), messages),
    st.tuples(st.sampled_from(["described", "connected", "lost", "gathered"]), st.integers(1, 6)),
    st.tuples(st.just("opened"), st.sampled_from(["ws_a", "ws_b"])),
    st.tuples(st.just("tick"), st.floats(0, 20)),
)


def take(handshake: BroadcasterHandshake | ReceiverHandshake, step: str, value: Any, now: float) -> list[Action]:
    match step:
        case "described":
            return handshake.described(value, "v=0", now)
        case "lost":
            return handshake.lost(value, "gone", now)
        case "gathered":
            return handshake.gathered(value, HOST, now)
        case "connected":
            return handshake.connected(value)
        case "tick":
            return handshake.tick(now)
        case _:
            action: list[Action] = getattr(handshake, step)(value, now)
            return action


def check(action: Action, opened: set[int]) -> None:
    match action:
        case CreateOffer(link) | CreateAnswer(link):
            assert link not in opened
            opened.add(link)
        case Close(link):
            opened.remove(link)
        case ApplyAnswer(link) | AddCandidate(link) | Check(link):
            assert link in opened
        case Send(Offer() | Answer() | Ice() as message):
            assert message.target_session
        case _:
            pass


@given(st.sampled_from([broadcaster, receiver]), st.lists(steps, max_size=40))
def test_no_sequence_of_events_breaks_a_promise(make: Any, sequence: list[tuple[str, Any]]) -> None:
    handshake: BroadcasterHandshake | ReceiverHandshake = make()
    now = 0.0
    opened: set[int] = set()
    for step, value in sequence:
        now += value if step == "tick" else 0
        for action in take(handshake, step, value, now):
            check(action, opened)
        assert opened == handshake.links.keys()
        known = [link.session for link in handshake.links.values()]
        assert len(known) == len(set(known))
        assert isinstance(handshake, BroadcasterHandshake) or len(known) <= 1
    handshake.stop("done")
    assert not handshake.links


# Whoever receives makes the offer

TURNED = {"offers": ["receiving"], "bye": ["words"]}


def test_a_broadcaster_answers_an_offer_to_receive() -> None:
    handshake = broadcaster()
    actions = handshake.received(Offer(source_session="ws_r", accept=TURNED, sdp=SessionDescription("offer", "v=0")), 1)
    (create,) = only(CreateAnswer, actions)
    (answer,) = sent(handshake.described(create.link, "v=0 answer", 2))
    assert isinstance(answer, Answer)
    assert (answer.target_session, answer.sdp.sdp) == ("ws_r", "v=0 answer")
    assert [notice.state for notice in only(Notify, handshake.connected(create.link))] == ["connected"]


def test_an_offer_to_receive_is_asked_about_like_every_receiver() -> None:
    handshake = BroadcasterHandshake(name="cam", accept=OURS, timestamp=lambda: 7, asks=True)
    handshake.opened("ws_b", 0)
    wish = Offer(source_session="ws_r", accept=TURNED, sdp=SessionDescription("offer", "v=0"))
    assert [type(action) for action in handshake.received(wish, 1)] == [Ask]
    (refusal,) = sent(handshake.judged("ws_r", 2, admitted=False))
    assert isinstance(refusal, Ice)
    assert refusal.refused is True


def test_offers_of_broadcasters_are_not_for_a_broadcaster_nor_such_to_receive_for_a_receiver() -> None:
    assert broadcaster().received(offer("ws_x"), 1) == []
    handshake = receiver()
    handshake.opened("ws_r", 0)
    assert handshake.received(offer("ws_x", accept=TURNED), 1) == []


def test_a_receiver_that_is_asked_to_offers_and_takes_the_answer() -> None:
    handshake = receiver()
    handshake.opened("ws_r", 0)
    assert handshake.received(RequestOffer(source_session="ws_x"), 1) == []  # that of another receiver
    (create,) = only(CreateOffer, handshake.received(RequestOffer(source_session="ws_w", accept=TURNED), 1))
    (made,) = sent(handshake.described(create.link, "v=0 offer", 2))
    assert isinstance(made, Offer)
    (apply,) = handshake.received(Answer(source_session="ws_w", sdp=SessionDescription("answer", "v=0 answer")), 3)
    assert apply == ApplyAnswer(create.link, "v=0 answer")
    assert only(CreateOffer, handshake.received(RequestOffer(source_session="ws_w", accept=TURNED), 4)) == []


def test_a_receiver_seeks_again_when_its_offer_is_not_answered() -> None:
    handshake = receiver()
    handshake.opened("ws_r", 0)
    (create,) = only(CreateOffer, handshake.received(RequestOffer(source_session="ws_w", accept=TURNED), 1))
    handshake.described(create.link, "v=0 offer", 1)
    actions = handshake.tick(1 + GIVE_UP_AFTER)
    assert only(Close, actions) == [Close(create.link, f"no answer within {GIVE_UP_AFTER:g} s")]
    assert [type(message) for message in sent(actions)][-2:] == [Seek, RequestOffer]
