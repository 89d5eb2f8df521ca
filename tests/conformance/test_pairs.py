"""The pages in real browsers and our peers: what `make conformance` shows in its table, one test a pair, and more."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from browsers import BROWSERS, Browser, serving
from pairs import PAGE_TABLE, PAGES, SERVERS, WITHIN, Pair, all_pairs, check, receives, reported

from synopticon_rtc import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = {page.name: page for page in PAGE_TABLE}


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serving(PAGES) as base:
        yield base


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started() -> AsyncIterator[Callable[[str], Awaitable[Browser]]]:
    """Gives a browser by its name, started once."""
    running: dict[str, Browser] = {}
    async with AsyncExitStack() as stack:

        async def browser(name: str) -> Browser:
            path, start = BROWSERS[name]
            if not path.exists():
                pytest.skip(f"needs {path}")
            if name not in running:
                running[name] = await stack.enter_async_context(start())
            return running[name]

        yield browser


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("pair", list(all_pairs()), ids=str)
async def test_it_plays(pair: Pair, started: Callable[[str], Awaitable[Browser]], base: str) -> None:
    await check(pair, await started(pair.browser) if pair.browser else None, base)


@pytest.mark.browser
async def test_an_offer_that_nobody_asked_for_is_taken(started: Callable[[str], Awaitable[Browser]], base: str) -> None:
    chromium = await started("chromium")
    async with SERVERS["0.6.2"]() as server, Receiver(server.url, timeout=WITHIN) as receiver:
        await receiver.signaling.wait_open()
        async with chromium(f"{base}/index.html?page=webrtc-demo&role=broadcast&url={server.url}"):
            await receives(receiver, points=None)


@pytest.mark.browser
async def test_of_two_pages_that_broadcast_one_plays_on(
    started: Callable[[str], Awaitable[Browser]], base: str
) -> None:
    chromium = await started("chromium")
    async with SERVERS["0.6.3"]() as server, AsyncExitStack() as stack:
        tabs = [
            await stack.enter_async_context(
                chromium(f"{base}/index.html?page={name}&role=broadcast&url={server.url}"),
            )
            for name in ("webrtc-signaling-demo", "mediapipe-simple-test")
        ]
        for tab in tabs:
            await reported(tab, lambda report: report["session"] is not None)
        states: list[str] = []
        async with Receiver(server.url, timeout=WITHIN) as receiver:
            receiver.events.subscribe(lambda event: states.append(event.state))
            for tab in tabs:
                await reported(tab, lambda report: report["offers"] > 0)
            for _ in range(3):
                await receives(receiver, points=468)
        assert [(await tab("window.report"))["thrown"] for tab in tabs] == [[], []]
        assert states[-2:] == ["connected", "closed"]


@pytest.mark.browser
async def test_faces_alone_come_from_a_page_that_offers_video(
    started: Callable[[str], Awaitable[Browser]], base: str
) -> None:
    chromium = await started("chromium")
    async with SERVERS["embedded"]() as server:
        url = f"{base}/index.html?page=webrtc-signaling-demo&role=broadcast&url={server.url}"
        async with chromium(url) as tab, Receiver(server.url, video=False, timeout=WITHIN) as receiver:
            faces = [await anext(receiver) for _ in range(5)]
            (peer,) = receiver._negotiator._peers.values()
            assert peer.connection.stats().packets_received == 0
            assert (await tab("window.report"))["thrown"] == []
    assert all(moment.frame is None and len(moment.faces[0].landmarks) == 468 for moment in faces)
