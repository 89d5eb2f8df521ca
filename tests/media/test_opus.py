import av
import numpy as np
import pytest

from synopticon_rtc.media.opus import EASE_AFTER, QUIET_BLOCKS, SIGN_OF_LIFE, OpusEncoder, OpusPacket
from synopticon_rtc.media.sound import BLOCK, RATE, Sound, Tone, framed

BEGIN = 1e9
AHEAD = 312
"""Samples that libopus looks ahead (its OPUS_GET_LOOKAHEAD)."""
LENGTH = BLOCK / RATE


def block(number: int, *, channels: int = 1, level: float = 0.3, missing: float = 0.0) -> Sound:
    captured = BEGIN + number * LENGTH + missing
    samples = Tone(level).samples(captured, BLOCK)
    return Sound(framed(np.stack([samples] * channels, axis=1)), captured)


def encode(encoder: OpusEncoder, count: int, begin: int = 0, **given: float) -> list[OpusPacket]:
    packets = [encoder.encode(block(number, **given)) for number in range(begin, begin + count)]  # type: ignore[arg-type]
    return [packet for packet in packets if packet is not None]


def decode(packets: list[OpusPacket], layout: str = "mono") -> np.ndarray:
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.format, decoder.layout, decoder.sample_rate = "s16", layout, RATE
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet.data))]
    channels = 1 if layout == "mono" else 2
    return np.concatenate([frame.to_ndarray().reshape(-1, channels) for frame in frames]) / np.float32(32768)


def has_fec(packet: OpusPacket) -> bool:
    """Whether a packet of 20 ms in mono holds the one before (RFC 6716 sections 3.1 and 4.2.3)."""
    is_celt = packet.data[0] >> 3 >= 16
    return not is_celt and bool(packet.data[1] & 0x40)


def test_what_is_decoded_was_captured_when_the_packet_says() -> None:
    packets = encode(OpusEncoder(), 50)
    assert [packet.ticks for packet in packets] == [number * BLOCK - AHEAD for number in range(50)]
    samples = decode(packets)[:, 0]
    for number in (5, 20, 45):
        captured = packets[number].captured
        read = Tone.read_time(samples[number * BLOCK : (number + 2) * BLOCK], near=captured)
        assert read == pytest.approx(captured, abs=0.002)


@pytest.mark.parametrize(
    ("sample", "level"), [(0.0, 127), (1e-7, 127), (1e-3, 60), (0.1, 20), (1.0, 0), (2.0, 0), (float("inf"), 0)]
)
def test_a_packet_tells_how_loud_it_is(sample: float, level: int) -> None:
    packet = OpusEncoder().encode(Sound(framed(np.full((BLOCK, 1), sample, np.float32)), BEGIN))
    assert packet is not None
    assert packet.level == level


def test_two_channels_stay_two() -> None:
    left, encoder, packets = Tone(), OpusEncoder("audio"), []
    for number in range(20):
        captured = BEGIN + number * LENGTH
        samples = np.stack([left.samples(captured, BLOCK), np.zeros(BLOCK, np.float32)], axis=1)
        packets.append(encoder.encode(Sound(framed(samples), captured)))
    loudest = np.abs(decode([packet for packet in packets if packet], "stereo")[5 * BLOCK :]).max(axis=0)
    assert loudest[0] > 0.2
    assert loudest[1] < 0.05


def test_time_goes_on_where_sound_is_missing_and_never_back() -> None:
    encoder = OpusEncoder()
    first, *_ = encode(encoder, 3)
    after = encode(encoder, 2, 3, missing=0.1)
    assert [packet.ticks - first.ticks for packet in after] == [3 * BLOCK + 4800, 4 * BLOCK + 4800]
    back = encode(encoder, 1, 5, missing=-1.0)
    assert back[0].ticks == after[-1].ticks + BLOCK
    assert back[0].captured < after[0].captured


def test_clocks_that_differ_a_little_leave_no_gap() -> None:
    encoder = OpusEncoder()
    packets = [encoder.encode(block(number, missing=number * 4e-6)) for number in range(100)]
    ticks = [packet.ticks for packet in packets if packet]
    assert set(np.diff(ticks)) == {BLOCK}


def test_losses_are_met_with_redundancy_at_once_and_for_ten_seconds() -> None:
    encoder = OpusEncoder()
    assert not any(map(has_fec, encode(encoder, 10)))
    encoder.expect([0.0, 0.07])
    assert encoder.loss == 10
    assert sum(map(has_fec, encode(encoder, 20, 10))) > 15
    encoder.expect([0.9])
    assert encoder.loss == 30
    encode(encoder, EASE_AFTER - 1, 30)
    encoder.expect([])
    assert encoder.loss == 30
    encode(encoder, 1, 30 + EASE_AFTER - 1)
    encoder.expect([])
    assert encoder.loss == 0


def test_the_change_is_not_heard() -> None:
    encoder = OpusEncoder()
    packets = encode(encoder, 20)
    encoder.expect([0.1])
    samples = decode(packets + encode(encoder, 20, 20))[:, 0]
    levels = np.sqrt((samples[BLOCK:].reshape(-1, 480) ** 2).mean(axis=1)) * 2**0.5 / 0.3
    assert levels.min() > 0.7
    assert levels.max() < 1.3


def test_of_silence_there_is_a_sign_of_life_now_and_then() -> None:
    encoder = OpusEncoder()
    encode(encoder, 5)
    silent = encode(encoder, QUIET_BLOCKS + 4 * SIGN_OF_LIFE, 5, level=1e-4)
    assert len(silent) == QUIET_BLOCKS + 4
    (loud,) = encode(encoder, 1, 5 + QUIET_BLOCKS + 4 * SIGN_OF_LIFE)
    assert loud.ticks == (5 + QUIET_BLOCKS + 4 * SIGN_OF_LIFE) * BLOCK - AHEAD


def test_what_is_quiet_is_no_silence() -> None:
    assert len(encode(OpusEncoder(), 30, level=0.002)) == 30


def test_ffmpeg_does_not_know_libopuss_own_dtx_yet() -> None:
    """When this fails, FFmpeg has the option: then it can take the place of ours."""
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate, context.layout, context.format = RATE, "mono", "flt"
    context.options = {"dtx": "1", "packet_loss": "10"}
    context.open()
    # What was not taken; PyAV tells it up to release 18.
    assert context.options == ({"dtx": "1"} if int(av.__version__.partition(".")[0]) < 19 else {})


def test_what_opus_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="voip, audio"):
        OpusEncoder("speech")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="6,000"):
        OpusEncoder(bitrate=1)
