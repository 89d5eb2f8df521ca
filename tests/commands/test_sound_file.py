"""Sound in a WAV file."""

import wave
from pathlib import Path

import click
import numpy as np
import pytest

from synopticon_rtc import AudioMoment
from synopticon_rtc.commands.sound_file import SoundFile
from synopticon_rtc.errors import SynopticonError


def moment(timestamp: int, level: float = 0.5, channels: int = 1) -> AudioMoment:
    samples = np.full((960, channels), level, np.float32)
    return AudioMoment(samples, 48_000, captured=None, concealed=False, rtp_timestamp=timestamp % 2**32)


def written(path: Path, *moments: AudioMoment) -> np.ndarray:
    with SoundFile(path) as file:
        for each in moments:
            file.write(each)
    with wave.open(str(path)) as read:
        assert (read.getframerate(), read.getsampwidth()) == (48_000, 2)
        samples = np.frombuffer(read.readframes(read.getnframes()), "<i2")
        return samples.reshape(-1, read.getnchannels())


def test_moments_follow_one_another(tmp_path: Path) -> None:
    samples = written(tmp_path / "a.wav", moment(-960), moment(0, -1.0), moment(960, 7.0))
    assert samples.shape == (2880, 1)
    assert [samples[index, 0] for index in (0, 960, 1920)] == [16384, -32767, 32767]


def test_what_did_not_come_is_silence(tmp_path: Path) -> None:
    samples = written(tmp_path / "a.wav", moment(0), moment(4800))
    assert samples.shape == (5760, 1)
    assert not samples[960:4800].any()
    assert samples[4800:].all()


def test_sound_that_begins_anew_follows_at_once(tmp_path: Path) -> None:
    assert written(tmp_path / "a.wav", moment(0), moment(2**31)).shape == (1920, 1)


def test_it_keeps_the_channels_that_it_began_with(tmp_path: Path) -> None:
    assert written(tmp_path / "a.wav", moment(0, channels=2), moment(960, channels=1)).shape == (1920, 2)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.FileError, match="No such file"):
        SoundFile(tmp_path / "nowhere" / "a.wav")


def test_a_full_disk_is_told() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with SoundFile(Path("/dev/full")) as file, pytest.raises(SynopticonError, match="/dev/full cannot be written"):
        for number in range(20):
            file.write(moment(number * 960))
