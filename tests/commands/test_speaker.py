"""A loudspeaker that neither falls behind nor runs dry, though its clock is not that of the sound."""

import logging
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from synopticon_rtc.commands.speaker import FADE, MOST_WAITING, WAITING, Elastic, Speaker
from synopticon_rtc.errors import MissingExtra, SynopticonError
from synopticon_rtc.receiving.sound import RATE, AudioMoment

BLOCK = 960


def hum(at: int, count: int = BLOCK, channels: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return samples of a tone from one on."""
    samples = 0.5 * np.sin(2 * np.pi * 200 * (at + np.arange(count)) / RATE)
    return np.repeat(samples.astype(np.float32)[:, np.newaxis], channels, axis=1)


def played(elastic: Elastic, seconds: int, *, fast: float = 0.0, pull: int = 480, rate: int = RATE) -> Any:
    """Play a tone that comes by a clock which is fast by a part, and return what is heard."""
    heard, put = [], 0
    for number in range(seconds * rate // pull):
        while put < (number * pull / rate * (1 + fast) + 0.06) * RATE:
            elastic.put(hum(put))
            put += BLOCK
        heard.append(elastic.pull(pull))
    return np.concatenate(heard)


@pytest.mark.parametrize("fast", [-1e-3, 0.0, 1e-3])
def test_clocks_that_drift_apart_are_not_heard(fast: float) -> None:
    elastic = Elastic()
    heard = played(elastic, 60, fast=fast)[RATE:, 0]
    assert (elastic.cuts, elastic.starved) == (0, 0)
    assert np.abs(np.diff(heard)).max() < 0.5 * 2 * np.pi * 200 / RATE * 1.02
    assert len(elastic._samples) / RATE < WAITING + 0.04


@pytest.mark.parametrize("rate", [44_100, 96_000])
def test_a_device_of_another_rate_plays_it_as_high_as_it_is(rate: int) -> None:
    elastic = Elastic(rate, 2)
    heard = played(elastic, 10, rate=rate)[rate:, 1]
    crossings = np.count_nonzero(np.diff(np.signbit(heard)))
    assert crossings / 2 / 9 == pytest.approx(200, abs=0.5)
    assert (elastic.cuts, elastic.starved) == (0, 0)


def test_what_is_too_much_at_once_is_cut_out_smoothly() -> None:
    elastic = Elastic()
    for at in range(0, 12 * BLOCK, BLOCK):
        elastic.put(hum(at))
    heard = elastic.pull(480)
    assert elastic.cuts == 1
    assert len(elastic._samples) / RATE == pytest.approx(WAITING - 0.01, abs=0.001)
    assert np.abs(np.diff(heard[:, 0])).max() < 0.05


def test_where_nothing_comes_it_ends_softly_and_begins_again_when_enough_waits() -> None:
    elastic = Elastic()
    assert not elastic.pull(480).any()
    elastic.put(hum(0))
    assert not elastic.pull(480).any()
    elastic.put(hum(BLOCK))
    heard = np.concatenate([elastic.pull(480) for _ in range(5)])[:, 0]
    assert elastic.starved == 1
    assert np.abs(np.diff(heard)).max() < 0.05
    assert heard[FADE : 2 * BLOCK - FADE].any()
    assert not heard[2 * BLOCK :].any()
    elastic.put(hum(0))
    assert not elastic.pull(480).any()
    elastic.put(hum(BLOCK))
    assert elastic.pull(480).any()


def test_what_nobody_plays_is_bounded() -> None:
    elastic = Elastic(channels=2)
    for at in range(200):
        elastic.put(hum(at * BLOCK))
    assert elastic._samples.shape == (MOST_WAITING * RATE, 2)


class Stream:
    """An output of a library of sound."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.active = False

    def start(self) -> None:
        self.active = True

    def close(self) -> None:
        self.active = False


class Library(SimpleNamespace):
    """What ``sounddevice`` is used of, with one loudspeaker."""

    PortAudioError = RuntimeError
    rates = (48_000,)

    def query_devices(self, device: object = None, kind: str = "") -> Any:
        known = {"index": 1, "name": "Horn", "max_output_channels": 6, "default_samplerate": 44_100.0}
        if kind and device not in {None, 1}:
            raise ValueError(f"no device matching {device!r}")
        return known if kind else [{"name": "Mouth", "max_output_channels": 0}, known]

    def check_output_settings(self, device: int, channels: int, dtype: str, samplerate: int) -> None:
        assert (device, channels, dtype) == (1, 2, "float32")
        if samplerate not in self.rates:
            raise RuntimeError("invalid sample rate")

    def OutputStream(self, **options: Any) -> Stream:  # noqa: N802 - as it is called there
        self.stream = Stream(**options)
        return self.stream


async def test_it_plays_moments(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    library = Library()
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    async with Speaker() as speaker:
        for number in range(4):
            speaker.play(AudioMoment(hum(number * BLOCK), RATE, None, False, 0))
        wanted = np.zeros((480, 2), np.float32)
        library.stream.options["callback"](wanted, 480, None, None)
        assert wanted.any()
        assert library.stream.active
        assert not caplog.records
        library.stream.active = False
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                speaker.play(AudioMoment(hum(0), RATE, None, False, 0))
        assert [record.getMessage() for record in caplog.records] == [
            "the loudspeaker plays no more; is it still there?"
        ]
    assert not library.stream.active


async def test_a_device_that_knows_another_rate_alone_is_opened_at_that(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(rates=(44_100,))
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    async with Speaker(1):
        assert library.stream.options["samplerate"] == 44_100


async def test_a_loudspeaker_that_is_not_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Library())
    with pytest.raises(SynopticonError, match=r"^loudspeaker gong cannot be used \(no device .*there is 1 \"Horn\"$"):
        await Speaker("gong").__aenter__()


async def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"a loudspeaker needs an extra: .*\[audio\]"):
        await Speaker().__aenter__()
