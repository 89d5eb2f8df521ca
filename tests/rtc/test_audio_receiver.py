"""Sound on its way from one peer to another, over a network in memory: when it comes, and what becomes of losses."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtp import RtcpByePacket, RtcpSenderInfo, RtcpSrPacket, RtpPacket
from opus_helpers import COUNT, encoded_voice
from rtc_helpers import Peer
from turned import elapse, turned
from wires import Losses, Network, Way

from synopticon_rtc.basics import clock
from synopticon_rtc.media.opus import OpusEncoder
from synopticon_rtc.media.sound import Sound, Tone, framed
from synopticon_rtc.rtc.audio_receiver import AudioReceiver
from synopticon_rtc.rtc.audio_stream import AudioStream
from synopticon_rtc.rtc.audio_track import AudioTrack, ReceivedSound
from synopticon_rtc.rtc.opus_packet import RATE
from synopticon_rtc.rtc.peer import PeerConnection
from synopticon_rtc.rtc.reception import MOST_STREAMS, REPORT_INTERVAL

STEP = COUNT / RATE


class Call:
    """A tone that is sent from one machine to another, and what is heard there.

    Attributes:
        heard: What came out, and when, in seconds since the epoch.
    """

    def __init__(self, ear: PeerConnection, track: AudioTrack, stream: AudioStream, way: Way) -> None:
        self.track = track
        self.receiver: AudioReceiver = ear._sounds[track.mid]
        self.stream = stream
        self.way = way
        self.heard: list[tuple[float, ReceivedSound]] = []
        self._encoder, self._tone = OpusEncoder(), Tone()
        self._ticks = 0

    async def listen(self) -> None:
        async for received in self.track:
            self.heard.append((clock.now(), received))

    async def play(self, seconds: float) -> float:
        """Send the tone for some time, each block once it is captured as a whole, and return when that began."""
        begun = clock.now()
        for number in range(round(seconds / STEP)):
            captured = begun + number * STEP
            await elapse(captured + STEP - clock.now())
            samples = self._tone.samples(captured, COUNT).reshape(-1, 1)
            packet = self._encoder.encode(Sound(framed(samples), captured))
            assert packet is not None
            self.stream.send(packet.data, packet.ticks, packet.captured)
            self._encoder.expect(self.stream.losses)
        return begun

    def delays(self, since: float, until: float = float("inf")) -> list[float]:
        """Return how old every fifth block was as it came out, by what is heard in it."""
        delays = []
        for at, received in self.heard[::5]:  # to read it takes a while
            time = Tone.read_time(received.samples[:, 0], near=at - 0.1)
            if since <= at < until and time is not None and not received.concealed:
                delays.append(at - time)
        return delays


@contextlib.asynccontextmanager
async def call() -> AsyncIterator[Call]:
    """Connect a peer that sends the tone with one that takes it."""
    network = Network(7)
    home, there = network.host(), network.host()
    network.way(home.address, there.address).delay = network.way(there.address, home.address).delay = 0.0
    stream = AudioStream(2**32 - 100 * COUNT)
    async with Peer(network=home) as sender:
        tracks: list[AudioTrack] = []
        ear = PeerConnection(network=there, on_audio=tracks.append)
        sender.connection.add_audio(stream)
        await sender.connection.set_answer(await ear.answer(await sender.connection.offer(), ("0",)))
        await sender.until_state("connected")
        await sender.until(lambda: ear.state == "connected" and stream.viewers)
        made = Call(ear, tracks[0], stream, network.way(home.address, there.address))
        listening = asyncio.create_task(made.listen())
        yield made
        await ear.close()
        await listening


def silences(heard: list[tuple[float, ReceivedSound]]) -> float:
    """Return the longest silence in what is heard, s."""
    samples = np.concatenate([received.samples[:, 0] for _, received in heard])
    parts = np.abs(samples[: len(samples) // 120 * 120].reshape(-1, 120)).max(axis=1) < 0.003
    return max((sum(1 for _ in run) for quiet, run in itertools.groupby(parts) if quiet), default=0) * 120 / RATE


def is_whole(heard: list[tuple[float, ReceivedSound]]) -> bool:
    """Whether what came out follows one another without holes or overlap."""
    return all(
        (one.rtp_timestamp + len(one.samples)) % 2**32 == other.rtp_timestamp
        for (_, one), (_, other) in itertools.pairwise(heard)
    )


@turned
async def test_what_nobody_wants_is_not_decoded_until_somebody_does() -> None:
    async with call() as calling:
        wanted = False
        calling.track.wanted = lambda: wanted
        await calling.play(2)
        assert calling.receiver.packets > 90
        assert (calling.heard, calling.receiver._decoder) == ([], None)
        wanted = True
        begun = await calling.play(2)
        assert float(np.median(calling.delays(begun))) < 0.04
        assert is_whole(calling.heard)


@turned
async def test_a_tone_is_heard_soon_and_it_is_known_when_it_was_captured() -> None:
    async with call() as calling:
        begun = await calling.play(10)
        await elapse(0.02)
        delays = calling.delays(begun + 2)
        assert len(delays) > 75
        assert float(np.median(delays)) < 0.04
        assert float(np.quantile(delays, 0.95)) < 0.045
        errors = [
            time - received.captured
            for at, received in calling.heard[::5]
            if at > begun + 2 and received.captured is not None
            if (time := Tone.read_time(received.samples[:, 0], near=received.captured)) is not None
        ]
        assert len(errors) > 75
        assert max(map(abs, errors)) < 0.002
        assert is_whole(calling.heard)
        assert not any(received.concealed for _, received in calling.heard)
        assert calling.receiver.packets == 500
        assert calling.receiver.octets > 10_000
        assert calling.receiver.delay < 0.01


@turned
async def test_loss_leaves_no_silence_and_no_delay_that_stays() -> None:
    async with call() as calling:
        await calling.play(2)
        calling.way.losses = Losses(0.05)
        begun = await calling.play(60)
        first, last = calling.delays(begun, begun + 10), calling.delays(begun + 50, begun + 60)
        assert float(np.median(last)) == pytest.approx(float(np.median(first)), abs=0.02)
        assert float(np.median(last)) < 0.06
        lossy = [each for each in calling.heard if begun < each[0] < begun + 60]
        assert silences(lossy) < 0.06
        assert is_whole(lossy)
        concealed = sum(len(received.samples) for _, received in lossy if received.concealed)
        assert 0 < calling.receiver.concealed < 60 * RATE * 0.05
        assert concealed == calling.receiver.concealed
        assert calling.receiver.recovered > 2 * concealed
        assert calling.receiver.late == 0


@turned
async def test_an_uneven_way_is_made_even() -> None:
    async with call() as calling:
        calling.way.delay, calling.way.jitter = 0.05, 0.03
        begun = await calling.play(20)
        calling.way.jitter = 0.0
        evenly = await calling.play(10)
        delays = calling.delays(begun + 5, begun + 20)
        assert float(np.quantile(delays, 0.95) - np.quantile(delays, 0.05)) < 0.015
        assert float(np.median(delays)) < 0.02 + 0.0065 + 0.05 + 0.045
        assert float(np.median(calling.delays(evenly + 8))) < 0.02 + 0.0065 + 0.05 + 0.015


@turned
async def test_silence_is_not_made_up_and_ends_after_a_while() -> None:
    async with call() as calling:
        await calling.play(1)
        await elapse(10)
        assert 1.9 < sum(len(received.samples) for _, received in calling.heard) / RATE < 2.1
        again = await calling.play(1)
        later = [received for at, received in calling.heard if at > again]
        assert len(later) > 45
        assert not any(received.concealed for received in later)


@contextlib.asynccontextmanager
async def fed() -> AsyncIterator[tuple[Call, "Feeder"]]:
    """Connect, and feed the receiver packets of one's own."""
    async with call() as calling:
        yield calling, Feeder(calling)


class Feeder:
    """Hands packets to a receiver as if they had come over the connection."""

    def __init__(self, calling: Call) -> None:
        self._receiver = calling.receiver
        self.payload_type = min(calling.receiver._payload_types)

    async def packet(self, number: int, payload: bytes, **fields: Any) -> None:
        """Hand over a packet, whose time is that of its number."""
        packet = RtpPacket(
            payload_type=fields.get("payload_type", self.payload_type),
            sequence_number=number,
            timestamp=fields.get("timestamp", number * COUNT),
            ssrc=fields.get("ssrc", 5),
            payload=payload,
        )
        packet.extensions.mid = fields.get("mid")
        await self._receiver._handle_rtp_packet(packet, arrival_time_ms=0)


@turned
async def test_stereo_is_given_out_as_such_from_its_first_packet_on() -> None:
    async with fed() as (calling, feeder):
        packets = [*encoded_voice(1.0)[:10], *encoded_voice(1.0, 2)[10:20], *encoded_voice(1.0)[20:30]]
        for number, payload in enumerate(packets):
            await feeder.packet(number, payload)
            await elapse(STEP)
        await elapse(0.1)
        assert [received.samples.shape[1] for _, received in calling.heard[:30]] == [1] * 10 + [2] * 20
        assert all(received.captured is None for _, received in calling.heard)


@turned
async def test_silence_before_a_gap_is_no_loss_but_sound_before_it_is() -> None:
    async with fed() as (calling, feeder):
        for number in range(10):
            await feeder.packet(number, encoded_voice(1.0)[number])
            await elapse(STEP)
        await elapse(0.2)
        lost = calling.receiver.concealed
        assert lost > 0
        await elapse(2)
        assert calling.receiver.concealed >= RATE * 0.9
        before = calling.receiver.concealed
        encoder = OpusEncoder()
        for number in range(200, 205):
            packet = encoder.encode(Sound(framed(np.zeros((COUNT, 1), np.float32)), number * STEP))
            assert packet is not None
            await feeder.packet(number, packet.data)
            await elapse(STEP)
        await elapse(2)
        assert calling.receiver.concealed == before


@turned
async def test_what_cannot_be_decoded_is_made_up() -> None:
    async with fed() as (calling, feeder):
        for number, payload in enumerate(encoded_voice(1.0)[:20]):
            await feeder.packet(number, b"\xfb\x41\xff" if number == 10 else payload)
            await elapse(STEP)
        assert calling.receiver.decode_errors == 1
        assert [received.concealed for _, received in calling.heard[:17]] == [at == 10 for at in range(17)]


@turned
async def test_what_is_not_for_it_is_left_out() -> None:
    async with fed() as (calling, feeder):
        payload = encoded_voice(1.0)[0]
        await feeder.packet(1, payload, payload_type=9)
        await feeder.packet(1, payload, mid="7")
        assert calling.receiver.packets == 0
        await feeder.packet(1, b"")
        assert calling.receiver.packets == 1
        await elapse(1)
        assert not calling.heard


@turned
async def test_another_source_takes_over_and_what_was_under_way_from_the_one_before_does_not() -> None:
    async with fed() as (calling, feeder):
        voice = encoded_voice(1.0)
        for number in range(10):
            await feeder.packet(number, voice[number])
            await elapse(STEP)
        for number in range(10, 20):
            await feeder.packet(number, voice[number], ssrc=6, timestamp=number * COUNT + 10**9)
            await feeder.packet(number, voice[number])
            await elapse(STEP)
        await elapse(0.06)
        assert calling.heard[-1][1].rtp_timestamp > 10**9
        await elapse(0.3)
        await feeder.packet(40, voice[40])
        await elapse(0.1)
        assert calling.heard[-1][1].rtp_timestamp < 10**9


@turned
async def test_sources_without_end_are_bounded() -> None:
    async with fed() as (calling, feeder):
        for ssrc in range(1, 400):
            await feeder.packet(ssrc, encoded_voice(1.0)[0], ssrc=ssrc)
        reception = calling.receiver._reception
        assert calling.receiver.packets == 399
        assert len(reception.streams) <= MOST_STREAMS
        assert len(bytes(reception.report())) < 300
        await elapse(1.2 * REPORT_INTERVAL)


@turned
async def test_a_loop_that_is_held_up_reads_what_has_come_before_it_makes_anything_up() -> None:
    async with fed() as (calling, feeder):
        voice = encoded_voice(1.0)
        for number in range(20):
            await feeder.packet(number, voice[number])
            await elapse(STEP)
        await elapse(0.001)
        loop: Any = asyncio.get_running_loop()
        loop.now += 0.1  # an application holds it
        for number in range(20, 25):
            loop.call_soon(lambda number=number: asyncio.ensure_future(feeder.packet(number, voice[number])))
        await elapse(0.01)
        assert not any(received.concealed for _, received in calling.heard)


@turned
async def test_a_report_without_a_time_tells_nothing() -> None:
    async with fed() as (calling, feeder):
        await feeder.packet(1, encoded_voice(1.0)[0])
        said = RtcpSenderInfo(ntp_timestamp=0, rtp_timestamp=0, packet_count=0, octet_count=0)
        await calling.receiver._handle_rtcp_packet(RtcpSrPacket(ssrc=5, sender_info=said))
        await calling.receiver._handle_rtcp_packet(RtcpByePacket(sources=[5]))
        await elapse(0.1)
        assert calling.heard[0][1].captured is None


@turned
async def test_starting_and_stopping_twice_does_no_harm() -> None:
    async with call() as calling:
        receiver, reports = calling.receiver, calling.receiver._reports
        await receiver.receive(None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it is not looked at
        assert receiver._reports is reports
        await receiver.stop()
        await receiver.stop()


@turned
async def test_whatever_comes_is_no_fault_and_sound_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with fed() as (calling, feeder):
        chance = random.Random(3)  # noqa: S311 - no secret
        voice = encoded_voice(1.0)
        for number in range(1000):
            payload = bytearray(voice[number % 50])
            if number < 900:
                payload = payload[: chance.randrange(1, 80)]
                payload[0] = chance.randrange(256) if number % 3 else payload[0]
                payload[-1] = chance.randrange(256)
            wild = number < 900 and number % 7 == 0
            await feeder.packet(number, bytes(payload), timestamp=chance.randrange(2**32) if wild else number * COUNT)
            await elapse(STEP)
        assert not [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}]
        assert calling.receiver.decode_errors > 0
        assert not any(received.concealed for _, received in calling.heard[-80:])


def test_aiortc_stands_still_at_a_lost_packet_of_sound() -> None:
    """When this fails, aiortc has mended its jitter buffer: look whether `audio_receiver` is still needed."""
    buffer = JitterBuffer(capacity=16, prefetch=4)  # as its receiver has it for sound
    out = []
    for number in range(60):
        if number != 20:
            packet = RtpPacket(sequence_number=number, timestamp=number * COUNT, payload=b"sound")
            packet._data = packet.payload  # type: ignore[attr-defined]
            out.append(buffer.add(packet)[1])
    assert out[20:34] == [None] * 14
    last = out[-1]
    assert last is not None
    assert 59 * COUNT - last.timestamp >= 14 * COUNT  # 280 ms, and no less later
