"""Data of ours in H.264, beside that of others."""

from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.rtc import sei
from synopticon_rtc.rtc.nal import START_CODE

SLICE = START_CODE + b"\x41\x9a" + bytes(range(1, 200))
LIKE_CODES = st.lists(st.sampled_from([b"\0", b"\1", b"\2", b"\3", b"\xff"]), max_size=600).map(b"".join)


@given(st.lists(st.binary(max_size=600) | LIKE_CODES, max_size=4))
def test_what_is_written_comes_back_in_order(data: list[bytes]) -> None:
    frame = b"".join(START_CODE + sei.write(one) for one in data) + SLICE
    assert list(sei.read(frame)) == data


@given(LIKE_CODES)
def test_nothing_in_it_looks_like_the_beginning_of_a_unit(data: bytes) -> None:
    unit = sei.write(data)
    assert not any(code in unit for code in (b"\0\0\0", b"\0\0\1", b"\0\0\2"))


@given(st.binary(max_size=200), st.integers(0, 60))
def test_what_is_cut_off_is_left_out(data: bytes, cut: int) -> None:
    unit = sei.write(data)
    assert list(sei.read(START_CODE + unit[: len(unit) - 2 - cut] + SLICE)) in ([], [data])


@given(st.binary(max_size=2000))
def test_what_others_write_does_no_harm(frame: bytes) -> None:
    assert list(sei.read(frame)) == []
    list(sei.read(frame + sei.NAME + frame))


def test_sei_of_others_is_passed_over() -> None:
    theirs = sei.write(b"theirs").replace(sei.NAME, bytes(range(1, 17)))
    assert list(sei.read(START_CODE + theirs + START_CODE + sei.write(b"ours") + SLICE)) == [b"ours"]


@given(st.lists(st.binary(max_size=600) | LIKE_CODES, max_size=4))
def test_a_frame_is_as_it_was_without_what_was_written_into_it(data: list[bytes]) -> None:
    theirs = START_CODE + sei.write(b"theirs").replace(sei.NAME, bytes(range(1, 17)))
    frame = theirs + b"".join(START_CODE + sei.write(one) for one in data) + SLICE
    assert sei.without(frame) == theirs + SLICE


@given(st.binary(max_size=2000))
def test_what_is_not_ours_stays(frame: bytes) -> None:
    assert sei.without(frame) is frame
    assert not list(sei.read(sei.without(frame + sei.NAME + frame)))
