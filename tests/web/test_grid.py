"""The viewer's grid in a real browser: everybody in a room at once."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio
from browsers import CHROMIUM, Tab, chromium, until_told

from synopticon_rtc import Broadcaster, Face, SignalingServer, TestPattern
from synopticon_rtc.media.sound import Tone

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]


BOXES = """
[...document.querySelectorAll(".tile")].map((tile) => {
  const { left, top, right, bottom } = tile.getBoundingClientRect();
  return [left, top, right, bottom];
})
"""


class AsManyFaces:
    """Finds so many faces in every frame, all in one place."""

    def __init__(self, count: int) -> None:
        self._faces = [Face(np.full((478, 3), 0.5, np.float32), {}) for _ in range(count)]

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        return self._faces


def publisher(server: SignalingServer, name: str, faces: int = 0, **options: Any) -> Broadcaster:
    detector = AsManyFaces(faces) if faces else None
    return Broadcaster(server.url, TestPattern((320, 180), 15), name=name, faces=detector, **options)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tab(server: SignalingServer) -> AsyncIterator[Tab]:
    async with chromium() as browser, browser(f"{server.viewer}?grid&from=Ben") as tab:
        # Who evaluates something in a page counts as somebody who clicks in it.
        await tab("Object.defineProperty(navigator, 'userActivation', { value: { hasBeenActive: false } }) && 0")
        yield tab


async def people(tab: Tab) -> dict[str, Any]:
    """What the page says of each who is in it, by name."""
    return {each["name"]: each for each in await tab("synopticon.people")}


async def test_everybody_is_shown_with_their_own_faces_and_keeps_their_place(server: SignalingServer, tab: Tab) -> None:
    async def playing() -> bool:
        shown = await people(tab)
        return {name: each["faces"] for name, each in shown.items() if each["paired"] > 3} == {"Ada": 1, "Ben": 2}

    async with publisher(server, "Ada", 1, audio=Tone()) as ada:
        async with publisher(server, "Ben", 2):
            await until_told(playing)
            places = await tab("synopticon.people.map(({ name }) => name)")
            shown = await people(tab)
            assert await tab("synopticon.large") == shown["Ben"]["key"]  # as the address has it
            await until_told(lambda: tab("synopticon.people.some(({ name, speaks }) => name === 'Ada' && speaks)"))
            assert not (await people(tab))["Ben"]["speaks"]
            for stream in ada.streams.values():
                stream.mute()
            await until_told(
                lambda: tab("synopticon.people.some(({ words, silent }) => words === 'Camera off' && silent)")
            )
            for stream in ada.streams.values():
                stream.unmute()
        await until_told(lambda: tab("synopticon.people.length === 1"))
        assert await tab("synopticon.large") is None
        async with publisher(server, "Ben", 2):
            await until_told(playing)
            assert sorted(await people(tab)) == sorted(places)
    await until_told(lambda: tab("synopticon.people.length === 0 && synopticon.state === 'seeking'"))
    assert "Looking for people" in await tab("document.getElementById('headline').textContent")


async def test_a_tile_becomes_large_and_small_again(server: SignalingServer, tab: Tab) -> None:
    width = "document.querySelectorAll('.tile')[1].getBoundingClientRect().width"
    async with publisher(server, "Ada"), publisher(server, "Ben"):
        await until_told(lambda: tab("synopticon.people.filter(({ frames }) => frames > 3).length === 2"))
        await tab("document.querySelectorAll('.enlarge')[1].click()")
        await until_told(lambda: tab(f"{width} > innerWidth / 2"))
        pressed = "document.querySelectorAll('.enlarge')[1].getAttribute('aria-pressed') === 'true'"
        await until_told(lambda: tab(pressed))
        await tab("document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }))")
        await until_told(lambda: tab(f"{width} <= innerWidth / 2"))


@pytest.mark.long
async def test_of_twenty_people_sixteen_are_shown_and_the_page_says_how_many_more_there_are(
    server: SignalingServer, tab: Tab
) -> None:
    playing = "synopticon.people.filter(({ frames }) => frames > 3).length"
    async with contextlib.AsyncExitStack() as stack:
        for number in range(20):
            person = Broadcaster(server.url, TestPattern((160, 120), 5), name=f"person {number}", fps=5)
            await stack.enter_async_context(person)
        await until_told(lambda: tab(f"{playing} === 16"), 120)
        assert "4 more" in await tab("document.getElementById('note').textContent")
        boxes = await tab(BOXES)
        assert len(boxes) == 16
        for left, top, right, bottom in boxes:
            assert right - left > 100
            assert 0 <= left < right <= 1280
            assert 0 <= top < bottom <= 720
        for one, other in itertools.combinations(boxes, 2):
            assert one[2] <= other[0] + 1 or other[2] <= one[0] + 1 or one[3] <= other[1] + 1 or other[3] <= one[1] + 1
    await until_told(lambda: tab("synopticon.people.length === 0"))
