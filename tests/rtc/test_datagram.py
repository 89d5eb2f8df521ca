"""Messages that are sent once: at once where nothing waits, and acknowledged several at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiortc.rtcsctptransport import USERDATA_MAX_LENGTH, WEBRTC_BINARY, DataChunk
from rtc_attacks import FIRST, LAST, UNORDERED, Attacker, attacked, data, sctp_of
from rtc_helpers import Peer, Tap, join
from turned import elapse, turned

from synopticon_rtc.rtc import Channel
from synopticon_rtc.rtc.association import ACKNOWLEDGE, Association
from synopticon_rtc.rtc.datagram import FLAGS, IMMEDIATE, Datagram

RECORD = 23
"""The first byte of a DTLS record with data."""
FRAME = 1 / 30


class Pair:
    """Two peers with a channel whose messages are sent once."""

    def __init__(self, sender: Peer, receiver: Peer, channel: Channel) -> None:
        self.channel = channel
        self.got: list[bytes | str] = []
        self.here: Any = sctp_of(sender)
        self.there: Any = sctp_of(receiver)
        receiver.channels[0].on_message = self.got.append
        self.out = Tap(sender, lambda _: False)
        self.back = Tap(receiver, lambda _: False)

    @property
    def acknowledgements(self) -> int:
        """SCTP packets that came back."""
        return sum(sent[0] == RECORD for sent in self.back.sent)


@contextlib.asynccontextmanager
async def paired() -> AsyncIterator[Pair]:
    async with Peer() as sender, Peer() as receiver:
        channel = sender.connection.add_channel("faces", ordered=False, max_retransmits=0, max_buffered=2048)
        await join(sender, receiver)
        await sender.until(lambda: channel.is_open)
        await receiver.until(lambda: receiver.channels)
        await elapse(1)
        yield Pair(sender, receiver, channel)


def is_data(sent: bytes) -> bool:
    return sent[0] == RECORD


# Sending


@turned
async def test_a_message_leaves_in_the_call_that_brings_it() -> None:
    async with paired() as pair:
        for message in (b"bytes", "text", bytes(USERDATA_MAX_LENGTH)):
            pair.out.sent.clear()
            assert pair.channel.send(message)
            assert sum(map(is_data, pair.out.sent)) == 1
            await elapse(0.5)
        assert pair.got == [b"bytes", "text", bytes(USERDATA_MAX_LENGTH)]


@turned
async def test_one_that_is_empty_or_too_long_for_a_packet_comes_as_well() -> None:
    async with paired() as pair:
        messages: list[bytes | str] = ["", b"", bytes(USERDATA_MAX_LENGTH + 1), "ä" * 1000]
        for message in messages:
            assert pair.channel.send(message)
        await elapse(0.5)
        assert pair.got == messages


@turned
async def test_one_longer_than_the_peer_takes_is_dropped() -> None:
    async with paired() as pair:
        pair.here._remote_max_message_size = 100
        assert not pair.channel.send(bytes(101))
        assert pair.channel.send(bytes(100))
        pair.here._remote_max_message_size = 0  # of any length
        assert pair.channel.send(bytes(101))
        await elapse(0.5)
        assert [len(message) for message in pair.got] == [100, 101]


@turned
async def test_it_gets_in_line_behind_what_waits() -> None:
    async with paired() as pair:
        messages: list[bytes | str] = [*(bytes([number]) * 2000 for number in range(3)), b"last"]
        for message in messages[:3]:
            pair.channel._channel.send(message)
        pair.channel._channel.send(messages[3])
        assert not any(map(is_data, pair.out.sent))
        await elapse(0.5)
        assert pair.got == messages


@turned
async def test_it_gets_in_line_behind_what_is_sent_again() -> None:
    async with paired() as pair:
        pair.out.drop = is_data
        await pair.here._send(1, WEBRTC_BINARY, b"again")
        pair.here._sent_queue[0]._retransmit = True
        pair.here._look_for_losses()
        pair.out.sent.clear()
        assert pair.channel.send(b"new")
        assert not any(map(is_data, pair.out.sent))


@turned
async def test_on_a_dead_link_no_more_is_sent_than_the_window_and_the_rest_is_dropped() -> None:
    async with paired() as pair:
        pair.out.drop = is_data
        taken = 0
        for _ in range(100):
            taken += pair.channel.send(bytes(400))
            await asyncio.sleep(0)
        assert pair.here._flight_size <= pair.here._cwnd + 400
        assert taken * 400 <= pair.here._cwnd + 2048 + 3 * 400


@turned
async def test_one_that_comes_as_dtls_ends_is_lost_and_says_nothing() -> None:
    async with paired() as pair:
        pair.here.transport._ssl.shutdown()
        pair.out.sent.clear()
        pair.channel.send(b"message")
        assert not any(map(is_data, pair.out.sent))


@turned
async def test_what_is_lost_is_forgotten_at_both_ends() -> None:
    async with paired() as pair:
        count = iter(range(1000))
        pair.out.drop = lambda sent: is_data(sent) and next(count) % 3 == 0
        for number in range(60):
            assert pair.channel.send(b"%d" % number)
            await elapse(FRAME)
        pair.out.drop = lambda _: False
        await elapse(5)
        assert pair.channel.send(b"after")
        await elapse(1)
        assert pair.got[-1] == b"after"
        assert 30 < len(pair.got) < 50
        assert not pair.here._sent_queue
        assert not pair.there._sack_misordered
        assert pair.here._flight_size == 0


@turned
async def test_it_has_all_that_aiortc_gives_a_chunk_and_looks_the_same_on_the_wire() -> None:
    """When this fails, aiortc keeps something else of a chunk."""
    async with paired() as pair:
        pair.out.drop = is_data
        await pair.here._send(1, WEBRTC_BINARY, b"message", max_retransmits=0, ordered=False)
        (theirs,) = pair.here._sent_queue
        ours = Datagram(theirs.tsn, 1, WEBRTC_BINARY, b"message")
        assert theirs.flags == FLAGS | IMMEDIATE
        theirs.flags = FLAGS
        assert bytes(ours) == bytes(theirs)
        different = {name for name, value in vars(theirs).items() if getattr(ours, name) != value}
        assert different == {"_sent_count", "_sent_time"}
        assert set(DataChunk.__annotations__) <= set(dir(ours))


@turned
async def test_acknowledgements_that_may_wait_tell_no_round_trip() -> None:
    async with paired() as pair:
        before = pair.here._srtt
        for _ in range(10):
            pair.channel.send(b"message")
            await elapse(FRAME)
        assert pair.here._srtt == before


@turned
async def test_an_acknowledgement_of_all_leaves_what_aiortc_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with paired() as pair:
        left = []
        for shortcut in (True, False):
            if not shortcut:
                monkeypatch.setattr(Association, "_rests", lambda _: False)
            pair.channel.send(b"message")
            pair.channel.send(b"message")
            await elapse(0.5)
            here = pair.here
            tsns = here._last_sacked_tsn - here._local_tsn, here._advanced_peer_ack_tsn - here._local_tsn
            left.append((*tsns, here._flight_size, here._cwnd, here._t3_handle, list(here._sent_queue)))
            assert not here.retransmission.is_set
        assert left[0] == left[1]


# Acknowledgements


@turned
async def test_as_many_as_fill_a_packet_are_acknowledged_at_once() -> None:
    async with paired() as pair:
        pair.back.sent.clear()
        for number in range(1, 10):
            pair.channel.send(bytes(USERDATA_MAX_LENGTH // 3 + 1))
            await elapse(0.025)
            assert pair.acknowledgements == number // 3
        assert not pair.here._sent_queue


@turned
async def test_small_ones_are_acknowledged_ten_times_a_second() -> None:
    async with paired() as pair:
        pair.back.sent.clear()
        for _ in range(60):
            pair.channel.send(b"message")
            await elapse(FRAME)
        assert 14 <= pair.acknowledgements <= 20
        assert len(pair.here._sent_queue) <= 5


@turned
async def test_one_that_no_other_follows_is_acknowledged_soon() -> None:
    async with paired() as pair:
        pair.back.sent.clear()
        pair.channel.send(b"message")
        await elapse(0.01 + ACKNOWLEDGE - 0.001)
        assert pair.acknowledgements == 0
        await elapse(0.002)
        assert pair.acknowledgements == 1
        await elapse(1)
        assert pair.acknowledgements == 1


def ordered(attacker: Attacker) -> list[bytes]:
    return [data(attacker.take_tsns(1), 1, 0, b"x", FIRST | LAST)]


def hasty(attacker: Attacker) -> list[bytes]:
    return [data(attacker.take_tsns(1), 1, 0, b"x", FLAGS | IMMEDIATE)]


def in_parts(attacker: Attacker) -> list[bytes]:
    return [data(attacker.take_tsns(1), 1, 0, b"x", UNORDERED | FIRST)]


def behind_a_gap(attacker: Attacker) -> list[bytes]:
    return [data(attacker.tsn + 1, 1, 0, b"x", FLAGS)]


def known(attacker: Attacker) -> list[bytes]:
    return [data(attacker.tsn - 1, 1, 0, b"x", FLAGS)]


def large(attacker: Attacker) -> list[bytes]:
    return [data(attacker.take_tsns(1), 1, 0, bytes(USERDATA_MAX_LENGTH), FLAGS)]


@pytest.mark.parametrize("what", [ordered, hasty, in_parts, behind_a_gap, known, large])
@turned
async def test_all_else_is_acknowledged_at_once(what: Any) -> None:
    async with attacked() as (attacker, victim):
        await elapse(1)
        tap = Tap(victim, lambda _: False)
        await attacker.send(*what(attacker))
        await elapse(0.015)
        assert sum(map(is_data, tap.sent)) == 1
