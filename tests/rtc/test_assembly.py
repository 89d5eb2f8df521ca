"""Frames from packets in any order."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rtc_helpers import Clip

from synopticon_rtc.rtc import assembly
from synopticon_rtc.rtc.assembly import (
    CAPACITY,
    MAX_DROPOUT,
    MOST_MISSING,
    SURE_OF_OLD,
    EncodedVideoFrame,
    FrameBuffer,
    Piece,
    depayload,
)
from synopticon_rtc.rtc.stream import Codec

FIRST = 65_530
"""Sequence numbers wrap around early."""


def pieces_of(sizes: list[int], keyframes: frozenset[int] = frozenset({0})) -> list[Piece]:
    """Cut frames of so many packets each into pieces, each of which holds its own number."""
    pieces: list[Piece] = []
    for frame, size in enumerate(sizes):
        for index in range(size):
            number = len(pieces)
            key = frame in keyframes
            pieces.append(
                Piece(
                    sequence_number=(FIRST + number) % 65_536,
                    timestamp=frame,
                    marker=index == size - 1,
                    data=number.to_bytes(4, "big"),
                    keyframe=key and index == 0,
                    start=index == 0,
                    continues=index > 0,
                )
            )
    return pieces


def feed(buffer: FrameBuffer, pieces: list[Piece]) -> list[int]:
    """Return the timestamps of the frames that come out, each of which must be whole, but for those known not to be."""
    out = []
    for piece in pieces:
        for frame in buffer.add(piece).frames:
            if frame[0].continues:
                continue
            numbers = [int.from_bytes(part.data, "big") for part in frame if part.data]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            assert len({part.timestamp for part in frame}) == 1
            out.append(frame[0].timestamp)
    return out


sizes = st.lists(st.integers(1, 12), min_size=1, max_size=30)


@given(sizes)
def test_each_frame_comes_out_with_its_last_packet(sizes: list[int]) -> None:
    buffer = FrameBuffer()
    for piece in pieces_of(sizes):
        outcome = buffer.add(piece)
        assert len(outcome.frames) == piece.marker
        assert not outcome.lost
        assert not outcome.gap


@settings(max_examples=40)
@given(sizes, st.randoms(use_true_random=False), st.integers(1, 40))
def test_packets_out_of_order_and_twice_make_the_same_frames(
    sizes: list[int], chance: random.Random, distance: int
) -> None:
    pieces = pieces_of(sizes)
    numbers = [*range(len(pieces)), *chance.sample(range(len(pieces)), len(pieces) // 3)]
    jumbled = [pieces[number] for number in sorted(numbers, key=lambda number: number + chance.randrange(distance))]
    assert feed(FrameBuffer(), [pieces[0], *jumbled]) == list(range(len(sizes)))


def test_the_first_packets_may_be_out_of_order_too() -> None:
    first, second, third, *rest = pieces_of([3, 2, 1])
    assert feed(FrameBuffer(), [second, first, third, *rest]) == [0, 1, 2]
    assert feed(FrameBuffer(), [second, third, first, *rest]) == [1, 2]


def test_a_missing_packet_holds_frames_back_until_it_comes() -> None:
    pieces = pieces_of([3, 3, 3, 3])
    buffer = FrameBuffer()
    assert feed(buffer, pieces[:4]) == [0]
    assert not buffer.missing
    assert feed(buffer, pieces[5:]) == []
    assert len(buffer.missing) == 1
    assert feed(buffer, [pieces[4]]) == [1, 2, 3]
    assert not buffer.missing


def test_a_complete_keyframe_goes_ahead_of_what_is_missing() -> None:
    pieces = pieces_of([3, 3, 3, 3, 2], keyframes=frozenset({0, 3}))
    buffer = FrameBuffer()
    assert feed(buffer, pieces[:4] + pieces[5:]) == [0, 3, 4]
    assert feed(buffer, [pieces[4]]) == []


def test_what_stays_missing_is_given_up() -> None:
    pieces = pieces_of([2] * (CAPACITY // 2 + 20), keyframes=frozenset({0}))
    buffer = FrameBuffer()
    losses = []
    for piece in [*pieces[:4], *pieces[5:]]:
        losses.append(buffer.add(piece).lost)
        assert len(buffer._pieces) <= CAPACITY
    assert losses.count(True) == 1
    assert buffer._next > pieces[5].sequence_number


def test_what_is_missing_can_be_given_up_up_to_the_keyframe_that_has_begun() -> None:
    pieces = pieces_of([3, 3, 3, 3], keyframes=frozenset({0, 2}))
    buffer = FrameBuffer()
    assert feed(buffer, pieces[:4] + pieces[5:8]) == [0]
    outcome = buffer.give_up()
    assert (outcome.frames, outcome.lost, buffer.missing) == ((), True, [])
    assert feed(buffer, pieces[8:]) == [2, 3]


@pytest.mark.parametrize("size", [511, 512, 513, 5000, CAPACITY])
def test_a_frame_may_have_as_many_packets_as_can_be_held(size: int) -> None:
    assert feed(FrameBuffer(), pieces_of([size, 1, size])) == [0, 1, 2]


def test_a_frame_without_an_end_is_given_up_and_what_follows_comes_out() -> None:
    size = CAPACITY * 2
    pieces = pieces_of([size, 2, 2], keyframes=frozenset({1}))
    buffer = FrameBuffer()
    lost = 0
    for piece in pieces[: size - 1]:
        outcome = buffer.add(piece)
        lost += outcome.lost
        assert not outcome.frames
        assert len(buffer._pieces) <= CAPACITY
    assert lost >= 1
    assert feed(buffer, pieces[size:])[-2:] == [1, 2]


def test_bytes_that_are_held_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "CAPACITY_BYTES", 1000)
    buffer = FrameBuffer()
    for number in range(100):
        buffer.add(Piece(number, 0, marker=False, data=b"x" * 100))
        assert buffer._bytes == 100 * len(buffer._pieces) <= 1000


@pytest.mark.parametrize("missing", [False, True])
def test_the_work_for_a_packet_does_not_grow_with_its_frame(missing: bool) -> None:  # noqa: FBT001 - a parameter
    def lookups(size: int) -> int:
        class Counted(dict[int, Piece]):
            count = 0

            def get(self, *arguments: Any) -> Any:
                Counted.count += 1
                return super().get(*arguments)

        buffer = FrameBuffer()
        buffer._pieces = Counted()
        pieces = pieces_of([size])
        feed(buffer, [*pieces[:1], *pieces[2:], pieces[1]] if missing else pieces)
        return Counted.count

    assert lookups(4000) < 4.5 * lookups(1000)


def test_losses_in_a_large_frame_are_waited_for() -> None:
    pieces = pieces_of([2000, 1])
    lost = pieces[100:1900:10]
    buffer = FrameBuffer()
    assert feed(buffer, [piece for piece in pieces if piece not in lost]) == []
    assert len(buffer.missing) == len(lost) > MOST_MISSING
    assert feed(buffer, lost) == [0, 1]


def test_what_is_missing_is_known_by_number() -> None:
    pieces = pieces_of([3, 3, 3, 3], keyframes=frozenset({0, 3}))
    buffer = FrameBuffer()
    feed(buffer, [pieces[at] for at in (0, 1, 2, 4, 7)])
    missing = [(number - FIRST) % 65_536 for number in buffer.missing]
    assert missing == [3, 5, 6]
    assert buffer.keyframe is None
    feed(buffer, [pieces[9]])
    assert buffer.keyframe is not None
    assert [(number - FIRST) % 65_536 for number in buffer.missing] == [*missing, 8]
    feed(buffer, pieces[10:])
    assert list(buffer.missing) == []
    assert buffer.keyframe is None


def test_when_too_much_is_missing_it_is_given_up_with_the_frame_that_was_cut() -> None:
    pieces = pieces_of([3] * 40, keyframes=frozenset({0, 35}))
    buffer = FrameBuffer()
    assert feed(buffer, pieces[:4]) == [0]
    outcome = buffer.add(pieces[6 + MOST_MISSING])
    assert (outcome.frames, outcome.lost) == ((), True)
    assert not buffer.missing
    # This far nothing begins; what comes next does.
    rest = pieces[7 + MOST_MISSING :]
    assert feed(buffer, rest)[0] == rest[0].timestamp + 1
    assert not buffer.missing


def test_a_keyframe_that_has_come_outlives_what_is_given_up() -> None:
    pieces = pieces_of([3] * 60, keyframes=frozenset({0, 30}))
    buffer = FrameBuffer()
    assert feed(buffer, pieces[:4]) == [0]
    assert buffer.add(pieces[90]).lost
    assert feed(buffer, pieces[91:]) == list(range(30, 60))


def test_padding_belongs_to_no_frame() -> None:
    padding = Piece(FIRST + 2, 0, marker=False, data=b"")
    buffer = FrameBuffer()
    first, second = pieces_of([2])
    after = Piece(FIRST + 3, 1, marker=True, data=b"\0\0\0\3")
    assert feed(buffer, [first, second, padding, after]) == [0, 1]


def test_a_frame_without_a_marker_ends_where_the_next_begins() -> None:
    first, second, third = pieces_of([2, 1])
    unmarked = Piece(second.sequence_number, 0, marker=False, data=second.data)
    assert feed(FrameBuffer(), [first, unmarked, third]) == [0, 1]


def test_a_sender_that_marks_packets_within_a_frame_is_found_out() -> None:
    buffer = FrameBuffer()
    pieces = [
        Piece(at, at // 3, marker=True, data=at.to_bytes(4, "big"), start=at % 3 == 0, continues=at % 3 > 0)
        for at in range(30)
    ]
    outcomes = [buffer.add(piece) for piece in pieces]
    assert [len(frame) for outcome in outcomes for frame in outcome.frames] == [1, 1, 1, *[3] * 8]
    assert [at for at, outcome in enumerate(outcomes) if outcome.lost] == [1]


# Streams that start anew


def keyframes(first: int, count: int, timestamp: int) -> list[Piece]:
    """Return keyframes of one packet each."""
    return [
        Piece((first + at) & 0xFFFF, timestamp + at, marker=True, data=at.to_bytes(4, "big"), keyframe=True, start=True)
        for at in range(count)
    ]


@pytest.mark.parametrize("jump", [-32_000, -20_000, -5_000, -2_000, -150, 3_200, 20_000, 32_000])
def test_numbers_that_start_anew_are_followed(jump: int) -> None:
    buffer = FrameBuffer()
    assert len(feed(buffer, keyframes(30_000, 100, 0))) == 100
    assert feed(buffer, keyframes(30_100 + jump, 50, 100)) == list(range(100, 150))


def test_numbers_that_start_anew_a_little_before_are_told_from_late_copies() -> None:
    buffer = FrameBuffer()
    feed(buffer, keyframes(30_000, 1000, 5000))
    assert feed(buffer, keyframes(30_500, SURE_OF_OLD - 1, 5500)) == []
    assert feed(buffer, keyframes(31_000, 2, 6000)) == [6000, 6001]
    assert feed(buffer, keyframes(30_500, SURE_OF_OLD + 10, 10))[-10:] == list(
        range(10 + SURE_OF_OLD, 20 + SURE_OF_OLD)
    )


def test_a_single_packet_from_far_away_changes_nothing() -> None:
    buffer = FrameBuffer()
    feed(buffer, keyframes(30_000, 10, 0))
    for stray in (100, 60_000, 101, 45_000):
        assert feed(buffer, keyframes(stray, 1, 5)) == []
    assert feed(buffer, keyframes(30_010, 10, 10)) == list(range(10, 20))


def test_what_is_sent_again_never_counts_as_a_new_start() -> None:
    buffer = FrameBuffer()
    feed(buffer, keyframes(30_000, 10, 0))
    for piece in keyframes(10_000, 200, 10):
        assert not buffer.add(piece, repair=True).frames
    assert feed(buffer, keyframes(30_010, 10, 10)) == list(range(10, 20))


def test_an_empty_buffer_does_not_begin_with_what_is_sent_again() -> None:
    buffer = FrameBuffer()
    assert not buffer.add(keyframes(10, 1, 0)[0], repair=True).frames
    assert feed(buffer, keyframes(30_010, 10, 10)) == list(range(10, 20))


class Sender:
    """Sends frames whose every packet names its stream, its frame and its place, to check what comes out."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.number = chance.randrange(65_536)
        self.timestamp = chance.randrange(2**32)
        self.frame = 0

    def restart(self) -> None:
        self.number = (
            self.number + self.chance.choice([-1, 1]) * self.chance.randrange(MAX_DROPOUT + 100, 32_000)
        ) & 0xFFFF

    def send(self, size: int, *, key: bool) -> list[Piece]:
        self.frame += 1
        self.timestamp = (self.timestamp + 3000) & 0xFFFFFFFF
        pieces = []
        for at in range(size):
            data = self.frame.to_bytes(4, "big") + at.to_bytes(2, "big") + size.to_bytes(2, "big") + bytes([key])
            piece = Piece(self.number, self.timestamp, at == size - 1, data, key and at == 0, at == 0, at > 0)
            pieces.append(piece)
            self.number = (self.number + 1) & 0xFFFF
        return pieces


def check(frames: Sequence[list[Piece]], given: list[int]) -> None:
    """Note which frames have come out, each of which must be whole and newer than those before it."""
    for frame in frames:
        heads = [(part.data[:4], part.data[6:]) for part in frame]
        size = int.from_bytes(frame[0].data[6:8], "big")
        if frame[0].continues:
            continue  # the receiver drops it: nobody knows what came before
        assert len(set(heads)) == 1
        assert [int.from_bytes(part.data[4:6], "big") for part in frame] == list(range(size))
        number = int.from_bytes(frame[0].data[:4], "big")
        assert not given or number > given[-1]
        given.append(number)


@settings(max_examples=60, deadline=None)
@example(seed=142_214, loss=0.4, distance=11)  # new numbers lie among those of which many are missing
@example(seed=3_718_554_429, loss=0.4, distance=30)  # packets come before the first, and keyframes behind it
@given(st.integers(0, 2**32), st.sampled_from([0, 0.02, 0.1, 0.4]), st.integers(1, 30))
def test_whatever_happens_frames_come_whole_in_order_once_and_go_on_after_a_keyframe(
    seed: int, loss: float, distance: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    buffer, sender, given = FrameBuffer(), Sender(chance), list[int]()
    for _ in range(chance.randrange(1, 5)):
        pieces = [
            piece
            for _ in range(chance.randrange(1, 40))
            for piece in sender.send(chance.choice([1, 2, 3, 10, 100, 700]), key=chance.random() < 0.1)
        ]
        kept = [piece for piece in pieces if chance.random() >= loss]
        kept += chance.sample(kept, len(kept) // 20)
        order = sorted(range(len(kept)), key=lambda at: at + chance.randrange(distance))
        for at in order:
            check(buffer.add(kept[at]).frames, given)
            assert len(buffer._begun) <= 1 + assembly.MOST_KEYFRAMES
        if chance.random() < 0.3:
            sender.restart()
        clean = [*sender.send(3, key=True), *sender.send(2, key=False), *sender.send(1, key=False)]
        for piece in clean:
            check(buffer.add(piece).frames, given)
        assert given[-3:] == [sender.frame - 2, sender.frame - 1, sender.frame]


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_keyframes_are_told_apart_and_payloads_give_the_frame_again(codec: Codec) -> None:
    clip = Clip(codec)
    for number in range(6):
        if number == 3:
            clip._request()
        packet = clip.packet()
        payloads = clip.stream._cut(bytes(packet), packet.pts or 0, keyframe=packet.is_keyframe)
        pieces = [
            depayload(codec, at, 0, marker=at == len(payloads) - 1, payload=data) for at, data in enumerate(payloads)
        ]
        assert pieces[0].keyframe == packet.is_keyframe == (number in {0, 3})
        assert not pieces[0].continues
        whole = b"".join(piece.data for piece in pieces)
        if codec == "vp8":
            assert whole == bytes(packet)
            assert [piece.start for piece in pieces] == [True, *[False] * (len(pieces) - 1)]
        else:
            assert whole.replace(b"\0\0\0\1", b"\0\0\1") == bytes(packet).replace(b"\0\0\0\1", b"\0\0\1")


@given(
    st.booleans(),
    st.integers(0, 7),
    st.none() | st.integers(0, 0x7F) | st.integers(0x80, 0x7FFF),
    st.none() | st.integers(0, 255),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=5),
)
def test_a_vp8_payload_is_found_behind_all_optional_fields(
    begins: bool,  # noqa: FBT001
    partition: int,
    picture: int | None,
    level: int | None,
    layer: bool,  # noqa: FBT001
    key_index: bool,  # noqa: FBT001
    data: bytes,
) -> None:
    fields = b""
    if picture is not None:
        fields += bytes([picture]) if picture < 0x80 else (0x8000 | picture).to_bytes(2, "big")
    if level is not None:
        fields += bytes([level])
    if layer or key_index:
        fields += b"\x5f"
    flags = (picture is not None) << 7 | (level is not None) << 6 | layer << 5 | key_index << 4
    head = bytes([0x80 * bool(flags) | begins << 4 | partition, *([flags] if flags else [])])
    piece = depayload("vp8", 1, 2, marker=True, payload=head + fields + data)
    assert (piece.data, piece.broken) == (data, False)
    assert piece.start == (begins and partition == 0) != piece.continues
    assert piece.keyframe == (piece.start and bool(data) and not data[0] & 1)


@given(st.sampled_from(["vp8", "h264"]), st.binary(max_size=40))
def test_any_payload_is_a_piece_even_if_an_empty_one(codec: str, payload: bytes) -> None:
    piece = depayload(codec, 7, 8, marker=True, payload=payload)
    assert (piece.sequence_number, piece.timestamp, piece.marker) == (7, 8, True)
    assert not (piece.broken and piece.data)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="vp9"):
        depayload("vp9", 0, 0, marker=True, payload=b"x")


# Presentation times


@pytest.mark.parametrize(("timestamp", "epoch", "pts"), [(900, 0, -100), (500, 2**32, 2**32 - 500), (1000, 0, 0)])
def test_a_packet_has_a_time_that_runs_on_and_may_be_before_the_start(timestamp: int, epoch: int, pts: int) -> None:
    frame = EncodedVideoFrame("vp8", b"x", timestamp, keyframe=True, arrived=0, epoch=epoch)
    assert frame.packet(1000).pts == frame.packet(1000).dts == pts
