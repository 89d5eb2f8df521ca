"""Sound and picture of one broadcaster come out together, however the way between is."""

import asyncio

import numpy as np
import pytest
from rtc_helpers import Peer
from stage import stage
from turned import elapse, turned

from synopticon_rtc.basics import clock
from synopticon_rtc.media import OpusEncoder, Sound, Tone
from synopticon_rtc.media.sound import BLOCK, RATE, framed
from synopticon_rtc.peers.control import Report
from synopticon_rtc.receiving.latency import Latency
from synopticon_rtc.receiving.lips import Lips
from synopticon_rtc.receiving.sound import AudioMoment, SoundStream
from synopticon_rtc.receiving.stats import ReceiverStats
from synopticon_rtc.receiving.stream import Stream
from synopticon_rtc.rtc import AudioTrack, EncodedVideoFrame, PeerConnection
from synopticon_rtc.rtc.audio_stream import AudioStream

SECONDS = 12


async def talk(stream: AudioStream) -> None:
    """Send the tone."""
    encoder, tone, begun = OpusEncoder(), Tone(), clock.now()
    for number in range(SECONDS * RATE // BLOCK):
        captured = begun + number * BLOCK / RATE
        await elapse(captured + BLOCK / RATE - clock.now())
        packet = encoder.encode(Sound(framed(tone.samples(captured, BLOCK).reshape(-1, 1)), captured))
        assert packet is not None
        stream.send(packet.data, packet.ticks, packet.captured)


@pytest.mark.parametrize(("delay", "jitter", "slow"), [(0.0, 0.0, 0.06), (0.05, 0.01, 0.0)])
@turned
async def test_they_are_apart_by_less_than_anybody_notices(delay: float, jitter: float, slow: float) -> None:
    seen: list[tuple[float, float]] = []  # when frames were captured, and how old they came out
    heard: list[tuple[float, float]] = []
    lips = Lips()
    loop = asyncio.get_running_loop()

    def hear(moment: AudioMoment) -> None:
        if moment.captured is not None:
            heard.append((moment.captured, clock.now() - moment.captured))

    def see(_: str, frame: EncodedVideoFrame) -> None:
        loop.call_later(slow, video.encoded, frame)  # as if decoding took a while

    async with stage(seed=3) as playing:
        begun = clock.now()
        latency = Latency()
        latency.reported(Report(0, begun * 1000))
        video = Stream(
            video=True,
            sync="latest",
            faces_wait=0,
            jitter=0,
            totals=ReceiverStats(),
            latency=latency,
            heard=lambda _: None,
            give=lambda moment: seen.append((moment.captured or 0, clock.now() - (moment.captured or 0))),
            lips=lips,
        )
        sound = SoundStream(give=hear, lips=lips)
        there = playing.network.host()
        way = playing.network.way(playing.home.address, there.address)
        tracks: list[AudioTrack] = []
        stream = AudioStream()
        async with Peer(network=playing.home) as sender:
            sender.connection.add_video(lambda _: playing.ladder.top, ["vp8"])
            sender.connection.add_audio(stream)
            receiver = PeerConnection(
                network=there,
                on_encoded=see,
                on_audio=tracks.append,
            )
            answer = await receiver.answer(await sender.connection.offer(), ("0", "1"))
            await sender.connection.set_answer(answer)
            await sender.until(lambda: receiver.state == "connected" and stream.viewers)
            way.delay, way.jitter = delay, jitter

            async def listen() -> None:
                async for received in tracks[0]:
                    sound.decoded(received)

            listening = asyncio.create_task(listen())
            await talk(stream)
            await receiver.close()
            await listening

    times, delays = np.array(heard).T
    apart = [abs(age - np.interp(captured, times, delays)) for captured, age in seen if captured > begun + 4]
    assert len(apart) > 200
    assert float(np.median(apart)) < 0.02
    assert float(np.quantile(apart, 0.95)) < 0.04
    assert float(np.median(delays)) < delay + 0.1
