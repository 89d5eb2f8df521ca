"""Pages that broadcast while their main thread is busy: they answer late, and each of our discoveries by itself."""

import statistics
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from browsers import BROWSERS, Browser, serving, until_told
from busy import BUSY_MS, RECEIVERS, WITHIN, busy_page, first_frame_of_ours, first_frame_of_page
from pairs import PAGES

from synopticon_rtc import Receiver
from synopticon_rtc.signaling.messages import RequestOffer, Seek

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.browser]

ROUNDS = 3
TIMES = 1.5  # longer than with a page that receives


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with serving(PAGES) as base:
        yield base


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browsers() -> AsyncIterator[tuple[Browser, Browser]]:
    """One for the page that is busy, and one that has nothing to do with it."""
    path, start = BROWSERS["chromium"]
    if not path.exists():
        pytest.skip(f"needs {path}")
    async with start() as busy, start() as idle:
        yield busy, idle


@pytest.mark.parametrize("name", RECEIVERS)
async def test_an_offer_that_a_busy_page_makes_again_ends_no_link(
    name: str, browsers: tuple[Browser, Browser], base: str
) -> None:
    states: list[str] = []
    async with busy_page(browsers[0], base, name, 300) as (url, tab), Receiver(url, timeout=WITHIN) as receiver:
        receiver.events.subscribe(lambda event: states.append(event.state))
        await anext(receiver)
        offers = (await tab("window.report"))["offers"]
        for discovery in (Seek(), RequestOffer()):  # the page answers one of them
            receiver.signaling.send(discovery)
        await until_told(lambda: tab(f"window.report.offers > {offers}"), WITHIN)
        for _ in range(3):
            await anext(receiver)
    assert states == ["seeking", "connecting", "connected", "closed"]


@pytest.mark.slow
@pytest.mark.parametrize("busy_ms", BUSY_MS)
@pytest.mark.parametrize("name", RECEIVERS)
async def test_a_busy_page_is_received_about_as_soon_as_by_a_page(
    name: str, busy_ms: int, browsers: tuple[Browser, Browser], base: str
) -> None:
    ours, theirs = [], []
    for _ in range(ROUNDS):
        async with busy_page(browsers[0], base, name, busy_ms) as (url, _tab):
            theirs.append(await first_frame_of_page(browsers[1], base, name, url))
        async with busy_page(browsers[0], base, name, busy_ms) as (url, _tab):
            ours.append(await first_frame_of_ours(url))
    told = f"ours {[round(one, 2) for one in ours]} s, a page's {[round(one, 2) for one in theirs]} s"
    print(told)  # noqa: T201 - the figures, with `-s`
    assert statistics.median(ours) <= TIMES * statistics.median(theirs), told
