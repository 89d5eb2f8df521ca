import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from turned import elapse, turned
from waiting import blocked_until

from synopticon_rtc.basics import clock
from synopticon_rtc.errors import MissingExtra, SourceError
from synopticon_rtc.media import VideoFile
from synopticon_rtc.media.opus import OpusEncoder
from synopticon_rtc.media.sound import (
    BLOCK,
    LATE,
    RATE,
    Blocks,
    Microphone,
    Recording,
    Sound,
    SoundSource,
    Tone,
    as_sound,
    blocks_of,
    framed,
    parse_sound,
)
from synopticon_rtc.media.soundtrack import Soundtrack

BEGIN = 1e9
LENGTH = BLOCK / RATE


def piece(at: float, count: int = BLOCK, rate: int = RATE, channels: int = 1) -> av.AudioFrame:
    """Return the tone from a time on."""
    return framed(np.stack([Tone().samples(at, count, rate)] * channels, axis=1), rate)


def tells_its_time(block: Sound, tolerance: float = 0.002) -> bool:
    read = Tone.read_time(block.frame.to_ndarray().ravel()[:: block.frame.layout.nb_channels], block.captured)
    return read is not None and abs(read - block.captured) < tolerance


# Pieces become blocks


@pytest.mark.parametrize(("count", "rate"), [(160, 8000), (441, 44_100), (1024, 48_000), (4800, 16_000)])
def test_pieces_of_any_length_and_rate_become_blocks_that_know_their_time(count: int, rate: int) -> None:
    blocks, out = Blocks(), []
    for number in range(rate // count):
        at = BEGIN + number * count / rate
        out += blocks.put(Sound(piece(at, count, rate), at), at + count / rate)
    assert {(block.frame.samples, block.frame.sample_rate, block.frame.format.name) for block in out} == {
        (BLOCK, RATE, "flt")
    }
    assert len(out) >= 40
    assert all(map(tells_its_time, out))
    assert np.diff([block.captured for block in out]) == pytest.approx(LENGTH, abs=1e-6)


@pytest.mark.parametrize(("layout", "channels"), [("mono", 1), ("stereo", 2), ("5.1", 2)])
def test_there_are_one_channel_or_two_as_the_source_has(layout: str, channels: int) -> None:
    frame = av.AudioFrame("s16", layout, BLOCK)
    frame.sample_rate = RATE
    blocks = Blocks().put(frame, BEGIN)
    assert [block.frame.layout.nb_channels for block in blocks] == [channels]


def test_a_piece_was_captured_just_before_it_came_unless_the_source_says_when() -> None:
    assert Blocks().put(piece(BEGIN), BEGIN)[0].captured == pytest.approx(BEGIN - LENGTH)
    assert Blocks().put(Sound(piece(BEGIN), BEGIN - 1), BEGIN)[0].captured == BEGIN - 1


def test_how_unevenly_pieces_come_is_not_seen_in_their_times() -> None:
    blocks, chance, captured = Blocks(), np.random.default_rng(1), []
    for number in range(500):
        at = BEGIN + number * LENGTH
        captured += [block.captured for block in blocks.put(piece(at), at + LENGTH + chance.uniform(0, 0.03))]
    assert np.diff(captured[50:]) == pytest.approx(LENGTH, abs=0.005)
    assert captured[-1] - (BEGIN + 499 * LENGTH) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("timed", [True, False])
def test_what_is_missing_is_a_gap(*, timed: bool) -> None:
    """The block that was begun before it is lost."""
    blocks, out = Blocks(), []
    for number in range(100):
        at = BEGIN + number * LENGTH + (1.5 if number >= 50 else 0)
        sound: Any = Sound(piece(at), at) if timed else piece(at)
        out += blocks.put(sound, at + LENGTH)
    assert all(map(tells_its_time, out[:50] + out[-30:]))
    steps = np.diff([block.captured for block in out])
    assert (steps > 1).sum() == 1
    assert steps[steps < 1] == pytest.approx(LENGTH, abs=0.001)
    assert len(out) >= (100 if timed else 90)


@pytest.mark.parametrize("timed", [True, False])
def test_what_comes_late_in_one_lump_is_left_out_and_shifts_nothing(*, timed: bool) -> None:
    blocks, out = Blocks(), []
    stood_still = BEGIN + 1, BEGIN + 2
    for number in range(150):
        at = BEGIN + number * LENGTH
        came = stood_still[1] if stood_still[0] < at + LENGTH < stood_still[1] else at + LENGTH
        sound: Any = Sound(piece(at), at) if timed else piece(at)
        out += blocks.put(sound, came)
    assert all(map(tells_its_time, out))
    assert blocks.left_out == pytest.approx((1 - LATE) / LENGTH, abs=2)
    assert len(out) == 150 - blocks.left_out
    assert (np.diff([block.captured for block in out]) > LENGTH * 1.5).sum() == 1


def test_a_source_that_is_always_late_is_heard() -> None:
    blocks = Blocks()
    out = [block for number in range(50) for block in blocks.put(Sound(piece(0), BEGIN + number * LENGTH), BEGIN + 5)]
    assert not blocks.left_out
    assert len(out) == 50


def test_times_that_a_source_tells_unevenly_make_no_gaps() -> None:
    blocks, chance, encoder, ticks = Blocks(), np.random.default_rng(1), OpusEncoder(), []
    for number in range(200):
        at = BEGIN + number * LENGTH
        for block in blocks.put(Sound(piece(at), at + chance.uniform(-0.006, 0.006)), at + LENGTH):
            packet = encoder.encode(block)
            assert packet is not None
            ticks.append(packet.ticks)
    assert set(np.diff(ticks)) == {BLOCK}


def test_a_piece_that_is_missing_is_a_gap_of_its_length() -> None:
    blocks, out = Blocks(), []
    for number in [0, 1, 2, 4, 5]:
        at = BEGIN + number * LENGTH
        out += blocks.put(Sound(piece(at), at), at + LENGTH)
    assert [block.captured - BEGIN for block in out] == pytest.approx([n * LENGTH for n in (0, 1, 2, 4, 5)])


def test_a_device_that_becomes_slower_is_heard_again_soon() -> None:
    blocks, heard = Blocks(), []
    for number in range(500):
        at = BEGIN + number * LENGTH
        heard += [number] * len(blocks.put(Sound(piece(at), at), at + (0.5 if number >= 100 else LENGTH)))
    assert heard[:100] == list(range(100))
    assert 0 < heard[100] - 100 < 4 / LENGTH
    assert heard[100:] == list(range(heard[100], 500))


def test_frames_are_only_read() -> None:
    frame = piece(BEGIN)
    frame.pts = 77
    Blocks().put(frame, BEGIN)
    assert frame.pts == 77


def test_the_format_may_change() -> None:
    blocks, out, at = Blocks(), [], BEGIN
    for rate, channels in ((RATE, 1), (16_000, 1), (16_000, 2), (RATE, 2)):
        for _ in range(10):
            out += blocks.put(Sound(piece(at, rate // 50, rate, channels), at), at + LENGTH)
            at += LENGTH
    assert all(map(tells_its_time, out))
    assert [block.frame.layout.nb_channels for block in (out[0], out[-1])] == [1, 2]


def test_what_is_no_sound_is_refused() -> None:
    with pytest.raises(SourceError, match="gave str"):
        Blocks().put("la", BEGIN)
    with pytest.raises(SourceError, match="0 Hz"):
        Blocks().put(av.AudioFrame("s16", "mono", 960), BEGIN)


@turned
async def test_any_async_iterator_of_frames_is_a_source() -> None:
    closed = False

    class Own:
        async def __aiter__(self) -> AsyncGenerator[av.AudioFrame, None]:
            nonlocal closed
            try:
                while True:
                    await elapse(0.1)
                    yield piece(clock.now() - 0.1, 4800)
            finally:
                closed = True

    assert isinstance(Own(), SoundSource)
    async with aclosing(blocks_of(Own())) as blocks:
        got = [await anext(blocks) for _ in range(12)]
    assert closed
    assert all(map(tells_its_time, got))


# Tone


@turned
async def test_the_tone_tells_its_time_and_comes_when_it_is_captured() -> None:
    async with aclosing(blocks_of(Tone())) as blocks:
        for _ in range(60):
            block = await anext(blocks)
            assert tells_its_time(block, 0.001)
            assert clock.now() - block.captured == pytest.approx(LENGTH, abs=1e-6)
        await elapse(1)  # the event loop is busy
        late = [await anext(blocks) for _ in range(20)]
    assert all(map(tells_its_time, late))
    assert clock.now() - late[-1].captured < LATE


@pytest.mark.parametrize("samples", [np.zeros(BLOCK), np.random.default_rng(1).normal(0, 0.1, BLOCK)])
def test_other_sounds_tell_no_time(samples: Any) -> None:
    assert Tone.read_time(samples.astype(np.float32), BEGIN) is None


def test_the_time_is_read_within_half_a_second_of_what_it_may_be() -> None:
    samples = Tone().samples(BEGIN + 7.25, BLOCK)
    for near in (6.8, 7.25, 7.7):
        assert Tone.read_time(samples, BEGIN + near) == pytest.approx(BEGIN + 7.25, abs=1e-3)
    assert Tone.read_time(samples, BEGIN + 7.8) == pytest.approx(BEGIN + 8.25, abs=1e-3)


# Microphone


def need_portaudio() -> None:
    try:
        import sounddevice  # noqa: F401, PLC0415 - it looks for PortAudio
    except OSError as error:
        pytest.skip(f"{error} (Debian: libportaudio2)")


async def first_block(source: SoundSource) -> Sound:
    async with aclosing(blocks_of(source)) as blocks:
        return await anext(blocks)


async def test_a_microphone_that_is_not_there_is_one_clear_error() -> None:
    need_portaudio()
    with pytest.raises(SourceError, match=r"^microphone no such device cannot be used .*"):
        await first_block(Microphone("no such device"))


async def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"a microphone needs an extra: .*\[audio\]"):
        await first_block(Microphone())


async def test_missing_portaudio_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"PortAudio library not found.*apt install libportaudio2"):
        await first_block(Microphone())


def test_a_microphone_has_one_channel_or_two() -> None:
    with pytest.raises(SourceError, match="not 7"):
        Microphone(channels=7)


class Device:
    """Gives pieces of 20 ms of a number at a time that the test tells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = BEGIN
        self.sounds: list[Sound] = []
        monkeypatch.setattr(clock, "now", lambda: self.now)
        self.recording = Recording(self.sounds.append, 1, RATE, "the microphone")

    def give(self, value: float, age: float, *, lost: bool = False) -> float:
        self.now += LENGTH
        times = SimpleNamespace(currentTime=50.0, inputBufferAdcTime=50.0 - age)
        data = np.full(BLOCK, value, np.float32).tobytes()
        self.recording.take(data, BLOCK, times, SimpleNamespace(input_overflow=lost))
        return self.sounds[-1].captured


def test_devices_that_err_about_their_times_shift_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    captured = [device.give(1.0, 0.5 if number < 20 else 0.03) for number in range(300)]  # as PulseAudio says at first
    assert np.diff(captured) == pytest.approx(LENGTH, abs=0.006)
    assert captured[-1] == pytest.approx(device.now - 0.03, abs=0.001)
    device.now += 1
    assert device.give(1.0, 0.0, lost=True) == device.now - LENGTH


def test_a_microphone_that_gives_zeros_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(monkeypatch)
    for number in range(500):
        device.give(1.0 if number == 10 else 0.0, 0.02)
    (told,) = caplog.messages
    assert told.startswith("the microphone has given nothing but zeros for 3 s; check that it is not muted")


RECORD = """
import asyncio, sys
from contextlib import aclosing
import numpy as np
from synopticon_rtc.basics import clock
from synopticon_rtc.media.sound import Microphone, blocks_of

async def record():
    samples, ages, captured = [], [], []
    async with aclosing(blocks_of(Microphone())) as blocks:
        async for block in blocks:
            samples.append(block.frame.to_ndarray().ravel())
            ages.append(clock.now() - block.captured)
            captured.append(block.captured)
            if len(samples) == 50:
                break
    heard = np.concatenate(samples)
    pitch = np.argmax(np.abs(np.fft.rfft(heard * np.hanning(len(heard))))) * 48000 / len(heard)
    print(pitch, min(ages), np.quantile(np.diff(captured), 0.9))  # a busy machine holds up some

asyncio.run(record())
"""


LISTEN = """
import asyncio, logging, sys
from synopticon_rtc.media.sound import Microphone, blocks_of

async def listen():
    newest = None
    async for block in blocks_of(Microphone()):
        if newest is None or block.captured - newest > 0.5:
            print("heard", file=sys.stderr, flush=True)
        newest = block.captured

logging.basicConfig(level=logging.INFO)
asyncio.run(listen())
"""


class Pulse:
    """PulseAudio, with a device that plays a tone of 440 Hz to itself."""

    def __init__(self, home: Path) -> None:
        (home / ".asoundrc").write_text("pcm.!default { type pulse }\n")
        self.environment = os.environ | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
        self._socket = home / "pulse" / "native"
        self._server: subprocess.Popen[bytes]

    def start(self) -> None:
        modules = "module-native-protocol-unix", "module-null-sink sink_name=lab", "module-sine sink=lab frequency=440"
        self._server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"),
                *(word for module in modules for word in ("-L", module)),
            ],
            env=self.environment,
            stderr=subprocess.DEVNULL,
        )
        blocked_until(self._socket.exists)

    def stop(self) -> None:
        self._server.terminate()
        self._server.wait()
        self._socket.unlink(missing_ok=True)


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    need_portaudio()
    if shutil.which("pulseaudio") is None or not list(Path("/usr/lib").rglob("libasound_module_pcm_pulse.so")):
        pytest.skip("needs PulseAudio, and its plugin for ALSA (Debian: pulseaudio, libasound2-plugins)")
    server = Pulse(tmp_path)
    server.start()
    yield server
    server.stop()


def test_a_microphone_is_recorded_with_its_time(pulse: Pulse) -> None:
    out = subprocess.run(
        [sys.executable, "-c", RECORD], env=pulse.environment, capture_output=True, text=True, check=True, timeout=60
    )
    pitch, age, step = map(float, out.stdout.split())
    assert pitch == pytest.approx(440, abs=2)
    assert 0.02 <= age < 1
    assert step < 0.1


@pytest.mark.slow
def test_a_microphone_that_is_lost_is_looked_for_until_it_is_back(pulse: Pulse) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], env=pulse.environment, stderr=subprocess.PIPE, text=True
    ) as listener:
        assert listener.stderr is not None
        lines = iter(listener.stderr)
        try:
            assert any("heard" in line for line in lines)
            pulse.stop()
            assert any("gives no more sound" in line for line in lines)
            pulse.start()
            assert any("is back" in line for line in lines)
            assert any("heard" in line for line in lines)
        finally:
            listener.kill()


# By name


@pytest.mark.parametrize(("text", "device"), [("", None), ("3", 3), ("USB", "USB")])
def test_a_microphone_is_named_as_in_a_command(text: str, device: object) -> None:
    source = parse_sound(text)
    assert isinstance(source, Microphone)
    assert source.device == device


def test_the_tone_has_a_name_too() -> None:
    assert isinstance(parse_sound("test"), Tone)


def test_what_a_program_gives_becomes_a_source(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").touch()
    tone, number = Tone(), as_sound(2)
    assert as_sound(tone) is tone
    assert isinstance(number, Microphone)
    assert number.device == 2
    assert isinstance(as_sound("2"), Microphone)
    assert isinstance(as_sound(VideoFile(tmp_path / "film.mp4")), Soundtrack)


@pytest.mark.parametrize("value", [Tone, 3.5, None, True, [framed(np.zeros((960, 1), np.float32))]])
def test_what_is_no_source_is_told(value: object) -> None:
    with pytest.raises(SourceError, match="is no source of sound: give a Microphone"):
        as_sound(value)
