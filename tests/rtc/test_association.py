"""SCTP from a peer that means harm: whatever comes, both ends live on, or this one peer is given up."""

import contextlib
import gc
import logging
import random
import resource
import subprocess
import sys
import time
from struct import pack

import pytest
from aiortc import rtcsctptransport
from aiortc.rtcsctptransport import DataChunk
from hypothesis import given, settings
from hypothesis import strategies as st
from rtc_attacks import (
    ABORT,
    DATA,
    ERROR,
    FIRST,
    FORWARD_TSN,
    HEARTBEAT,
    INIT,
    LAST,
    RECONFIG,
    SACK,
    UNORDERED,
    attacked,
    chunk,
    data,
    opening,
    sctp_of,
    sealed,
    seeded,
    still_talk,
)
from rtc_helpers import Peer, Tap, join
from turned import elapse, turned
from waiting import turns

from synopticon_rtc.rtc import association, chunks
from synopticon_rtc.rtc.ledbat import PACKET
from synopticon_rtc.rtc.reassembly import InboundStream

RECORD = 23
"""The first byte of a DTLS record with data."""
INIT_BODY = pack("!LLHHL", 1, 2**20, 10, 10, 1)


def parameter(kind: int, length: int, value: bytes = b"") -> bytes:
    return pack("!HH", kind, length) + value


MALFORMED = {
    "heartbeat, length 0": chunk(HEARTBEAT, parameter(1, 0)),
    "heartbeat, length 3": chunk(HEARTBEAT, parameter(1, 3)),
    "heartbeat, beyond the chunk": chunk(HEARTBEAT, parameter(1, 400)),
    "reconfiguration, length 0": chunk(RECONFIG, parameter(13, 0)),
    "reconfiguration, cut short": chunk(RECONFIG, parameter(13, 8, bytes(4))),
    "reconfiguration, odd": chunk(RECONFIG, parameter(13, 17, bytes(13))),
    "reconfiguration, answer cut short": chunk(RECONFIG, parameter(16, 8, bytes(4))),
    "reconfiguration, added streams cut short": chunk(RECONFIG, parameter(17, 5, bytes(4))),
    "reconfiguration, many": chunk(RECONFIG, parameter(17, 12, bytes(8)) * 20),
    "init, length 0": chunk(INIT, INIT_BODY + parameter(1, 0)),
    "init, cut short": chunk(INIT, INIT_BODY[:10]),
    "init, empty": chunk(INIT, b""),
    "init, without streams": chunk(INIT, pack("!LLHHL", 1, 2**20, 0, 0, 1)),
    "init in company": chunk(INIT, INIT_BODY) + chunk(HEARTBEAT, b""),
    "init with data": chunk(INIT, INIT_BODY) + chunk(DATA, bytes(16)),
    "init after data": chunk(DATA, bytes(16)) + chunk(INIT, INIT_BODY),
    "abort, length 0": chunk(ABORT, parameter(1, 0)),
    "error, length 1": chunk(ERROR, parameter(1, 1)),
    "chunk, length 0": chunk(HEARTBEAT, b"", length=0),
    "chunk, length 3": chunk(HEARTBEAT, b"", length=3),
    "chunk, beyond the packet": chunk(HEARTBEAT, b"", length=400),
    "data, empty": chunk(DATA, b""),
    "data, cut short": chunk(DATA, bytes(7)),
    "data without any": chunk(DATA, bytes(12)),
    "sack, empty": chunk(SACK, b""),
    "sack, gaps missing": chunk(SACK, pack("!LLHH", 0, 0, 9, 0)),
    "forward tsn, empty": chunk(FORWARD_TSN, b""),
    "forward tsn, cut short": chunk(FORWARD_TSN, bytes(6)),
    "shutdown, cut short": chunk(7, bytes(2)),
    "hundreds of heartbeats": chunk(HEARTBEAT, b"") * 250,
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_chunk_is_dropped(malformed: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with attacked() as (attacker, victim):
        for tag in (None, 0):
            await attacker.send(malformed, tag=tag)
        await still_talk(attacker, victim)
    assert not caplog.records


def test_aiortc_reads_a_parameter_of_length_0_for_ever() -> None:
    """When this fails, aiortc has mended it, and `chunks` may look at less."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (2, 2))
        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))

    code = "from aiortc.rtcsctptransport import decode_params; decode_params(bytes(4))"
    done = subprocess.run([sys.executable, "-c", code], check=False, preexec_fn=limit, stderr=subprocess.DEVNULL)
    assert done.returncode != 0


@given(
    st.lists(
        st.tuples(st.sampled_from([*range(16), 130, 192, 255]), st.binary(max_size=60), st.integers(-3, 3)), max_size=5
    ),
    st.binary(max_size=5),
)
@settings(max_examples=500)
def test_what_is_sound_is_read_by_aiortc(pieces: list[tuple[int, bytes, int]], rest: bytes) -> None:
    body = b"".join(chunk(kind, body, length=max(0, len(body) + 4 + more)) for kind, body, more in pieces)
    packet = sealed(pack("!HHLL", 5000, 5000, 1, 0) + body + rest)
    if chunks.is_sound(packet) and len(packet) >= 16:
        for read in rtcsctptransport.parse_packet(packet)[3]:
            if isinstance(read, rtcsctptransport.ReconfigChunk):
                for kind, value in read.params:
                    if kind in rtcsctptransport.RECONFIG_PARAM_TYPES:
                        rtcsctptransport.RECONFIG_PARAM_TYPES[kind].parse(value)


async def test_acknowledgements_of_what_was_not_sent_are_dropped() -> None:
    async with attacked() as (attacker, victim):
        last = (sctp_of(victim)._local_tsn - 1) % 2**32
        wide = [(1, 65_535)] * 250
        for gaps in wide, [(5, 3)], [(1, 1)], [(0, 0)]:
            body = pack("!LLHH", last, 2**20, len(gaps), 0) + b"".join(pack("!HH", *gap) for gap in gaps)
            began = time.thread_time()
            await sctp_of(victim)._handle_data(packet_to(victim, chunk(SACK, body)))
            assert time.thread_time() - began < 0.02
        await attacker.send(chunk(SACK, pack("!LLHH", (last + 1000) % 2**32, 2**20, 0, 0)))
        await still_talk(attacker, victim)


def packet_to(peer: Peer, *pieces: bytes) -> bytes:
    return sealed(pack("!HHLL", 5000, 5000, sctp_of(peer)._local_verification_tag, 0) + b"".join(pieces))


async def test_an_init_in_the_middle_changes_nothing() -> None:
    async with attacked() as (attacker, victim):
        for _ in range(100):
            await attacker.send(chunk(INIT, INIT_BODY), tag=0)
        await still_talk(attacker, victim)


async def test_numbers_far_ahead_are_not_kept() -> None:
    async with attacked() as (attacker, victim):
        for ahead in (association.MAX_AHEAD + 1, 100_000, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1):
            await attacker.send(data(attacker.tsn + ahead, 1, 0, b"far"))
        await still_talk(attacker, victim)
        assert not sctp_of(victim)._sack_misordered


async def test_a_jump_over_2_to_the_31_costs_nothing() -> None:
    async with attacked() as (attacker, victim):
        far = (attacker.take_tsns(2**31 - 1) + 2**31 - 2) % 2**32
        body = pack("!L", far) + b"".join(pack("!HH", stream, 7) for stream in range(200))
        began = time.thread_time()
        await sctp_of(victim)._handle_data(packet_to(victim, chunk(FORWARD_TSN, body)))
        assert time.thread_time() - began < 0.02
        assert len(sctp_of(victim)._inbound_streams) <= association.MAX_STREAMS
        attacker.sctp._last_sacked_tsn = attacker.sctp._advanced_peer_ack_tsn = far
        await still_talk(attacker, victim)


async def test_streams_without_end_are_bounded() -> None:
    async with attacked() as (attacker, victim):
        first = attacker.take_tsns(1000)
        for number in range(1000):
            await attacker.send(data(first + number, 65_535 - number * 60, 0, b"part", FIRST | LAST))
        await still_talk(attacker, victim)
        assert len(sctp_of(victim)._inbound_streams) <= association.MAX_STREAMS


@pytest.mark.parametrize(
    ("flags", "step"),
    [(0, 1), (FIRST, 1), (UNORDERED, 1), (FIRST | LAST, 1)],
    ids=["without a beginning", "begun anew each time", "unordered", "whole and never in order"],
)
@turned
async def test_a_peer_whose_messages_come_to_no_end_is_given_up(flags: int, step: int) -> None:
    async with attacked() as (attacker, victim), attacked() as (other, bystander):
        first = attacker.take_tsns(20_000)
        for number in range(20_000):
            if attacker.peer.connection.state != "connected" or victim.connection.state != "connected":
                break
            with contextlib.suppress(ConnectionError):
                await attacker.send(data(first + number * step, 1, 5 + number % 30_000, bytes(1000), flags))
            if number % 20 == 19:
                await elapse(0.001)
        await victim.until_state("failed")
        assert not sctp_of(victim)._inbound_streams
        await still_talk(other, bystander)


@turned
async def test_gaps_do_not_fill_memory_nor_end_the_connection() -> None:
    async with attacked() as (attacker, victim):
        first = attacker.tsn
        for number in range(1, 6000, 2):
            await attacker.send(data(first + number, 1, number, bytes(1000), FIRST | LAST))
            if number % 40 == 39:
                await elapse(0)
        await elapse(0.1)
        sctp = sctp_of(victim)
        assert sum(stream.size for stream in sctp._streams.values()) <= association.WINDOW  # type: ignore[attr-defined]
        assert len(sctp._sack_misordered) <= association.MAX_AHEAD
        # The gap closes: the honest stack of the attacker goes on where it was.
        await still_talk(attacker, victim)


@turned
async def test_a_message_that_is_too_long_is_given_up() -> None:
    async with attacked() as (attacker, victim):
        count = association.MAX_MESSAGE // 1000 + 2
        first = attacker.take_tsns(count)
        for number in range(count):
            if victim.connection.state == "connected":
                await attacker.send(data(first + number, 1, 0, bytes(1000), FIRST if number == 0 else 0))
                await elapse(0)
        await victim.until_state("failed")


async def test_the_largest_message_still_comes() -> None:
    async with attacked() as (attacker, victim):
        got: list[bytes | str] = []
        victim.channels[0].on_message = got.append
        message = seeded(1).randbytes(association.MAX_MESSAGE)
        assert attacker.channel.send(message)
        await victim.until(lambda: got)
        assert got == [message]


# Messages


@pytest.mark.parametrize(
    "message",
    [b"\x03", b"\x02", b"\xff", opening(b"x" * 300), opening(b"\xff\xfe"), opening(b"x")[:-1]],
    ids=["cut short", "acknowledged", "unknown", "long name", "no UTF-8", "name missing"],
)
async def test_a_malformed_opening_is_ignored(message: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with attacked() as (attacker, victim):
        for stream in (1, 7, 65_535):
            await attacker.send(data(attacker.take_tsns(1), stream, 0, message, protocol=50))
        await still_talk(attacker, victim)
        assert len(victim.channels) <= 2
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


async def test_text_that_is_no_utf_8_is_dropped_and_what_follows_comes(caplog: pytest.LogCaptureFixture) -> None:
    async with attacked() as (attacker, victim):
        stream = sctp_of(attacker.peer)._data_channels
        (number,) = stream
        sequence = attacker.sctp._outbound_stream_seq[number]
        first = attacker.take_tsns(2)
        got: list[bytes | str] = []
        victim.channels[0].on_message = got.append
        await attacker.send(
            data(first, number, sequence, b"\xff\xfe", protocol=51),
            data(first + 1, number, sequence + 1, b"good", protocol=51),
        )
        await victim.until(lambda: got == ["good"])
        attacker.sctp._outbound_stream_seq[number] = sequence + 2
        await still_talk(attacker, victim)
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


@turned
async def test_channels_without_end_are_bounded() -> None:
    async with attacked() as (attacker, victim):
        first = attacker.take_tsns(1000)
        for number in range(1000):
            await attacker.send(data(first + number, number * 2 + 100, 0, opening(b"c%d" % number), protocol=50))
            await elapse(0)
        await still_talk(attacker, victim)
        assert len(victim.channels) <= association.MAX_CHANNELS


async def test_of_channels_with_the_same_subprotocol_and_name_there_is_one() -> None:
    async with attacked() as (attacker, victim):
        for _ in range(20):
            attacker.peer.connection.add_channel("control", protocol="control/1")
        attacker.peer.connection.add_channel("control", protocol="control/2")
        await victim.until(lambda: len(victim.channels) == 3)
        await still_talk(attacker, victim)
        assert sorted(channel.protocol for channel in victim.channels) == ["", "control/1", "control/2"]


async def test_a_channel_that_was_closed_may_be_opened_again() -> None:
    async with attacked() as (attacker, victim):
        for count in (2, 3):
            channel = attacker.peer.connection.add_channel("control", protocol="control/1")
            await victim.until(lambda count=count: len(victim.channels) == count)  # type: ignore[misc]
            closed: list[bool] = []
            victim.channels[-1].on_close = lambda closed=closed: closed.append(True)
            await attacker.peer.until(lambda channel=channel: channel.is_open)  # type: ignore[misc]
            channel.close()
            await victim.until(lambda closed=closed: closed)  # type: ignore[misc]


# Reassembly


def fragments(rng: random.Random, count: int) -> tuple[list[DataChunk], list[bytes]]:
    """Messages in fragments, ordered and not, and the messages."""
    made: list[DataChunk] = []
    messages: list[bytes] = []
    tsn, number = 2**32 - count // 2, 2**16 - count // 4
    for at in range(count):
        unordered = rng.random() < 0.3
        pieces = [b"%d.%d " % (at, piece) for piece in range(rng.choice([1, 1, 2, 5]))]
        for piece, payload in enumerate(pieces):
            flags = UNORDERED * unordered | FIRST * (piece == 0) | LAST * (piece == len(pieces) - 1)
            made.append(DataChunk(flags=flags, body=pack("!LHHL", tsn % 2**32, 1, number % 2**16, 53) + payload))
            tsn += 1
        number += not unordered
        messages.append(b"".join(pieces))
    return made, messages


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_messages_come_whole_and_in_order_however_chunks_come(seed: int, count: int) -> None:
    rng = seeded(seed)
    made, messages = fragments(rng, count)
    stream = InboundStream()
    stream.sequence_number = (2**16 - count // 4) % 2**16
    ordered = [
        b for b, c in zip(messages, [c for c in made if c.flags & FIRST], strict=True) if not c.flags & UNORDERED
    ]
    rng.shuffle(made)
    got: list[bytes] = []
    for piece in made:
        stream.add_chunk(piece)
        got += [message[2] for message in stream.pop_messages()]
    assert sorted(got) == sorted(messages)
    assert [message for message in got if message in ordered] == ordered
    assert stream.size == stream.count == 0
    assert not stream._by_first
    assert not stream._by_last


@given(st.integers(0, 2**32), st.integers(1, 40), st.data())
def test_what_is_skipped_is_let_go_of(seed: int, count: int, draw: st.DataObject) -> None:
    rng = seeded(seed)
    made, _ = fragments(rng, count)
    stream = InboundStream()
    stream.sequence_number = (2**16 - count // 4) % 2**16
    came = [piece for piece in made if rng.random() < 0.6]
    rng.shuffle(came)
    for piece in came:
        stream.add_chunk(piece)
    list(stream.pop_messages())
    upto = draw.draw(st.sampled_from(made))
    size = stream.size
    stream.skip(upto.stream_seq)
    delivered = sum(len(message[2]) for message in stream.pop_messages())
    pruned = stream.prune_chunks(made[-1].tsn)
    assert size - delivered - pruned == stream.size
    assert all(run.begins and run.chunks[-1] is made[-1] for run in stream._by_last.values())
    assert not stream._by_first


def test_a_message_in_many_pieces_is_put_together_in_linear_time() -> None:
    def work(count: int) -> float:
        order = seeded(2).sample(range(count), count)
        stream = InboundStream()
        pieces = [DataChunk(flags=0, body=pack("!LHHL", number + 1, 1, 0, 53) + b"x") for number in order]
        began = time.thread_time()
        for piece in pieces:
            stream.add_chunk(piece)
        assert list(stream.pop_messages()) == []
        return time.thread_time() - began

    assert min(work(40_000) for _ in range(3)) < 8 * min(work(10_000) for _ in range(3))


# At the end


@pytest.mark.parametrize("timer", ["_t1_expired", "_t2_expired", "_t3_expired"])
async def test_a_timer_that_runs_out_as_the_connection_closes_says_nothing(
    timer: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Peer() as sender, Peer() as receiver:
        channel = sender.connection.add_channel("a")
        await join(sender, receiver)
        await sender.until(lambda: channel.is_open)
        sctp = sctp_of(sender)
        channel.send("not acknowledged yet")
        await turns()
        sctp._t1_chunk = sctp._t2_chunk = rtcsctptransport.CookieAckChunk()
        getattr(sctp, timer)()
        await sctp.stop()
        await sctp.transport.stop()
        await turns(5)
        gc.collect()  # what nobody took the error of is told when it is collected
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


# What goes together


@turned
async def test_messages_of_one_moment_go_in_as_few_packets_as_they_fit_into() -> None:
    messages: list[bytes | str] = [bytes([number]) * 300 for number in range(9)]
    async with Peer() as one, Peer() as two:
        channel = one.connection.add_channel("control")
        await join(one, two)
        await one.until(lambda: channel.is_open)
        await two.until(lambda: two.channels)
        got: list[bytes | str] = []
        two.channels[0].on_message = got.append
        out, back = Tap(one, lambda _: False), Tap(two, lambda _: False)
        for message in messages:
            channel.send(message)
        await elapse(0.05)
        assert got == messages
        assert [sum(sent[0] == RECORD for sent in tap.sent) for tap in (out, back)] == [3, 1]  # what came in one turn


# What can wait


@turned
async def test_aiortc_still_sends_what_all_channels_give_it_in_one_line() -> None:
    """Once it does not, patient channels need not hold back what they have."""
    heard: list[str] = []
    async with Peer() as one, Peer() as two:
        channels = [one.connection.add_channel(name, protocol="words/1") for name in ("flood", "urgent")]
        await join(one, two)
        await one.until(lambda: all(channel.is_open for channel in channels))
        for channel in two.channels:
            channel.on_message = lambda _, label=channel.label: heard.append(label)
        for _ in range(60):
            channels[0].send(bytes(1000))
        channels[1].send("now")
        await two.until(lambda: len(heard) == 61)
    assert heard.index("urgent") == 60


@turned
async def test_a_patient_channel_has_room_until_what_is_on_its_way_fills_the_window() -> None:
    progress: list[float] = []
    async with Peer() as one, Peer() as two:
        channel = one.connection.add_channel("notes", protocol="words/1")
        channel.make_patient(lambda: progress.append(channel.room))
        assert channel.room == 0
        await join(one, two)
        await one.until(lambda: channel.is_open)
        before = channel.room
        assert before >= PACKET
        channel.send(bytes(1000))
        assert (channel.room, channel.outstanding) == (before - 1000, 1000)
        await one.until(lambda: not channel.outstanding)
        assert progress[-1] > before
        await one.connection.close()
        assert channel.room == 0


@turned
async def test_a_patient_channel_that_is_closed_is_forgotten() -> None:
    async with Peer() as one, Peer() as two:
        channel = one.connection.add_channel("notes", protocol="words/1")
        channel.make_patient(lambda: None)
        await join(one, two)
        await one.until(lambda: channel.is_open)
        assert len(sctp_of(one).patient) == 1  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] - ours
        channel.close()
        await one.until(lambda: not sctp_of(one).patient)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue] - as above
