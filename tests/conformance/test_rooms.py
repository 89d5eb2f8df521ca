"""Pages of Synopticon that broadcast are participants of a room."""

import pytest
from browsers import BROWSERS, serving
from busy import RECEIVERS, busy_page
from pairs import PAGES

from synopticon_rtc import Room

pytestmark = pytest.mark.browser


async def test_pages_that_broadcast_are_in_the_room_and_their_moments_too() -> None:
    path, start = BROWSERS["chromium"]
    if not path.exists():
        pytest.skip(f"needs {path}")
    with serving(PAGES) as base:
        async with start() as browser:
            for name in RECEIVERS:
                async with busy_page(browser, base, name, 50) as (url, _), Room(url) as room:
                    participant = await anext(aiter(room))
                    seen = await anext(aiter(room.moments()))
                    assert seen.participant is participant
                    assert seen.moment.frame.width > 0
