"""What goes through an engine's one channel reads as it was written, and what is none is left out."""

from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc.peers.marked import Marked, decode

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
NUMBERS = st.integers(0, 2**32 - 1)


@given(NAMES, NUMBERS, NUMBERS, st.binary())
def test_it_reads_as_it_was_written(name: str, timestamp: int, fingerprint: int, faces: bytes) -> None:
    message = Marked(name, timestamp, fingerprint, faces)
    assert decode(message.encode()) == message


@given(st.binary())
def test_anything_else_does_no_harm(data: bytes) -> None:
    found = decode(data)
    assert found is None or found.encode()[:2] == data[:2]


def test_other_versions_and_pieces_are_none() -> None:
    whole = Marked("camera", 1, 2, b"faces").encode()
    assert decode(b"\2" + whole[1:]) is None
    assert decode(whole[:10]) is None
    assert decode(b"\1\1\xff" + bytes(8)) is None
