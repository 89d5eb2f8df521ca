"""The page of a call in a real browser: two people, and a program that sees both."""

import asyncio
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
import pytest
from browsers import CHROMIUM, Tab, chromium, until_told

from synopticon_rtc import Face, Receiver, SignalingServer

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]


class AnyFace:
    """Finds one face in every frame."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        return [Face(np.full((478, 3), 0.5, np.float32), {})]


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
