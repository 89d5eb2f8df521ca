"""A test tone on its way to a peer."""

from contextlib import aclosing

from synopticon_rtc.media.opus import OpusEncoder
from synopticon_rtc.media.sound import BLOCK, RATE, Sound, Tone, blocks_of, framed
from synopticon_rtc.rtc.audio_stream import AudioStream


def send_tone(stream: AudioStream, numbers: range, begin: float) -> None:
    """Send blocks of the tone at once, by their numbers since it began."""
    encoder, tone = OpusEncoder(), Tone()
    for number in numbers:
        captured = begin + number * BLOCK / RATE
        packet = encoder.encode(Sound(framed(tone.samples(captured, BLOCK).reshape(-1, 1)), captured))
        assert packet is not None
        stream.send(packet.data, numbers[0] * BLOCK + packet.ticks, packet.captured, packet.level)


async def play_tone(stream: AudioStream) -> None:
    """Send the tone in real time."""
    encoder = OpusEncoder()
    async with aclosing(blocks_of(Tone())) as blocks:
        async for block in blocks:
            packet = encoder.encode(block)
            assert packet is not None
            stream.send(packet.data, packet.ticks, packet.captured, packet.level)
