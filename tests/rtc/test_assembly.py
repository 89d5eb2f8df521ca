"""Frames from packets in any order."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtc_helpers import Clip

from synopticon_rtc.rtc.assembly import CAPACITY, MOST_MISSING, FrameBuffer, Piece, depayload
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
                    keyframe=key,
                    start=key and index == 0,
                )
            )
    return pieces


def feed(buffer: FrameBuffer, pieces: list[Piece]) -> list[int]:
    """Return the timestamps of the frames that come out, each of which must be whole."""
    out = []
    for piece in pieces:
        frames, _ = buffer.add(piece)
        for frame in frames:
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
        frames, lost = buffer.add(piece)
        assert len(frames) == piece.marker
        assert not lost


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
    assert feed(FrameBuffer(), [second, third, first, *rest])[1:] == [1, 2]


def test_a_missing_packet_holds_frames_back_until_it_comes() -> None:
    pieces = pieces_of([3, 3, 3, 3])
    buffer = FrameBuffer()
    assert feed(buffer, pieces[:4]) == [0]
    assert not buffer.incomplete
    assert feed(buffer, pieces[5:]) == []
    assert buffer.incomplete
    assert feed(buffer, [pieces[4]]) == [1, 2, 3]
    assert not buffer.incomplete


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
        _, lost = buffer.add(piece)
        losses.append(lost)
        assert len(buffer._pieces) <= CAPACITY
    assert losses.count(True) == 1
    assert buffer._next > pieces[5].sequence_number


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
    frames, lost = buffer.add(pieces[5 + MOST_MISSING])
    assert (frames, lost) == ([], True)
    assert not buffer.incomplete
    # This far nothing begins; what comes next does.
    rest = pieces[6 + MOST_MISSING :]
    assert feed(buffer, rest)[0] == rest[0].timestamp + 1
    assert not buffer.incomplete


def test_a_keyframe_that_has_come_outlives_what_is_given_up() -> None:
    pieces = pieces_of([3] * 60, keyframes=frozenset({0, 30}))
    buffer = FrameBuffer()
    assert feed(buffer, pieces[:4]) == [0]
    assert buffer.add(pieces[90]) == ([], True)
    assert feed(buffer, pieces[91:]) == list(range(30, 60))


def test_padding_belongs_to_no_frame() -> None:
    padding = Piece(FIRST + 2, 0, marker=False, data=b"", keyframe=False, start=False)
    buffer = FrameBuffer()
    first, second = pieces_of([2])
    after = Piece(FIRST + 3, 1, marker=True, data=b"\0\0\0\3", keyframe=False, start=False)
    assert feed(buffer, [first, second, padding, after]) == [0, 1]


def test_a_frame_without_a_marker_ends_where_the_next_begins() -> None:
    first, second, third = pieces_of([2, 1])
    unmarked = Piece(second.sequence_number, 0, marker=False, data=second.data, keyframe=True, start=False)
    assert feed(FrameBuffer(), [first, unmarked, third]) == [0, 1]


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_keyframes_are_told_apart_and_payloads_give_the_frame_again(codec: Codec) -> None:
    clip = Clip(codec)
    for number in range(6):
        if number == 3:
            clip._request()
        packet = clip.packet()
        payloads, _ = clip.stream._packetiser.pack(packet)
        pieces = [
            depayload(codec, at, 0, marker=at == len(payloads) - 1, payload=data) for at, data in enumerate(payloads)
        ]
        assert any(piece.keyframe for piece in pieces) == packet.is_keyframe == (number in {0, 3})
        assert [piece.start for piece in pieces] == [packet.is_keyframe, *[False] * (len(pieces) - 1)]
        whole = b"".join(piece.data for piece in pieces)
        if codec == "vp8":
            assert whole == bytes(packet)
        else:
            assert whole.replace(b"\0\0\0\1", b"\0\0\1") == bytes(packet).replace(b"\0\0\0\1", b"\0\0\1")


@given(st.sampled_from(["vp8", "h264"]), st.binary(max_size=40))
def test_any_payload_is_taken_or_refused_with_a_value_error(codec: str, payload: bytes) -> None:
    try:
        piece = depayload(codec, 0, 0, marker=True, payload=payload)
    except ValueError:
        return
    assert piece.data is not None


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="vp9"):
        depayload("vp9", 0, 0, marker=True, payload=b"x")
