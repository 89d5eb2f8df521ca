"""The control channel, between two real peer connections over a network in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from turned import TurnedLoop, elapse, turned
from wires import own_host, own_network

from synopticon_rtc.peers import control
from synopticon_rtc.peers.control import Control, Report
from synopticon_rtc.peers.published import MAX_STREAMS, NewAnswer, NewOffer, Published, Refusal, Streams, Told
from synopticon_rtc.rtc import Channel, PeerConnection


@contextlib.asynccontextmanager
async def linked() -> AsyncIterator[tuple[Channel, Channel]]:
    arrived: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
    one, two = PeerConnection(network=own_host()), PeerConnection(on_channel=arrived.set_result, network=own_host())
    channel = one.add_channel(control.LABEL, protocol=control.PROTOCOL)
    await one.set_answer(await two.answer(await one.offer()))
    async with asyncio.timeout(20):
        other = await arrived
        while not channel.is_open:
            await elapse(0.01)
        yield channel, other
    await asyncio.gather(one.close(), two.close())


@turned
async def test_both_sides_learn_the_offset_of_the_clocks_and_the_round_trip() -> None:
    async with linked() as (one, two):
        sides = [Control(channel, gone=pytest.fail) for channel in (one, two)]
        await elapse(1.6)
        for side in sides:
            side.close()
            assert side.offset is not None
            assert side.error is not None
            assert abs(side.offset) < 0.05
            assert 0 <= side.error < 0.05


async def believed(*answers: tuple[float, float, float]) -> list[tuple[float, float]]:
    """Take samples (taken when, offset, error) one after the other; return what is believed at the time of each."""
    async with linked() as (one, _):
        side, told = Control(one, gone=pytest.fail), []
        for answer in answers:
            side._believe(control._Sample(*answer))
            assert side._sample is not None
            told.append((side._sample.offset, round(side._sample.error_at(answer[0]), 6)))
        side.close()
        return told


@turned
async def test_the_surest_answer_is_believed_until_clocks_may_have_gone_further_apart() -> None:
    answers = (0.0, 5.000, 0.001), (10.0, 5.002, 0.003), (30.0, 5.001, 0.003), (30.1, 5.0, 0.0029)
    assert await believed(*answers) == [(5.0, 0.001), (5.0, 0.002), (5.001, 0.003), (5.0, 0.0029)]


@turned
async def test_an_answer_that_contradicts_the_surest_one_is_believed() -> None:
    assert await believed((0.0, 5.0, 0.001), (1.0, 5.2, 0.05)) == [(5.0, 0.001), (5.2, 0.05)]


@turned
async def test_one_side_reports_to_the_other() -> None:
    async with linked() as (one, two):
        reports = iter([[Report(1, 2.0, capture=3.0)], [], [Report(4, 5.0)]])
        heard: asyncio.Queue[Report] = asyncio.Queue()
        telling = Control(one, gone=pytest.fail, reports=lambda: next(reports, []))
        listening = Control(two, gone=pytest.fail, reported=heard.put_nowait)
        async with asyncio.timeout(10):
            assert [await heard.get(), await heard.get()] == [Report(1, 2.0, capture=3.0), Report(4, 5.0)]
        for side in (telling, listening):
            side.close()


@turned
async def test_what_is_told_of_streams_comes_to_the_other_side() -> None:
    async with linked() as (one, two):
        heard: asyncio.Queue[Told] = asyncio.Queue()
        telling = Control(one, gone=pytest.fail)
        listening = Control(two, gone=pytest.fail, told=heard.put_nowait)
        camera = Published("camera", "video", "camera", "0", faces=True)
        messages: list[Told] = [Streams([camera]), NewOffer(1, "v=0", [camera]), NewAnswer(1, "v=0"), Refusal(2, "why")]
        for message in messages:
            telling.tell(message)
        async with asyncio.timeout(10):
            assert [await heard.get() for _ in messages] == messages
        for side in (telling, listening):
            side.close()


@turned
async def test_the_other_side_learns_that_something_is_recorded_and_no_more_often_than_it_is_pinged() -> None:
    async with linked() as (one, two):
        records = True
        heard: list[bool] = []
        telling = Control(one, gone=pytest.fail, records=lambda: records)
        listening = Control(two, gone=pytest.fail, recording=heard.append)
        await elapse(1.6)
        assert heard == [True]
        records = False
        await elapse(1.6)
        assert heard == [True, False]
        for number in range(100):  # as fast as somebody can
            one.send(f'{{"type":"ping","t":1,"recording":{"false" if number % 2 else "true"}}}')
        await elapse(0.1)
        assert len(heard) == 3
        await elapse(1.5)
        assert heard == [True, False, True, False]
        for side in (telling, listening):
            side.close()


@turned
async def test_a_list_of_too_many_streams_is_ignored() -> None:
    async with linked() as (one, two):
        heard: asyncio.Queue[Told] = asyncio.Queue()
        telling = Control(one, gone=pytest.fail)
        listening = Control(two, gone=pytest.fail, told=heard.put_nowait)
        telling.tell(Streams([Published(str(number), "video") for number in range(MAX_STREAMS + 1)]))
        telling.tell(Refusal(1, ""))
        async with asyncio.timeout(10):
            assert await heard.get() == Refusal(1, "")
        for side in (telling, listening):
            side.close()


@turned
async def test_silence_is_noticed_once() -> None:
    async with linked() as (one, two):
        gone: list[str] = []
        sides = [Control(one, gone=gone.append), Control(two, gone=lambda _: None)]
        await elapse(0.5)
        own_network().cut_all()
        await elapse(control.SILENCE + 2 * control.PING_INTERVAL)
        for side in sides:
            side.close()
        assert len(gone) == 1


@turned
async def test_whoever_says_nothing_and_yet_sends_is_not_gone() -> None:
    async with linked() as (one, two):
        gone: list[str] = []
        watching, other = Control(one, gone=gone.append), Control(two, gone=lambda _: None)
        await elapse(0.5)
        other.close()
        two.on_message = None  # as where its messages wait behind a file that it sends
        await elapse(3 * control.SILENCE)
        watching.close()
        assert gone == []


@turned
async def test_nobody_is_gone_who_was_not_heard_yet() -> None:
    async with linked() as (one, _):
        gone: list[str] = []
        watching = Control(one, gone=gone.append)
        await elapse(0.1)
        own_network().cut_all()  # as if it were still to connect
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TurnedLoop)
        loop.now += 5  # we stood still
        await elapse(2 * control.SILENCE)
        watching.close()
        assert gone == []


@turned
async def test_nonsense_is_ignored() -> None:
    async with linked() as (one, two):
        watching = Control(one, gone=pytest.fail, reported=lambda report: pytest.fail(str(report)))
        heard: list[str | bytes] = []
        two.on_message = heard.append
        for nonsense in (
            "",
            "{",
            "[]",
            '{"type":"ping"}',
            '{"type":"pong","t":"x","time":null}',
            '{"type":"pong","t":1' + "0" * 400 + ',"time":1}',
            '{"type":"report"}',
            '{"type":"report","rtpTimestamp":-1,"captured":0}',
            '{"type":"report","rtpTimestamp":1,"captured":1e300}',
            '{"type":"report","rtpTimestamp":1,"captured":1,"encoding":-1}',
            '{"type":"of a later version"}',
            "[" * 50_000,
            b"\xff",
        ):
            two.send(nonsense)
        two.send('{"type":"pong","t":-1e300,"time":1e300}')
        two.send('{"type":"ping","t":1}')
        await elapse(0.3)
        watching.close()
        assert watching.offset is None
        assert any(b'"pong"' in (message if isinstance(message, bytes) else message.encode()) for message in heard)
