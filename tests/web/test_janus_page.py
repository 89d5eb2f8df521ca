"""The page for rooms of Janus in a real browser: each frame has its own faces, and the page says when it may not."""

from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlencode

import av
import numpy as np
import pytest
import pytest_asyncio
from browsers import CHROMIUM, Browser, chromium, until_told

from benchmarks.janus_server import JANUS, JanusServer
from synopticon_rtc import Broadcaster, Face, SignalingServer, TestPattern

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
    pytest.mark.skipif(JANUS is None, reason="needs janus: apt-get install janus"),
]


class OneFace:
    """Finds a face in every frame."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        return [Face(np.full((478, 3), 0.5, np.float32), {})]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


async def test_faces_are_on_their_own_frames_also_when_janus_comes_back(browser: Browser) -> None:
    with JanusServer() as janus:
        async with (
            SignalingServer(port=0) as server,
            browser(f"{server.viewer}janus?{urlencode({'room': janus.url(), 'from': 'anna'})}") as tab,
        ):
            assert await tab("document.getElementById('headline').textContent") != "Live"
            async with Broadcaster(janus.url(), TestPattern((320, 180), 15), faces=OneFace(), name="anna"):
                await until_told(lambda: tab("synopticon.exact && synopticon.paired > 10"))
                frames, paired = await tab("[synopticon.frames, synopticon.paired]")
                assert frames - paired < 12
                assert await tab("synopticon.name") == "anna"
                await until_told(lambda: tab("document.getElementById('note').textContent.includes('own frames')"))
                janus.kill()
                await until_told(lambda: tab("!synopticon.exact"))
                janus.start()
                await until_told(lambda: tab(f"synopticon.exact && synopticon.paired > {paired + 10}"))


async def test_a_browser_that_shows_no_encoded_frames_says_that_faces_may_be_off(browser: Browser) -> None:
    with JanusServer() as janus:
        async with (
            SignalingServer(port=0) as server,
            browser(f"{server.viewer}janus?{urlencode({'room': janus.url()})}") as tab,
        ):
            await tab("delete window.RTCRtpScriptTransform")
            async with Broadcaster(janus.url(), TestPattern((320, 180), 15), faces=OneFace()):
                await until_told(lambda: tab("synopticon.faces === 1"))
                await until_told(
                    lambda: tab("document.getElementById('note').textContent.includes('may be some frames off')")
                )
                assert not await tab("synopticon.exact")
