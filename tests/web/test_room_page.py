"""The page of a call in a real browser: two people, and a program that sees both."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from browsers import CHROMIUM, FIREFOX, Tab, chromium, firefox, until_told
from playwright.async_api import Error as PlaywrightError

from synopticon_rtc import Broadcaster, Face, PeerEvent, Receiver, Room, SignalingServer, StateEvent, TestPattern
from synopticon_rtc.basics import clock

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]


class AnyFace:
    """Finds one face in every frame."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        return [Face(np.full((478, 3), 0.5, np.float32), {})]


SOON = 6.0
"""Seconds in which a picture is there again: 3 where the machine has nothing else to do."""
STRIPES = 8
SIZE, FPS = (320, 240), 10


def write_stripes(film: Path) -> None:
    """Write what Chromium shows in the place of a camera: a bright stripe, in another place in each frame."""
    width, height = SIZE
    with film.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{FPS}:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(STRIPES):
            picture = np.full((height * 3 // 2, width), 128, np.uint8)
            picture[:height] = 40
            picture[:height, number * width // STRIPES : (number + 1) * width // STRIPES] = 220
            file.write(b"FRAME\n" + picture.tobytes())


class StripeFinder:
    """Finds a face in the bright stripe."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        columns = np.array_split(frame.to_ndarray(format="gray"), STRIPES, axis=1)
        stripe = np.argmax([column.mean() for column in columns])
        points = np.random.default_rng(1).uniform(0.2, 0.8, (478, 3)).astype(np.float32)
        points[:, 0] = (stripe + points[:, 0]) / STRIPES
        return [Face(points, {})]


# At each repaint, whether the mesh on Ada's picture is where the stripe is; but for the first of a frame, as a browser
# may tell pages of that only before the next.
WATCH = f"""
(() => {{
  const tile = [...document.querySelectorAll(".tile")].find((each) => each.textContent.includes("Ada"));
  const [video, mesh] = [tile.querySelector("video"), tile.querySelector(".picture > canvas:not(.still)")];
  const size = {{ width: {STRIPES * 8}, height: 48 }};
  const canvas = Object.assign(document.createElement("canvas"), size);
  const context = canvas.getContext("2d", {{ willReadFrequently: true }});
  const where = (picture, channel) => {{
    context.clearRect(0, 0, size.width, size.height);
    context.drawImage(picture, 0, 0, size.width, size.height);
    const sums = Array({STRIPES}).fill(0);
    const {{ data }} = context.getImageData(0, 0, size.width, size.height);
    for (let i = channel; i < data.length; i += 4) sums[Math.floor(((i >> 2) % size.width) / 8)] += data[i];
    return sums.indexOf(Math.max(...sums));
  }};
  window.seen = [];
  let before;
  const look = () => {{
    const stripe = where(video, 0);
    if (stripe === before) seen.push(stripe === where(mesh, 3));
    before = stripe;
    requestAnimationFrame(look);
  }};
  requestAnimationFrame(look);
  return 0;
}})()
"""

# The share of the last 150 of them that are right. A busy machine stops browser and program for some frames at a time.
STEADY = "(seen.length < 150 ? 0 : seen.slice(-150).filter(Boolean).length / 150)"


@pytest.mark.long
async def test_the_mesh_of_others_is_drawn_on_the_frames_that_a_program_in_the_room_found_it_in(tmp_path: Path) -> None:
    write_stripes(tmp_path / "stripes.y4m")
    camera = f"--use-file-for-fake-video-capture={tmp_path / 'stripes.y4m'}"
    others = "synopticon.people.filter(({ key }) => key !== 'own')"
    async with (
        SignalingServer(port=0) as server,
        chromium(camera) as browser,
        browser(f"{server.viewer}room") as ada,
        browser(f"{server.viewer}room") as ben,
    ):
        await join(ada, "Ada")
        await join(ben, "Ben")
        await seeing(ben, "Ada")
        assert await ben("synopticon.people.every(({ faces }) => faces === 0)")
        async with Receiver(server.url, broadcaster="Ada", detector=StripeFinder(), return_faces=True) as receiver:
            await until_told(lambda: ben(f"{others}.some(({{ paired }}) => paired > 20)"))
            await ben(WATCH)
            await until_told(lambda: ben(f"{STEADY} > 0.95"))
            assert await ada("synopticon.people.find(({ key }) => key === 'own').faces") == 1
            assert await ada(f"{others}[0].faces") == 0  # nobody looks at Ben
            assert receiver.stats.faces_messages == 0  # who finds faces is not told them
        await until_told(lambda: ben("synopticon.people.every(({ faces }) => faces === 0)"))


@pytest.mark.long
@pytest.mark.skipif(not FIREFOX.exists(), reason=f"needs Firefox at {FIREFOX}")
async def test_firefox_draws_the_mesh_of_others_on_its_frames_too_by_when_they_come(tmp_path: Path) -> None:
    write_stripes(tmp_path / "stripes.y4m")
    camera = f"--use-file-for-fake-video-capture={tmp_path / 'stripes.y4m'}"
    async with (
        SignalingServer(port=0) as server,
        chromium(camera) as browser,
        firefox() as other,
        browser(f"{server.viewer}room") as ada,
        other(f"{server.viewer}room") as ben,
    ):
        await join(ada, "Ada")
        await ben("document.getElementById('watch').click()")
        await seeing(ben, "Ada")
        async with Receiver(server.url, broadcaster="Ada", detector=StripeFinder(), return_faces=True):
            await until_told(lambda: ben("synopticon.people.some(({ faces }) => faces === 1)"))
            await asyncio.sleep(6)  # the time over which it reckons
            await ben(WATCH)
            await until_told(lambda: ben(f"{STEADY} > 0.9"))


async def join(tab: Tab, name: str) -> None:
    await tab(f"document.getElementById('called').value = '{name}'")
    await tab("document.getElementById('start').click()")


async def others(tab: Tab) -> dict[str, Any]:
    """Whom the page shows beside oneself, by name."""
    return {each["name"]: each for each in await tab("synopticon.people") if each["key"] != "own"}


async def seeing(tab: Tab, *names: str) -> None:
    """Wait until the page shows moving pictures of these, and nobody else."""

    async def sees() -> bool:
        shown = await others(tab)
        return set(shown) == set(names) and all(each["frames"] > 3 for each in shown.values())

    await until_told(sees)


async def test_two_people_see_each_other_not_themselves_and_a_program_sees_either() -> None:
    async with SignalingServer(port=0) as server, chromium() as browser:
        address = f"{server.viewer}room"
        async with browser(address) as ada:
            await join(ada, "Ada")
            await until_told(lambda: ada("synopticon.phase === 'live'"))
            assert "You are alone here" in await ada("document.getElementById('state').textContent")
            async with browser(address) as ben:
                await join(ben, "Ben")
                await asyncio.gather(seeing(ada, "Ben"), seeing(ben, "Ada"))
                assert [each["name"] for each in await ada("synopticon.watchers")] == ["Ben"]
                async with (
                    asyncio.timeout(30),
                    Receiver(server.url, broadcaster="Ben", detector=AnyFace(), return_faces=True) as receiver,
                ):
                    moment = await anext(receiver)
                    assert moment.frame.width > 0
                    await until_told(
                        lambda: ben("synopticon.people[0].faces === 1")
                    )  # it comes back to one's own picture
                    await until_told(lambda: ben("synopticon.watchers.length === 2"))
                for name in "camera", "microphone":
                    await ben(f"document.getElementById('{name}').click()")
                await until_told(
                    lambda: ada("synopticon.people.some(({ words, silent }) => words === 'Camera off' && silent)")
                )
                await ben("document.getElementById('leave').click()")
                await until_told(lambda: ada("synopticon.people.length === 1"))
                await ben("document.getElementById('watch').click()")  # somebody who sends nothing
                await seeing(ben, "Ada")
                assert await others(ada) == {}


class Connecting(asyncio.Event):
    """Set while something connects."""

    def __call__(self, event: PeerEvent | StateEvent) -> None:
        if event.state == "connecting":
            self.set()


async def load_again(tab: Tab) -> None:
    """Load a page again, and wait until it is there."""
    await tab("window.old = 1")
    await tab("setTimeout(() => location.reload()) && 0")

    async def loaded() -> bool:
        try:
            return bool(await tab("window.old === undefined && window.synopticon !== undefined"))
        except PlaywrightError:  # between both
            return False

    await until_told(loaded)


@pytest.mark.long
@pytest.mark.parametrize("page", ["camera", "room"])
async def test_a_page_that_is_loaded_again_while_it_connects_is_seen_soon_after(page: str) -> None:
    async with SignalingServer(port=0) as server, Room(server.url) as room, chromium() as browser:
        connecting = Connecting()
        room._places[0].participant.receiver.events.subscribe(connecting)
        async with browser(f"{server.viewer}{page}?name=Ada") as ada, asyncio.timeout(60):
            await ada("document.getElementById('start').click()")
            await connecting.wait()
            await load_again(ada)
            await ada("document.getElementById('start').click()")
            await until_told(lambda: ada("synopticon.session"))
            begun = clock.monotonic()
            session = await ada("synopticon.session")
            async for seen in room.moments():
                if seen.participant.session == session:
                    break
            assert clock.monotonic() - begun < SOON


@pytest.mark.long
@pytest.mark.parametrize("address", ["", "?grid", "room"])
async def test_a_page_that_is_loaded_again_while_it_connects_sees_soon_after(address: str) -> None:
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((160, 120), 10), name="Ada") as broadcaster,
        chromium() as browser,
    ):
        connecting = Connecting()
        broadcaster.events.subscribe(connecting)
        async with browser(f"{server.viewer}{address}") as ben, asyncio.timeout(60):
            watch = "document.getElementById('watch')?.click() ?? 0"
            await ben(watch)
            await connecting.wait()
            await load_again(ben)
            begun = clock.monotonic()
            await ben(watch)
            await until_told(
                lambda: ben("(synopticon.frames ?? Math.max(...synopticon.people.map((p) => p.frames))) > 0")
            )
            assert clock.monotonic() - begun < SOON
