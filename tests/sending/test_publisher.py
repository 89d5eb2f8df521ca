"""Streams that come and go while peers are connected, over a network in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Self

import av
import pytest
from turned import elapse, turned
from waiting import turns, until
from wires import own_host

from synopticon_rtc import TestPattern, Tone
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.errors import SourceError, SynopticonError
from synopticon_rtc.events import StreamEvent
from synopticon_rtc.faces.wire import PROTOCOL as FACES
from synopticon_rtc.peers import control, published
from synopticon_rtc.peers.control import Control
from synopticon_rtc.peers.published import MAX_STREAMS, NewAnswer, NewOffer, Published, Refusal, Streams, Told
from synopticon_rtc.rtc import AudioTrack, Channel, PeerConnection, ReceivedSound, VideoTrack
from synopticon_rtc.sending.peer import Peer
from synopticon_rtc.sending.publisher import ANSWER_WITHIN, Publisher
from synopticon_rtc.sending.sound import SoundStream
from synopticon_rtc.sending.stream import Stream
from synopticon_rtc.signaling.messages import Seek

FPS = 30


def pattern(width: int = 320) -> Stream:
    return stream(TestPattern((width, 240), FPS))


def stream(source: object) -> Stream:
    return Stream(source, None, codecs=("vp8",), bitrate=1_000_000, fps=FPS, faces_fps=None)  # type: ignore[arg-type]


class Guest:
    """A receiver, reduced to its connection and its control channel, and the broadcaster's side of both.

    Args:
        house: Who publishes.
        accept: What it says that it can read.
        agree: Makes the answer to an offer that came over the control channel, None for a receiver that makes none.
    """

    def __init__(
        self,
        house: "House",
        accept: dict[str, list[str]],
        agree: Callable[["Guest", NewOffer], Awaitable[Told | None]] | None = None,
    ) -> None:
        self.sizes: dict[str, list[int]] = {}  # widths of the frames that came, by media section
        self.told: list[Told] = []
        self.peer = Peer(
            len(house.peers),
            "guest",
            Seek(accept=accept),
            PeerConnection(network=own_host()),
        )
        self.sounds: dict[str, list[ReceivedSound]] = {}  # what was heard, by media section
        self.connection = PeerConnection(
            network=own_host(), on_channel=self._channel, on_video=self._video, on_audio=self._audio
        )
        self._house = house
        self._agree = agree or Guest.answer
        self._control: Control | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def streams(self) -> dict[str, Published]:
        """What is published, as it was told last."""
        lists = [message.streams for message in self.told if isinstance(message, Streams | NewOffer)]
        return {stream.name: stream for stream in lists[-1]} if lists else {}

    async def answer(self, offer: NewOffer) -> Told | None:
        mids = [stream.mid for stream in offer.streams if stream.mid is not None]
        return NewAnswer(offer.number, await self.connection.answer(offer.sdp, mids))

    async def __aenter__(self) -> Self:
        house, peer = self._house, self.peer
        house.publisher.join(peer)
        house.peers.append(peer)
        peer.control = Control(
            peer.connection.add_channel(control.LABEL, protocol=control.PROTOCOL),
            gone=pytest.fail,
            opened=lambda: house.publisher.opened(peer),
            told=lambda message: house.publisher.told(peer, message),
        )
        await peer.connection.set_answer(await self.connection.answer(await peer.connection.offer()))
        while peer.connection.state != "connected" or self.connection.state != "connected":
            await elapse(0.01)
        house.publisher.connected(peer)
        await elapse(0.5)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._house.publisher.leave(self.peer)
        for end in (self._control, self.peer.control):
            if end is not None:
                end.close()
        await asyncio.gather(self.peer.connection.close(), self.connection.close())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _channel(self, channel: Channel) -> None:
        if channel.label == control.LABEL:
            self._control = Control(channel, gone=lambda _: None, told=self._hear)

    def _hear(self, message: Told) -> None:
        self.told.append(message)
        if isinstance(message, NewOffer):
            self._spawn(self._reply(message))

    async def _reply(self, offer: NewOffer) -> None:
        if (reply := await self._agree(self, offer)) is not None and self._control is not None:
            self._control.tell(reply)

    def _video(self, track: VideoTrack) -> None:
        self._spawn(self._watch(track))

    async def _watch(self, track: VideoTrack) -> None:
        async for received in track:
            self.sizes.setdefault(track.mid, []).append(received.frame.width)

    def _audio(self, track: AudioTrack) -> None:
        self._spawn(self._listen(track))

    async def _listen(self, track: AudioTrack) -> None:
        async for received in track:
            self.sounds.setdefault(track.mid, []).append(received)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class House:
    """A publisher, and those who are connected to it."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.events: list[StreamEvent] = []
        self.publisher = Publisher(self._do, lambda _: None, Faults())
        self.publisher.events.subscribe(self.events.append)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def _do(self, _: int, step: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._take(step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, step: Callable[[], Awaitable[None]]) -> None:
        async with self._turn:
            await step()


@contextlib.asynccontextmanager
async def house(*names: str) -> AsyncIterator[House]:
    made = House()
    try:
        for name in names or ["camera"]:
            await made.publisher.publish(name, pattern())
        yield made
    finally:
        await made.publisher.aclose()


ALL = {"control": [control.PROTOCOL], "streams": [published.PROTOCOL], "faces": [FACES]}


@turned
async def test_a_stream_that_is_published_comes_to_those_who_are_connected() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        assert list(guest.streams) == ["camera"]
        await made.publisher.publish("screen", pattern(640))
        await elapse(1)
        mid = guest.streams["screen"].mid
        assert mid is not None
        assert guest.streams["camera"].mid != mid
        assert guest.sizes[mid][0] == 640
        assert len(guest.sizes[mid]) > FPS / 2


@turned
async def test_others_play_on_meanwhile() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        camera = guest.streams["camera"].mid
        assert camera is not None
        before = len(guest.sizes[camera])
        await made.publisher.publish("screen", pattern(640))
        await elapse(1)
        assert len(guest.sizes[camera]) - before >= FPS - 3
        assert set(guest.sizes[camera]) == {320}


@turned
async def test_who_joins_later_gets_all_streams() -> None:
    async with house("camera", "screen") as made, Guest(made, ALL) as guest:
        await elapse(1)
        assert [bool(guest.sizes[stream.mid or ""]) for stream in guest.streams.values()] == [True, True]


@turned
async def test_a_page_is_sent_the_first_video_alone() -> None:
    async with house("camera", "screen") as made, Guest(made, {"control": [control.PROTOCOL]}) as guest:
        await made.publisher.publish("window", pattern(640))
        await elapse(1)
        assert len(guest.sizes) == 1
        assert guest.told == []


@turned
async def test_who_takes_one_stream_is_sent_no_other() -> None:
    async with house("camera", "screen", "window") as made, Guest(made, ALL | {"take": ["screen"]}) as guest:
        await elapse(1)
        assert [bool(stream.mid) for stream in guest.streams.values()] == [False, True, False]
        assert len(guest.sizes) == 1
        assert made.publisher.streams["camera"].stats.encoded == 0


@turned
async def test_a_stream_that_ends_makes_room_for_another() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        screen = await made.publisher.publish("screen", pattern(640))
        await elapse(1)
        mid = guest.streams["screen"].mid or ""
        await screen.unpublish()
        await elapse(1)
        assert list(guest.streams) == ["camera"]
        count = len(guest.sizes[mid])
        await elapse(1)
        assert len(guest.sizes[mid]) == count
        await made.publisher.publish("window", pattern(480))
        await elapse(1)
        assert guest.streams["window"].mid == mid
        assert guest.sizes[mid][count:]
        assert set(guest.sizes[mid][count:]) == {480}


@turned
async def test_streams_that_come_and_go_take_no_more_sections_each_time() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        for _ in range(12):
            screen = await made.publisher.publish("screen", pattern(64))
            await elapse(0.3)
            await screen.unpublish()
        await elapse(0.3)
        assert len(guest.peer.connection.senders) == 2
        assert len(guest.peer.watchers) == 1


@turned
async def test_a_refused_stream_costs_nothing_else() -> None:
    async def refuse(guest: Guest, offer: NewOffer) -> Told:
        return NewAnswer(offer.number, await guest.connection.answer(offer.sdp, []))

    async with house() as made, Guest(made, ALL, refuse) as guest:
        screen = await made.publisher.publish("screen", pattern(640))
        await elapse(1)
        assert len(guest.sizes) == 1
        assert screen.stats.encoded < 10
        assert [(event.name, event.session) for event in made.events if event.state == "refused"] == [
            ("screen", "guest")
        ]


@turned
async def test_an_answer_to_an_older_offer_is_not_taken() -> None:
    held: list[NewOffer] = []

    async def hold(guest: Guest, offer: NewOffer) -> Told | None:
        held.append(offer)
        return await guest.answer(held[0]) if len(held) == 1 else await guest.answer(offer)

    async with house() as made, Guest(made, ALL, hold) as guest:
        first = asyncio.create_task(made.publisher.publish("screen", pattern(640)))
        second = asyncio.create_task(made.publisher.publish("window", pattern(480)))
        await asyncio.gather(first, second)
        await elapse(1)
        widths = {name: set(guest.sizes[stream.mid or ""]) for name, stream in guest.streams.items()}
        assert widths == {"camera": {320}, "screen": {640}, "window": {480}}


@turned
async def test_a_receiver_that_never_answers_is_not_encoded_for() -> None:
    async def silent(_: Guest, __: NewOffer) -> None:
        return None

    async with house() as made, Guest(made, ALL, silent):
        screen = await made.publisher.publish("screen", pattern(640))
        await elapse(ANSWER_WITHIN + 0.1)
        encoded = screen.stats.encoded
        await elapse(2)
        assert screen.stats.encoded == encoded
        assert [event.name for event in made.events if event.state == "refused"] == ["screen"]


@turned
async def test_what_a_receiver_says_against_an_offer_is_told() -> None:
    async def refuse(_: Guest, offer: NewOffer) -> Told:
        return Refusal(offer.number, "no more can be shown")

    async with house() as made, Guest(made, ALL, refuse) as guest:
        await made.publisher.publish("screen", pattern(640))
        await elapse(1)
        assert [event.reason for event in made.events if event.state == "refused"] == ["no more can be shown"]
        assert len(guest.sizes) == 1


@turned
async def test_a_muted_stream_is_not_sent_until_it_is_unmuted() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        camera = made.publisher.streams["camera"]
        camera.mute()
        await elapse(0.2)
        (frames,) = guest.sizes.values()
        count = len(frames)
        await elapse(1)
        assert len(frames) == count
        assert guest.streams["camera"].muted
        camera.unmute()
        await elapse(1)
        assert len(frames) - count >= FPS - 3
        assert not guest.streams["camera"].muted


@turned
async def test_a_source_is_replaced_while_it_plays() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        await made.publisher.streams["camera"].replace(TestPattern((480, 240), FPS))
        await elapse(1)
        (frames,) = guest.sizes.values()
        assert frames[0] == 320
        assert frames[-FPS // 2 :] == [480] * (FPS // 2)
        assert guest.streams["camera"].replaced == 1


@turned
async def test_a_source_that_gives_no_frame_replaces_nothing() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        with pytest.raises(SourceError, match="before it gave anything"):
            await made.publisher.streams["camera"].replace(iter(()))
        (frames,) = guest.sizes.values()
        count = len(frames)
        await elapse(1)
        assert len(frames) - count >= FPS - 3


@turned
async def test_a_stream_ends_with_its_source_and_nothing_else_does() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        few = (TestPattern((64, 48)).draw(number) for number in range(3))
        await made.publisher.publish("clip", stream(few))
        await until(lambda: "clip" not in made.publisher.streams)  # its frames come from a thread, at the thread's pace
        await elapse(1)
        assert list(made.publisher.streams) == list(guest.streams) == ["camera"]
        assert (made.events[-1].name, made.events[-1].state) == ("clip", "unpublished")


@turned
async def test_sound_comes_beside_the_video() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        microphone = await made.publisher.publish("microphone", SoundStream(Tone()))
        await elapse(2)
        mid = guest.streams["microphone"].mid
        assert mid is not None
        heard = guest.sounds[mid]
        assert len(heard) > 75
        assert not any(received.concealed for received in heard[10:])
        received = next(received for received in heard[20:] if received.captured is not None)
        assert Tone.read_time(received.samples[:, 0], received.captured or 0) == pytest.approx(
            received.captured, abs=0.005
        )
        microphone.mute()
        await elapse(0.5)
        encoded = microphone.stats.encoded
        await elapse(1)
        assert microphone.stats.encoded == encoded


@turned
async def test_a_section_of_sound_carries_another_sound_and_no_video() -> None:
    async with house() as made, Guest(made, ALL) as guest:
        microphone = await made.publisher.publish("microphone", SoundStream(Tone()))
        await elapse(0.5)
        mid = guest.streams["microphone"].mid or ""
        await microphone.unpublish()
        await made.publisher.publish("screen", pattern(640))
        await made.publisher.publish("music", SoundStream(Tone()))
        await elapse(0.5)
        count = len(guest.sounds[mid])
        await elapse(1)
        assert guest.streams["music"].mid == mid
        assert guest.streams["screen"].mid != mid
        assert len(guest.sounds[mid]) > count + 40


@turned
async def test_sound_that_nobody_hears_is_not_encoded() -> None:
    async with house() as made, Guest(made, ALL | {"take": ["camera"]}):
        microphone = await made.publisher.publish("microphone", SoundStream(Tone()))
        await elapse(1)
        assert microphone.stats.encoded == 0
        assert microphone.stats.frames > 40


async def test_what_begins_while_all_ends_is_not_published() -> None:
    async def slow() -> AsyncIterator[av.VideoFrame]:
        begun.set()
        await turns(20)
        yield TestPattern((64, 48)).draw(0)
        await asyncio.Event().wait()

    begun = asyncio.Event()
    made = House()
    publishing = asyncio.create_task(made.publisher.publish("camera", stream(slow())))
    await begun.wait()
    await made.publisher.aclose()
    with pytest.raises(SynopticonError):
        await publishing
    assert made.publisher.streams == {}


async def test_names_are_told_apart_and_bounded() -> None:
    async with house() as made:
        for name, words in (("camera", "already"), ("", "1 to 64"), ("x" * 65, "1 to 64"), (7, "1 to 64")):
            with pytest.raises(ValueError, match=words):
                await made.publisher.publish(name, pattern())  # type: ignore[arg-type]
        for number in range(MAX_STREAMS - 1):
            await made.publisher.publish(str(number), pattern(64))
        with pytest.raises(ValueError, match="the most"):
            await made.publisher.publish("one more", pattern())
