"""What the first bytes of an Opus packet tell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opus_helpers import REPEATING, encoded_voice

from synopticon_rtc.rtc.opus_decoder import find_library
from synopticon_rtc.rtc.opus_packet import LONGEST, channels, duration, repeats_last


@given(st.binary(max_size=8))
def test_it_lasts_as_long_as_libopus_says(payload: bytes) -> None:
    library = find_library()
    assert library is not None
    count = library.opus_packet_get_nb_samples(payload, len(payload), 48_000)
    if 0 < count <= LONGEST:
        assert duration(payload) == count
        assert channels(payload) == library.opus_packet_get_nb_channels(payload)
    else:
        with pytest.raises(ValueError, match="Opus packet"):
            duration(payload)


def test_what_repeats_the_packet_before_is_known() -> None:
    library = find_library()
    assert library is not None
    for count in 1, 2:
        packets = encoded_voice(1.0, count)
        told = [repeats_last(payload) for payload in packets]
        assert told == [library.opus_packet_has_lbrr(payload, len(payload)) == 1 for payload in packets]
        assert sum(told) > len(told) / 2
    assert repeats_last(REPEATING)
    assert not repeats_last(REPEATING[:1])
