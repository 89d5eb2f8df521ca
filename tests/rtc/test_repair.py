"""What one peer is sent again."""

import pytest
from frames import encoded

from synopticon_rtc.rtc.rate import FEWEST_REPEATS, REPEATS, RateControl
from synopticon_rtc.rtc.repair import LOOKUPS, PADDED_AT_ONCE, REPAIRS, Repair
from synopticon_rtc.rtc.stream import EncodedFrame

FIRST = 65_530
"""The sequence number of the first packet, so that numbers wrap around."""


class Notebook:
    """Writes down what it is to send again."""

    def __init__(self, *, has_rtx: bool = True) -> None:
        self.next_number = FIRST
        self.has_rtx = has_rtx
        self.works = True
        self.sent: list[tuple[bytes, int]] = []

    def write_again(self, frame: EncodedFrame, index: int, number: int) -> int:
        if not self.works:
            return 0
        self.sent.append((frame.payloads[index], number))
        return len(frame.payloads[index])


def sent(frames: int, *, has_rtx: bool = True, size: int = 100) -> tuple[Repair, Notebook, list[bytes]]:
    """Return what repairs, once frames of four packets each were sent, and their payloads."""
    notebook = Notebook(has_rtx=has_rtx)
    repair = Repair(notebook, RateControl())
    payloads = []
    for number in range(frames):
        frame = encoded(number, keyframe=number == 0, packets=4, size=size)
        repair.history.add(notebook.next_number, frame)
        notebook.next_number += 4
        payloads += frame.payloads
    return repair, notebook, payloads


def test_the_packets_that_are_missed_are_sent_again_under_their_numbers() -> None:
    repair, notebook, payloads = sent(4)
    lost = [FIRST + 1, (FIRST + 10) % 2**16]
    repair.repair(0.0, lost)
    assert notebook.sent == [(payloads[1], lost[0]), (payloads[10], lost[1])]
    assert repair.retransmits == 2


def test_a_packet_that_is_named_often_is_sent_again_once() -> None:
    repair, notebook, _ = sent(2)
    repair.repair(0.0, [FIRST] * 100)
    assert len(notebook.sent) == repair.retransmits == 1


def test_what_was_never_sent_is_not_sent_again() -> None:
    repair, notebook, _ = sent(2)
    repair.repair(0.0, [FIRST - 1, (FIRST + 8) % 2**16])
    assert not notebook.sent


def test_what_could_not_be_sent_is_not_counted() -> None:
    repair, notebook, _ = sent(2)
    notebook.works = False
    repair.repair(0.0, [FIRST])
    assert repair.retransmits == 0


def test_repairs_are_bounded_at_once_and_by_the_second() -> None:
    repair, notebook, _ = sent(100, size=10)
    lost = [number % 2**16 for number in range(FIRST, FIRST + 400)]
    for _ in range(10):
        repair.repair(1.0, lost)
    assert len(notebook.sent) == REPAIRS[1]
    repair.repair(1.01, lost)
    assert len(notebook.sent) == REPAIRS[1] + round(REPAIRS[0] * 0.01)


def test_packets_that_are_not_known_cost_lookups_that_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    repair, _, _ = sent(1)
    looked_for: list[int] = []
    monkeypatch.setattr(repair.history, "find", lambda number, _: looked_for.append(number))
    for _ in range(3):
        repair.repair(0.0, range(1000, 60_000))
    assert len(looked_for) == LOOKUPS[1]


@pytest.mark.parametrize("octets", [0, 100_000])
def test_repairs_do_not_congest_a_link_by_themselves(octets: int) -> None:
    repair, notebook, _ = sent(40, size=1200)
    repair._rate.sent(0.0, octets)
    repair.repair(0.1, [number % 2**16 for number in range(FIRST, FIRST + 160)])
    most = max(FEWEST_REPEATS, REPEATS * octets)
    assert most <= 1200 * len(notebook.sent) < most + 1200


def test_padding_is_what_was_sent_last_as_much_as_is_due() -> None:
    repair, notebook, payloads = sent(10)
    repair.pad(1.0)
    assert not notebook.sent
    repair._rate.padding = 80_000.0  # 10,000 octets a second
    repair.pad(1.045)
    assert [payload for payload, _ in notebook.sent] == [*payloads[36:40], payloads[32]]


def test_a_pause_is_not_made_up_for() -> None:
    repair, notebook, _ = sent(40)
    repair._rate.padding = 80_000.0
    repair.pad(1000.0)
    assert len(notebook.sent) == 10  # those of 0.1 s


def test_padding_is_bounded_at_once() -> None:
    repair, notebook, _ = sent(100)
    repair._rate.padding = 1e9
    repair.pad(1.0)
    assert len(notebook.sent) == PADDED_AT_ONCE


def test_where_there_is_too_little_to_send_again_the_rest_is_not_owed() -> None:
    repair, notebook, _ = sent(1)
    repair._rate.padding = 800_000.0
    repair.pad(1.0)
    assert len(notebook.sent) == 4
    repair._rate.padding = 800.0
    repair.pad(1.001)
    assert len(notebook.sent) == 5


def test_without_a_stream_of_its_own_for_repairs_nothing_is_padded() -> None:
    repair, notebook, _ = sent(10, has_rtx=False)
    repair._rate.padding = 1e9
    repair.pad(1.0)
    assert not notebook.sent
