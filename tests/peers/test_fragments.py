"""Messages of applications in pieces, and put together again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.errors import InvalidMessage
from synopticon_rtc.peers.fragments import (
    FRAME,
    MAX_LATEST,
    MAX_MESSAGE,
    QUEUE,
    UNREAD,
    WINDOW,
    Incoming,
    LatestIncoming,
    LatestOutgoing,
    Outgoing,
)

LENGTHS = st.one_of(st.integers(0, 3), st.integers(FRAME - 9, FRAME + 2), st.integers(0, 5000))
MESSAGES = st.lists(st.one_of(st.text(max_size=50), LENGTHS.map(bytes), st.binary(max_size=50)), max_size=10)


def put(out: Outgoing | LatestOutgoing, message: bytes | str) -> bool:
    text = isinstance(message, str)
    return out.put(message.encode() if isinstance(message, str) else message, text=text)


def frames(out: Outgoing | LatestOutgoing, most: int = FRAME) -> list[bytes]:
    made = []
    while (frame := out.next(most)) is not None:
        made.append(frame)
    return made


def take_all(incoming: Incoming | LatestIncoming, taken: list[bytes]) -> list[bytes | str]:
    return [message for frame in taken if (message := incoming.take(frame)) is not None]


@given(MESSAGES, st.integers(20, FRAME))
def test_messages_come_as_they_were_sent(messages: list[bytes | str], most: int) -> None:
    out, incoming = Outgoing(), Incoming()
    out.limit = incoming.limit = WINDOW
    for message in messages:
        assert put(out, message)
    made = frames(out, most)
    assert all(len(frame) <= most for frame in made)
    assert take_all(incoming, made) == messages
    assert out.size == 0


@given(st.lists(st.one_of(st.text(min_size=1, max_size=50), LENGTHS.map(bytes)), max_size=10), st.randoms())
def test_of_the_newest_kind_each_comes_at_most_once_in_order_and_whole(
    messages: list[bytes | str], chance: random.Random
) -> None:
    out, incoming = LatestOutgoing(), LatestIncoming()
    made = []
    for message in messages:
        put(out, message)
        made += frames(out)
    made = [frame for frame in made for _ in range(chance.choice([0, 1, 1, 1, 2]))]
    for _ in range(3):
        if len(made) > 1:
            at = chance.randrange(len(made) - 1)
            made[at], made[at + 1] = made[at + 1], made[at]
    left = iter(messages)
    for frame in made:
        if (came := incoming.take(frame)) is not None:
            assert any(came == sent for sent in left)


def test_the_newest_takes_the_place_of_one_that_waits_but_not_of_one_on_its_way() -> None:
    out, incoming = LatestOutgoing(), LatestIncoming()
    assert not put(out, bytes(3000))
    first = out.next()
    assert not put(out, "old")
    assert put(out, "new")
    assert first is not None
    assert take_all(incoming, [first, *frames(out)]) == [bytes(3000), "new"]


def test_no_more_is_sent_than_the_other_end_takes() -> None:
    out, incoming = Outgoing(), Incoming()
    put(out, bytes(2 * UNREAD))
    sent = frames(out)
    assert UNREAD - FRAME < sum(map(len, sent)) <= UNREAD
    assert not take_all(incoming, sent)
    out.limit = incoming.limit = WINDOW
    assert take_all(incoming, frames(out)) == [bytes(2 * UNREAD)]


def test_the_largest_message_fits_where_nothing_is_unread() -> None:
    out, incoming = Outgoing(), Incoming()
    out.limit = incoming.limit = WINDOW
    put(out, bytes(MAX_MESSAGE))
    assert take_all(incoming, frames(out)) == [bytes(MAX_MESSAGE)]


def test_what_waits_is_bounded() -> None:
    out = Outgoing()
    while put(out, bytes(1000)):
        pass
    assert QUEUE - 2000 < out.size <= QUEUE


@pytest.mark.parametrize("frame", [b"", b"\x04", b"\xffwords", b"\x03\xff"])
def test_a_frame_that_breaks_the_format_is_refused(frame: bytes) -> None:
    with pytest.raises(InvalidMessage):
        Incoming().take(frame)


def test_more_than_may_come_is_refused() -> None:
    incoming = Incoming()
    with pytest.raises(InvalidMessage, match="more"):
        take_all(incoming, [b"\x01"] * UNREAD)


def test_a_message_without_end_is_refused() -> None:
    incoming = Incoming()
    incoming.limit = 10 * WINDOW
    with pytest.raises(InvalidMessage, match="more"):
        take_all(incoming, [bytes(1001)] * (2 * MAX_MESSAGE // 1000))


@given(st.lists(st.binary(max_size=40)))
def test_strange_frames_of_the_newest_kind_are_bounded(strange: list[bytes]) -> None:
    incoming = LatestIncoming()
    for frame in strange:
        try:
            message = incoming.take(frame)
        except InvalidMessage:
            continue
        assert message is None or len(message) <= MAX_LATEST


def test_a_newest_message_that_is_too_long_is_refused() -> None:
    incoming = LatestIncoming()
    with pytest.raises(InvalidMessage, match="long"):
        take_all(incoming, [bytes([0, 0, 0, 0, 1, index]) + bytes(1000) for index in range(200)])
