"""What encoded pictures say of themselves, in every way that RTP carries them."""

import contextlib
from collections.abc import Callable, Iterable

import av
import pytest
from av.video.codeccontext import VideoCodecContext
from h264_helpers import (
    AUD,
    END_OF_SEQUENCE,
    IDR,
    PPS,
    RECOVERY_POINT,
    SEI,
    SLICE,
    SOME_SEI,
    SPS,
    aggregated_head,
    encode,
    fragmented,
    kind,
    mtap16,
    mtap24,
    numbered_fragments,
    single,
    stap_a,
    stap_b,
)
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc import nal
from synopticon_rtc.rtc.assembly import EncodedVideoFrame, FrameBuffer, depayload
from synopticon_rtc.rtc.bitstream import (
    _H264,
    LONGEST_PREFIX,
    MOST_SETS,
    MOST_TOLD,
    MOST_UNITS,
    TooLargeError,
    bitstream,
    picture_size,
)
from synopticon_rtc.rtc.sps import read_sps, set_id

Units = list[bytes]
Frames = list[Units]


def read(
    frames: Frames,
    pack: Callable[[Units], list[bytes]],
    marked: Callable[[bytes, bool], bool] = lambda _, last: last,
    lost: Iterable[tuple[int, int]] = (),
) -> list[tuple[int, bytes, bool]]:
    """Carry frames over RTP, and return the number of each picture, its data, and whether it is a keyframe."""
    buffer, reader, number = FrameBuffer(), bitstream("h264", (4096, 4096)), 65_500
    pictures = []
    for at, units in enumerate(frames):
        packets = pack(units)
        for place, payload in enumerate(packets):
            number += 1
            if (at, place) in set(lost):
                continue
            marker = marked(payload, place == len(packets) - 1)
            piece = depayload("h264", number & 0xFFFF, at, marker=marker, payload=payload)
            for pieces in buffer.add(piece).frames:
                try:
                    picture = reader.read(pieces)
                except ValueError:
                    continue
                if picture is not None:
                    pictures.append((pieces[0].timestamp, *picture))
    return pictures


def without(frames: Frames, *kinds: int) -> Frames:
    return [[unit for unit in units if kind(unit) not in kinds] for units in frames]


def decoded(pictures: list[tuple[int, bytes, bool]]) -> int:
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, VideoCodecContext)
    return sum(len(decoder.decode(av.Packet(data))) for _, data, _ in pictures)


@pytest.fixture(scope="module")
def plain() -> Frames:
    return encode(20, {0, 10})


PACKINGS = [single, fragmented, numbered_fragments, stap_a, stap_b, mtap16, mtap24, aggregated_head]


@pytest.mark.parametrize("pack", PACKINGS, ids=lambda pack: pack.__name__)
@pytest.mark.parametrize(
    "before", [[], [b"\x09\xf0"], [SOME_SEI], [b"\x09\xf0", SOME_SEI]], ids=["", "AUD", "SEI", "both"]
)
def test_a_keyframe_is_one_however_it_is_packed_and_whatever_comes_first(
    plain: Frames, pack: Callable[[Units], list[bytes]], before: Units
) -> None:
    frames = [[*before, *units] for units in without(plain, SEI)]
    pictures = read(frames, pack)
    assert [number for number, _, _ in pictures] == list(range(20))
    assert [number for number, _, keyframe in pictures if keyframe] == [0, 10]
    assert decoded(pictures) == 20


@pytest.mark.parametrize("pack", [single, fragmented, stap_a, aggregated_head], ids=lambda pack: pack.__name__)
def test_a_keyframe_is_found_behind_what_is_missing_for_good(
    plain: Frames, pack: Callable[[Units], list[bytes]]
) -> None:
    frames = [[b"\x09\xf0", *units] for units in plain]
    numbers = [number for number, _, _ in read(frames, pack, lost={(5, 0)})]
    assert numbers == [0, 1, 2, 3, 4, *range(10, 20)]


def test_slices_of_one_picture_stay_together() -> None:
    frames = encode(10, {0, 5}, slices=4)
    pictures = read(frames, single)
    assert [keyframe for _, _, keyframe in pictures] == [at in {0, 5} for at in range(10)]
    assert decoded(pictures) == 10


def test_parameter_sets_that_are_marked_as_a_frame_are_none_and_go_with_the_next(plain: Frames) -> None:
    pictures = read(plain, single, marked=lambda unit, last: last or kind(unit) in {SPS, PPS, SEI})
    assert [number for number, _, _ in pictures] == list(range(20))
    assert [number for number, _, keyframe in pictures if keyframe] == [0, 10]
    assert nal.START_CODE + plain[10][0] in pictures[10][1]
    assert decoded(pictures) == 20


def test_parameter_sets_with_a_time_of_their_own_go_with_the_next_picture(plain: Frames) -> None:
    frames = [
        part
        for units in without(plain, SEI)
        for part in (
            [unit for unit in units if kind(unit) in {SPS, PPS}],
            [unit for unit in units if kind(unit) in {SLICE, IDR}],
        )
        if part
    ]
    pictures = read(frames, single)
    assert [number for number, _, keyframe in pictures if keyframe] == [1, 12]
    assert decoded(pictures) == 20


def test_a_keyframe_that_lacks_parameter_sets_is_given_those_that_came_earlier(plain: Frames) -> None:
    frames = [plain[0], *without(plain[1:], SPS, PPS)]
    pictures = read(frames, single)
    assert [number for number, _, keyframe in pictures if keyframe] == [0, 10]
    assert decoded(pictures[10:]) == 10


def test_such_a_keyframe_is_found_behind_what_is_missing_too(plain: Frames) -> None:
    frames = [plain[0], *without(plain[1:], SPS, PPS, SEI)]
    numbers = [number for number, _, _ in read(frames, single, lost={(5, 0)})]
    assert numbers == [0, 1, 2, 3, 4, *range(10, 20)]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_keyframe_without_its_beginning_is_none(plain: Frames, lost: int) -> None:
    frames = without(plain, SEI)
    pictures = read(frames, aggregated_head, lost={(0, at) for at in range(lost)})
    assert [number for number, _, keyframe in pictures if keyframe] == [10]


def test_parameter_sets_alone_make_no_keyframe_of_what_is_predicted(plain: Frames) -> None:
    sets = [unit for unit in plain[0] if kind(unit) in {SPS, PPS}]
    frames = [*plain[:5], [*sets, *plain[5]], *plain[6:10]]
    pictures = read(frames, single)
    assert [number for number, _, keyframe in pictures if keyframe] == [0]
    assert len(pictures) == 10


def test_decoding_can_begin_at_a_recovery_point() -> None:
    frames = encode(40, set(), keyint=10, intra_refresh=1)
    recovering = [
        at for at, units in enumerate(frames) if kind(units[-1]) == SLICE and any(map(nal.is_recovery_point, units))
    ]
    assert recovering
    pictures = read(frames, single)
    assert [number for number, _, keyframe in pictures if keyframe] == [0, *recovering]
    assert decoded(pictures[recovering[0] :]) > 0


def test_a_recovery_point_is_found_among_other_messages() -> None:
    assert nal.is_recovery_point(RECOVERY_POINT)
    assert nal.is_recovery_point(SOME_SEI[:-1] + RECOVERY_POINT[1:])
    assert nal.is_recovery_point(b"\x06\xff\x01\x02ab" + RECOVERY_POINT[1:])
    assert not nal.is_recovery_point(SOME_SEI)
    assert not nal.is_recovery_point(b"\x07" + RECOVERY_POINT[1:])


@pytest.mark.parametrize(
    "payload", [END_OF_SEQUENCE, b"\x00", b"\x1e", b"\x1f\x01", b"\x1c", b"\x1d\x80", b"\x18\x00", b"\x78\xff\xff"]
)
def test_what_is_no_picture_leaves_no_hole(plain: Frames, payload: bytes) -> None:
    frames = [units for at, frame in enumerate(plain) for units in ([frame, [payload]] if at % 5 == 4 else [frame])]
    assert len(read(frames, single)) == 20


def test_a_frame_with_a_broken_packet_is_refused_as_a_whole(plain: Frames) -> None:
    frames = [*plain[:5], [*plain[5][:1], b"\x78\xff\xff"], *plain[6:]]
    assert [number for number, _, _ in read(frames, single)] == [*range(5), *range(6, 20)]


def test_what_is_kept_is_bounded(plain: Frames) -> None:
    reader = _H264((4096, 4096))
    pps = next(unit for unit in plain[0] if kind(unit) == PPS)
    for number in range(200):
        for unit in (b"\x68" + bytes([number]) + pps[1:], b"\x06" + bytes(2000)):
            reader.read([depayload("h264", 0, 0, marker=True, payload=unit)])
        assert len(reader._sets) <= MOST_SETS
        assert reader._before_bytes == sum(len(piece.data) for piece in reader._before) <= LONGEST_PREFIX


def test_frames_of_many_small_units_are_refused() -> None:
    reader = bitstream("h264", (4096, 4096))
    (payload,) = stap_a([b"\x41\x9a"] * nal.MOST_AGGREGATED)
    count = MOST_UNITS // nal.MOST_AGGREGATED + 1
    with pytest.raises(ValueError, match="too many"):
        reader.read([depayload("h264", at, 0, marker=False, payload=payload) for at in range(count)])
    with pytest.raises(ValueError, match="too many"):
        reader.read([depayload("h264", at, 0, marker=False, payload=b"\x67\x42") for at in range(MOST_TOLD + 1)])
    assert depayload("h264", 0, 0, marker=True, payload=stap_a([b"\x41"] * (nal.MOST_AGGREGATED + 1))[0]).broken


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=10))
def test_any_payloads_are_a_picture_or_none_or_a_value_error(payloads: list[bytes]) -> None:
    for codec in ("vp8", "h264"):
        pieces = [depayload(codec, at, 0, marker=True, payload=payload) for at, payload in enumerate(payloads)]
        if any(piece.data for piece in pieces):
            with contextlib.suppress(ValueError):
                bitstream(codec, (64, 64)).read(pieces)


# Sizes

SIZES = [(2, 2), (16, 16), (18, 34), (640, 480), (1366, 768), (1920, 1080), (4096, 48), (34, 4096)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("profile", ["Baseline", "High", "High 4:2:2", "High 4:4:4 Predictive"])
def test_the_size_of_h264_is_read_as_x264_wrote_it(size: tuple[int, int], profile: str) -> None:
    (units,) = encode(1, {0}, size, profile)
    (sps,) = [unit for unit in units if kind(unit) == SPS]
    assert read_sps(sps) == (0, *size)


def test_the_size_of_interlaced_h264_is_read_too() -> None:
    (units,) = encode(1, {0}, (320, 180), "High", interlaced=1)
    (sps,) = [unit for unit in units if kind(unit) == SPS]
    assert read_sps(sps) == (0, 320, 180)


def test_scaling_matrices_are_passed_over() -> None:
    (units,) = encode(1, {0}, (320, 240), "High", cqm4=16)
    (sps,) = [unit for unit in units if kind(unit) == SPS]
    assert read_sps(sps) == (0, 320, 240)


class Bits:
    """Writes the bits of a parameter set."""

    def __init__(self) -> None:
        self.text = ""

    def ue(self, *numbers: int) -> "Bits":
        for number in numbers:
            code = f"{number + 1:b}"
            self.text += "0" * (len(code) - 1) + code
        return self

    def raw(self, bits: str) -> "Bits":
        self.text += bits
        return self

    def unit(self, head: bytes) -> bytes:
        padded = self.text + "1" + "0" * (-(len(self.text) + 1) % 8)
        return head + int(padded, 2).to_bytes(len(padded) // 8, "big")


def sps_of(columns: int, rows: int, crop: tuple[int, int, int, int] | None = None) -> bytes:
    """Write a sequence parameter set of so many macroblocks."""
    bits = Bits().ue(0, 0, 2, 1).raw("0").ue(columns - 1, rows - 1).raw("11")
    bits.raw("0") if crop is None else bits.raw("1").ue(*crop)
    return bits.raw("0").unit(b"\x67\x42\xe0\x1f")


def test_what_is_cropped_away_beyond_a_macroblock_counts() -> None:
    assert read_sps(sps_of(120, 68, (0, 0, 0, 4))) == (0, 1920, 1080)
    assert read_sps(sps_of(1024, 1024, (0, 8000, 0, 8000))) == (0, 16_384, 16_384)
    assert read_sps(sps_of(1 << 16, 1)) == (0, 1 << 20, 16)


@given(st.binary(max_size=40))
def test_any_parameter_set_has_a_size_or_is_a_value_error(data: bytes) -> None:
    for unit in (b"\x67" + data, b"\x67\x64\x00\x1f" + data):
        try:
            number, width, height = read_sps(unit)
        except ValueError:
            continue
        assert number >= 0
        assert min(width, height) > 0
    with contextlib.suppress(ValueError):
        set_id(b"\x68" + data)


@pytest.mark.parametrize(("size", "fits"), [((320, 240), True), ((319, 240), False), ((320, 239), False)])
def test_h264_that_is_too_large_is_told_by_its_size(plain: Frames, size: tuple[int, int], fits: bool) -> None:  # noqa: FBT001
    pieces = [depayload("h264", at, 0, marker=False, payload=unit) for at, unit in enumerate(plain[0])]
    if fits:
        assert bitstream("h264", size).read(pieces)
    else:
        with pytest.raises(TooLargeError, match="320x240"):
            bitstream("h264", size).read(pieces)


def test_a_keyframe_does_not_build_on_parameter_sets_that_were_too_large(plain: Frames) -> None:
    reader = bitstream("h264", (320, 240))
    sets, rest = [
        [[unit for unit in plain[0] if (kind(unit) in {SPS, PPS, AUD, SEI}) == early]] for early in (True, False)
    ]
    numbers = iter(range(100))

    def take(units: Units) -> object:
        return reader.read([depayload("h264", next(numbers), 0, marker=False, payload=unit) for unit in units])

    take(sets[0])
    with pytest.raises(TooLargeError):
        take([sps_of(1024, 1024)])
    with pytest.raises(ValueError, match="parameter sets"):
        take(rest[0])
    take(sets[0])
    assert take(rest[0])


def vp8_keyframe(width: int, height: int, scale: int = 0) -> bytes:
    """Write the head of a VP8 keyframe (RFC 6386 section 9.1)."""
    return (
        b"\x10\x10\x02\x00\x9d\x01\x2a"
        + b"".join((side | scale << 14).to_bytes(2, "little") for side in (width, height))
        + bytes(20)
    )


@pytest.mark.parametrize("scale", [0, 3])
@pytest.mark.parametrize(("width", "height"), [(16_383, 16_383), (4097, 16), (16, 4097), (4097, 1)])
def test_vp8_that_is_too_large_is_told_by_its_size(width: int, height: int, scale: int) -> None:
    piece = depayload("vp8", 0, 0, marker=True, payload=vp8_keyframe(width, height, scale))
    with pytest.raises(TooLargeError, match=f"{width}x{height}"):
        bitstream("vp8", (4096, 4096)).read([piece])


@pytest.mark.parametrize("size", [(1, 1), (4096, 4096), (1, 4096)])
def test_vp8_that_fits_is_taken(size: tuple[int, int]) -> None:
    piece = depayload("vp8", 0, 0, marker=True, payload=vp8_keyframe(*size))
    assert bitstream("vp8", (4096, 4096)).read([piece]) == (piece.data, True)


def test_the_size_of_vp8_is_found_in_packets_of_a_byte_each() -> None:
    data = vp8_keyframe(5000, 16)[1:]
    pieces = [
        depayload("vp8", at, 0, marker=False, payload=(b"\x00" if at else b"\x10") + data[at : at + 1])
        for at in range(len(data))
    ]
    assert pieces[0].keyframe
    with pytest.raises(TooLargeError):
        bitstream("vp8", (4096, 4096)).read(pieces)


def test_a_vp8_frame_without_its_beginning_is_refused() -> None:
    pieces = [depayload("vp8", at, 0, marker=False, payload=b"\x00data") for at in range(2)]
    with pytest.raises(ValueError, match="beginning"):
        bitstream("vp8", (4096, 4096)).read(pieces)


def frame_of(units: Units, *, keyframe: bool = True) -> EncodedVideoFrame:
    return EncodedVideoFrame("h264", b"".join(nal.START_CODE + unit for unit in units), 0, keyframe, 0.0)


def test_a_keyframe_of_h264_tells_its_size_where_it_has_its_parameters() -> None:
    (units,) = encode(1, {0}, (320, 180))
    assert picture_size(frame_of(units)) == (320, 180)
    assert picture_size(frame_of(units, keyframe=False)) is None
    assert picture_size(frame_of([unit for unit in units if kind(unit) != SPS])) is None
    assert picture_size(frame_of([unit[:4] if kind(unit) == SPS else unit for unit in units])) is None


def test_a_keyframe_of_vp8_tells_its_size() -> None:
    data = bytes.fromhex("100200 9d012a 8002 6801")
    assert picture_size(EncodedVideoFrame("vp8", data, 0, keyframe=True, arrived=0.0)) == (640, 360)
    assert picture_size(EncodedVideoFrame("vp8", data[:9], 0, keyframe=True, arrived=0.0)) is None
