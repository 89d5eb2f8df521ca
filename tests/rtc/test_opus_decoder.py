"""Decoding Opus and making up what is lost, with libopus and without."""

import ctypes
import logging
from collections.abc import Callable

import numpy as np
import pytest
from opus_helpers import COUNT, LOOK_AHEAD, encoded_voice, voice

from synopticon_rtc.rtc import opus_decoder
from synopticon_rtc.rtc.opus_decoder import (
    FadingDecoder,
    LibopusDecoder,
    OpusDecoder,
    Samples,
    find_library,
    open_decoder,
)
from synopticon_rtc.rtc.opus_packet import repeats_last


def loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def made_up(make_up: Callable[[OpusDecoder, bytes], Samples], kind: Callable[[int], OpusDecoder]) -> float:
    """Return how like what is lost it is what a decoder makes up, 0 to 1."""
    packets, whole, decoder, alike = encoded_voice(1.0), open_decoder(1), kind(1), []
    for number, payload in enumerate(packets):
        original = whole.decode(payload)
        if number % 5 == 4 and number < 45 and repeats_last(packets[number + 1]):
            samples = make_up(decoder, packets[number + 1])
            alike.append(np.corrcoef(samples[:, 0], original[:, 0])[0, 1])
        else:
            decoder.decode(payload)
    return float(np.mean(alike))


def likeness(samples: Samples) -> float:
    """Return how like the voice it is, 0 to 1."""
    original = voice(1.0)[: len(samples) - LOOK_AHEAD]
    return float(np.corrcoef(samples[LOOK_AHEAD:, 0], original)[0, 1])


def test_pyav_brings_a_libopus_that_can_be_called() -> None:
    """If this fails, a release of PyAV keeps it elsewhere: lost sound would be concealed in the simpler way."""
    library = find_library()
    assert library is not None
    assert "av" in library._name or "opus" in library._name
    assert isinstance(open_decoder(1), LibopusDecoder)


@pytest.mark.parametrize("kind", [open_decoder, FadingDecoder])
@pytest.mark.parametrize("channels", [1, 2])
def test_it_decodes(kind: Callable[[int], OpusDecoder], channels: int) -> None:
    decoder = kind(channels)
    samples = np.concatenate([decoder.decode(payload) for payload in encoded_voice(1.0)])
    assert samples.shape == (48_000, channels)
    assert samples.dtype == np.float32
    assert likeness(samples) > 0.85


@pytest.mark.parametrize("kind", [open_decoder, FadingDecoder])
def test_what_is_lost_is_made_up_and_fades(kind: Callable[[int], OpusDecoder]) -> None:
    decoder = kind(1)
    for payload in encoded_voice(1.0)[:20]:
        before = decoder.decode(payload)
    blocks = [decoder.conceal(COUNT) for _ in range(30)]
    assert {block.shape for block in blocks} == {(COUNT, 1)}
    assert loudness(blocks[0]) > 0.4 * loudness(before)
    assert loudness(blocks[-1]) < 0.02 * loudness(before)
    assert len(decoder.conceal(120)) == 120


def test_the_next_packet_restores_most_of_a_lost_one() -> None:
    def conceal(decoder: OpusDecoder, _: bytes) -> Samples:
        return decoder.conceal(COUNT)

    def recover(decoder: OpusDecoder, following: bytes) -> Samples:
        return decoder.recover(following, COUNT)

    assert made_up(conceal, open_decoder) < 0.85
    assert made_up(recover, open_decoder) > 0.95
    assert made_up(recover, FadingDecoder) == made_up(conceal, FadingDecoder)


@pytest.mark.parametrize("kind", [open_decoder, FadingDecoder])
def test_what_is_none_is_refused_and_harms_nothing(kind: Callable[[int], OpusDecoder]) -> None:
    decoder = kind(1)
    packets = encoded_voice(1.0)
    decoder.decode(packets[0])
    with pytest.raises(ValueError, match="of 3 bytes cannot be decoded"):
        decoder.decode(b"\xff\xff\xff")
    assert len(decoder.decode(packets[1])) == COUNT


def test_where_there_is_no_libopus_it_is_told_and_the_simpler_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = ctypes.CDLL(None)._name or "libc.so.6"  # no libopus
    monkeypatch.setattr(opus_decoder, "_candidates", lambda: iter(["nowhere/libopus.so", other]))
    find_library.cache_clear()
    try:
        assert isinstance(open_decoder(2), FadingDecoder)
        open_decoder(1)
    finally:
        find_library.cache_clear()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "libopus is not found" in warnings[0].getMessage()


def test_the_systems_libopus_is_looked_for_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.so.0")
    assert list(opus_decoder._candidates())[-1] == "libopus.so.0"


def test_that_there_is_no_room_is_an_error() -> None:
    library = find_library()
    assert library is not None
    with pytest.raises(MemoryError, match="libopus gives no decoder"):
        LibopusDecoder(library, 3)
