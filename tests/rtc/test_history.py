"""What was sent, found by its number."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synopticon_rtc.rtc.history import HISTORY_FRAMES, HISTORY_OCTETS, HISTORY_PACKETS, History
from synopticon_rtc.rtc.stream import EncodedFrame

_stamps = itertools.count()


def frame(packets: int, size: int = 1) -> EncodedFrame:
    payloads = [b"x" * size] * packets
    timestamp = next(_stamps)
    return EncodedFrame(
        payloads, [payloads], packets * size, timestamp, keyframe=False, ntp_time=0, captured=0, stamped=False
    )


class Sent:
    """A history, and all that was ever put into it."""

    def __init__(self, first: int) -> None:
        self.history = History()
        self.end = first
        self.packets: list[tuple[int, EncodedFrame, int]] = []

    def send(self, sent: EncodedFrame) -> None:
        self.history.add(self.end, sent)
        self.packets += [(self.end + index, sent, index) for index in range(len(sent.payloads))]
        self.end += len(sent.payloads)

    def find(self, number: int) -> tuple[EncodedFrame, int] | None:
        return self.history.find(number & 0xFFFF, self.end)

    def latest(self, number: int) -> tuple[EncodedFrame, int]:
        """What was last sent under that number, of its 16 bits."""
        _, whole, index = self.packets[-1 - ((self.end - 1 - number) & 0xFFFF)]
        return whole, index


@pytest.mark.parametrize("first", [0, 1, 65_530, 65_535])
def test_each_packet_is_found_whatever_its_number(first: int) -> None:
    sent = Sent(first)
    for packets in (1, 7, 2, 30):
        sent.send(frame(packets))
    for number, whole, index in sent.packets:
        assert sent.find(number) == (whole, index)
    assert sent.find(first - 1) is None
    assert sent.find(sent.end) is None


@settings(deadline=None)
@given(
    first=st.integers(0, 65_535),
    frames=st.lists(st.one_of(st.integers(1, 40), st.integers(1000, HISTORY_PACKETS + 10)), min_size=1, max_size=12),
    numbers=st.lists(st.integers(0, 65_535), max_size=20),
)
def test_a_number_names_one_packet_or_none_however_far_they_wrap(
    first: int, frames: list[int], numbers: list[int]
) -> None:
    sent = Sent(first)
    for packets in frames:
        sent.send(frame(packets))
        for number in (*numbers, first, sent.end - 1, sent.end):
            found = sent.find(number)
            assert found is None or found == sent.latest(number)
    if frames[-1] <= HISTORY_PACKETS:
        assert sent.find(sent.end - 1) is not None


def test_it_is_bounded_in_frames_packets_and_octets() -> None:
    few, many, large = Sent(7), Sent(7), Sent(7)
    for _ in range(3 * HISTORY_FRAMES):
        few.send(frame(1))
        many.send(frame(1000))
        large.send(frame(100, size=1200))
    assert len(few.history) == HISTORY_FRAMES
    assert len(many.history) == HISTORY_PACKETS // 1000
    assert len(large.history) == HISTORY_OCTETS // 120_000
    assert HISTORY_PACKETS < 2**15


def test_a_frame_of_more_packets_than_can_be_kept_is_not_kept() -> None:
    sent = Sent(7)
    sent.send(frame(3))
    sent.send(frame(HISTORY_PACKETS + 1))
    assert len(sent.history) == 0
    assert sent.find(sent.end - 1) is None
    sent.send(frame(3))
    assert sent.find(sent.end - 1) is not None


def test_what_was_not_sent_in_full_is_forgotten() -> None:
    sent = Sent(65_534)
    sent.send(frame(3))
    sent.send(frame(5))
    sent.history.drop_newest()
    assert sent.find(sent.end - 1) is None
    assert sent.find(65_534) is not None
    sent.send(frame(2))  # the numbers of what was not sent are used up
    assert sent.find(sent.end - 1) == (sent.packets[-1][1], 1)
    assert sent.find(sent.end - 3) is None
