"""Objects that are used outside of their `async with`, twice, or in another event loop: refused in words, or works."""

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from field_helpers import run
from waiting import turns

from synopticon_rtc import (
    Broadcaster,
    FaceLandmarker,
    IceServer,
    Receiver,
    SignalingClient,
    SignalingServer,
    TestPattern,
)

pytestmark = pytest.mark.field

URL = "ws://127.0.0.1:9/ws"
CARD = TestPattern((160, 90), 30)


def broadcaster(url: str = URL) -> Broadcaster:
    return Broadcaster(url, CARD)


async def iterate(receiver: Receiver[Any]) -> None:
    async for _ in receiver:
        pass


USES: dict[str, Callable[[], Awaitable[object]]] = {
    "broadcaster.wait_closed": lambda: broadcaster().wait_closed(),
    "receiver iteration": lambda: iterate(Receiver(URL)),
    "receiver anext": lambda: anext(Receiver(URL)),
    "client.wait_open": lambda: SignalingClient(URL).wait_open(),
    "server.serve_forever": lambda: SignalingServer(port=0).serve_forever(),
    "server.drain": lambda: SignalingServer(port=0).drain(1),
    "landmarker.detect": lambda: FaceLandmarker().detect(CARD.draw(0)),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_what_was_not_entered_says_so(use: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        async with asyncio.timeout(20):
            await use()


def test_a_server_that_is_not_open_has_no_address_yet() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        _ = SignalingServer(port=0).url


@pytest.mark.parametrize("kind", [broadcaster, Receiver, lambda _: SignalingServer(port=0)])
async def test_what_can_be_entered_only_once_says_so(kind: Callable[[str], Any]) -> None:
    entered = kind(URL)
    async with entered:
        with pytest.raises(RuntimeError, match="async with"):
            await entered.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        await entered.__aenter__()


async def test_a_landmarker_that_is_open_says_so() -> None:
    async with FaceLandmarker() as landmarker:
        with pytest.raises(RuntimeError, match="async with"):
            await landmarker.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        await landmarker.detect(CARD.draw(0))
    async with landmarker:
        assert await landmarker.detect(CARD.draw(0)) == ()


async def test_iterating_over_a_receiver_that_was_left_says_so_and_one_who_iterates_meanwhile_ends() -> None:
    async with Receiver(URL) as receiver:
        iterating = asyncio.create_task(iterate(receiver))
        await turns()
    await asyncio.wait_for(iterating, 5)
    with pytest.raises(RuntimeError, match="async with"):
        await iterate(receiver)


async def test_both_ends_can_be_started_and_closed_by_hand() -> None:
    async with SignalingServer(port=0) as server:
        sends, receives = broadcaster(server.url), Receiver(server.url, timeout=15)
        assert await sends.start() is sends
        assert await receives.start() is receives
        moment = await anext(receives)
        assert moment.frame.width == 160
        for each in (receives, sends, receives, sends):
            await each.aclose()
        await asyncio.wait_for(sends.wait_closed(), 5)
    await broadcaster().aclose()  # never started
    await Receiver(URL).aclose()


def test_a_client_can_be_used_in_one_event_loop_after_the_other() -> None:
    port = 0

    async def use(client: SignalingClient | None) -> SignalingClient:
        nonlocal port
        async with SignalingServer(port=port) as server:
            port = server.port
            client = client or SignalingClient(server.url)
            async with Broadcaster(client, CARD), Receiver(server.url, timeout=15) as receiver:
                await anext(receiver)
        return client

    client = asyncio.run(use(None))
    asyncio.run(use(client))


def test_a_client_outlives_an_event_loop_that_ended_without_leaving_it() -> None:
    client = SignalingClient(URL)

    async def enter() -> None:
        await client.__aenter__()

    async def enter_and_leave() -> None:
        async with client:
            pass

    asyncio.run(enter())
    asyncio.run(enter_and_leave())


async def test_a_client_in_use_is_refused_in_another_event_loop() -> None:
    refused: list[BaseException] = []

    def elsewhere() -> None:
        async def enter() -> None:
            await client.__aenter__()

        try:
            asyncio.run(enter())
        except RuntimeError as error:
            refused.append(error)

    async with SignalingClient(URL) as client:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
    assert "in another event loop" in str(refused[0])


@pytest.mark.parametrize("kind", [broadcaster, Receiver, lambda _: SignalingServer(port=0)])
def test_the_others_are_refused_in_words_in_a_second_event_loop(kind: Callable[[str], Any]) -> None:
    used = kind(URL)

    async def use() -> None:
        async with used:
            pass

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="only once"):
        asyncio.run(use())


def test_a_landmarker_can_be_used_in_one_event_loop_after_the_other() -> None:
    landmarker = FaceLandmarker()

    async def use() -> None:
        async with landmarker:
            assert await landmarker.detect(CARD.draw(0)) == ()

    asyncio.run(use())
    asyncio.run(use())


@pytest.mark.parametrize(
    "options",
    [
        {"signaling": None},
        {"signaling": SignalingClient},
        {"ice_servers": "stun:host"},
        {"ice_servers": None},
        {"ice_servers": IceServer("stun:host")},
        {"udp_ports": 40000},
        {"udp_ports": "40000-40100"},
        {"udp_ports": (1.5, 4)},
        {"udp_ports": (True, True)},
        {"announce": 5},
        {"interfaces": [3]},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [functools.partial(Broadcaster, source="test"), Receiver], ids=["sends", "receives"])
def test_what_no_end_can_use_is_refused_at_once(kind: Callable[..., object], options: dict[str, object]) -> None:
    name = next(iter(options))
    with pytest.raises((TypeError, ValueError), match=f"^{name} must be "):
        kind(**{"signaling": URL} | options)


@pytest.mark.parametrize("options", [{"room": 5}, {"token": 5}, {"ssl": "ca.pem"}], ids=str)
def test_what_no_client_can_use_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(options))} must be "):
        SignalingClient(URL, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"sync": "excat"},
        {"faces_wait": -1},
        {"jitter_ms": float("nan")},
        {"timeout": -1},
        {"timeout": "1"},
        {"max_size": 1920},
        {"max_size": (1, 2, 3)},
        {"broadcaster": 5},
    ],
    ids=str,
)
def test_what_no_receiver_can_use_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be "):
        Receiver(URL, **options)


@pytest.mark.parametrize("options", [{"name": 5}, {"bitrate": "1M"}, {"fps": "30"}, {"faces_fps": "5"}], ids=str)
def test_what_no_broadcaster_can_use_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be "):
        Broadcaster(URL, "test", **options)


@pytest.mark.parametrize(
    "words",
    [("broadcast", "--fps", "nan"), ("broadcast", "--faces-fps", "nan"), ("receive", "--duration", "nan")],
    ids=str,
)
def test_what_is_no_number_is_refused_at_once(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.code == 2
    assert "'nan' is no number. Try --help" in done.err
