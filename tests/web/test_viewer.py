"""The viewer in real browsers, watching a real broadcaster."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio
from browsers import BROWSERS, until_told
from playwright.async_api import Browser, Page, async_playwright
from websockets.asyncio.client import connect

from synopticon_rtc import (
    Broadcaster,
    Face,
    FaceLandmarker,
    Portrait,
    Receiver,
    Recorder,
    Relay,
    SignalingClient,
    SignalingServer,
    StateEvent,
    TestPattern,
)
from synopticon_rtc.media.pacing import drawn
from synopticon_rtc.media.sound import Tone
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZE = (640, 360)

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]

# Where the overlay has drawn anything, in fractions of the canvas: [left, top, right, bottom].
DRAWN = """() => {
  const canvas = document.getElementById("overlay");
  const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (data[4 * (y * width + x) + 3] > 40) {
        left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
      }
  return right < 0 ? null : [left / width, top / height, right / width, bottom / height];
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


Open = Callable[..., AbstractAsyncContextManager[Page]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
def opened(chromium: Browser, request: pytest.FixtureRequest) -> Open:
    """Opens a page at an address; it must load everything from there, and throw nothing."""

    @contextlib.asynccontextmanager
    async def opened(
        url: str, *, query: str = "", width: int = 1280, height: int = 800, before: str = ""
    ) -> AsyncIterator[Page]:
        """A page of its own, in a window of that size.

        Args:
            url: The address.
            query: What follows it.
            width: Of the page.
            height: Of the page.
            before: A script that runs before those of the page.
        """
        faults: list[str] = []
        async with await chromium.new_context(viewport={"width": width, "height": height}) as context:
            page = await context.new_page()
            await page.add_init_script(before)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", lambda request: faults.append(request.url) if not request.url.startswith(url) else None)
            await page.goto(url + query)
            yield page
            if folder := os.environ.get("SCREENSHOTS"):
                await page.screenshot(path=f"{folder}/{request.node.name}.png")
        assert faults == []

    return opened


async def reached(page: Page, condition: str, seconds: float = 60) -> None:
    """Wait until something is so; a page that loads anew knows nothing yet."""
    await page.wait_for_function(f"() => window.synopticon && ({condition})", timeout=seconds * 1000)


async def value(page: Page, name: str) -> Any:
    return await page.evaluate(f"synopticon.{name}")


class AnyFace:
    """Finds one face in every frame."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        return [Face(np.random.default_rng(1).uniform(0.3, 0.7, (478, 3)).astype(np.float32), {})]


def faced(url: str, name: str = "") -> Broadcaster:
    """Return a broadcaster of a card with a face, which costs little."""
    return Broadcaster(url, TestPattern(SIZE, 30), faces=AnyFace(), name=name)


async def test_every_stream_is_shown_and_chosen_from(server: SignalingServer, opened: Open) -> None:
    async with faced(server.url) as broadcaster, opened(server.viewer) as page:
        await reached(page, "synopticon.paired > 5")
        assert not await page.is_visible("#inset")
        screen = await broadcaster.publish("screen", TestPattern((480, 270), 20))
        await reached(page, "synopticon.streams.length === 2")
        assert await value(page, "stream") == "camera"
        await page.click("#inset")
        await reached(page, "synopticon.stream === 'screen' && document.getElementById('video').videoWidth === 480")
        await reached(page, "synopticon.fps > 1 && synopticon.faces === 0")
        assert await page.is_disabled("#modes input")
        screen.mute()
        await reached(page, "document.getElementById('state').textContent === 'Paused by the broadcaster'")
        await screen.unpublish()
        await reached(page, "synopticon.stream === 'camera' && synopticon.faces === 1")
        assert not await page.is_visible("#inset")


async def test_it_says_that_somebody_records(server: SignalingServer, opened: Open, tmp_path: Path) -> None:
    async with Broadcaster(server.url, TestPattern(SIZE)) as broadcaster, opened(server.viewer) as page:
        await reached(page, "synopticon.frames > 5")
        assert not await page.is_visible("#recorded")
        async with Recorder(tmp_path / "talk.mkv", broadcaster):
            await reached(page, "synopticon.recorded")
            await page.wait_for_selector("#recorded", state="visible")
        await page.wait_for_selector("#recorded", state="hidden")


async def test_sound_is_off_until_somebody_asks_for_it(server: SignalingServer, opened: Open) -> None:
    async with Broadcaster(server.url, TestPattern(SIZE), audio=Tone()), opened(server.viewer) as page:
        await reached(page, "!document.getElementById('sound').hidden")
        assert await page.evaluate("document.getElementById('video').muted")
        await page.click("#sound")
        assert not await page.evaluate("document.getElementById('video').muted")
        await reached(page, "getComputedStyle(document.getElementById('sound')).getPropertyValue('--level') > 0.2")


async def test_the_video_plays_and_the_mesh_lies_on_the_face(
    server: SignalingServer, face_model: Path, opened: Open
) -> None:
    faces = FaceLandmarker(model=face_model)
    async with Broadcaster(server.url, Portrait(SIZE, 30), faces=faces, name="Portrait"), opened(server.viewer) as page:
        await reached(page, "synopticon.frames > 30 && synopticon.paired > 10")
        assert await value(page, "state") == "connected"
        assert await value(page, "name") == "Portrait"
        assert await value(page, "faces") == 1
        before = await page.evaluate("document.getElementById('video').currentTime")
        await reached(page, f"document.getElementById('video').currentTime > {before} + 0.5")
        assert await page.text_content("#state") == "Live"
        assert await page.text_content("#size") == "640\u00d7360"
        drawn = await page.evaluate(DRAWN)
        assert drawn is not None
        # The whole face stays inside the picture, at 40 to 75 % of its height, wherever the portrait pans.
        left, top, right, bottom = drawn
        assert 0 < left < right < 1
        assert 0 < top < bottom < 1
        assert 0.15 < right - left < 0.6
        assert 0.35 < bottom - top < 0.85


async def test_the_mesh_can_be_turned_off(server: SignalingServer, opened: Open) -> None:
    async with faced(server.url), opened(server.viewer) as page:
        await reached(page, "synopticon.paired > 5")
        await page.click("#modes label:has([value=off])")
        await reached(page, f"({DRAWN})() === null")
        await page.keyboard.press("p")
        await reached(page, f"({DRAWN})() !== null")


async def test_the_overlay_covers_the_picture_at_any_size(server: SignalingServer, opened: Open) -> None:
    async with faced(server.url), opened(server.viewer, width=390, height=844) as page:
        await reached(page, "synopticon.paired > 5")
        for width, height in [(390, 844), (844, 390)]:
            await resize(page, width, height)
            left, top, right, bottom = await box(page, "#overlay")
            assert (right - left) / (bottom - top) == pytest.approx(16 / 9, abs=0.02)
            assert right - left <= width + 1
            assert bottom - top <= height + 1
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_it_finds_a_broadcaster_that_comes_later_and_one_that_comes_back(
    server: SignalingServer, opened: Open
) -> None:
    async with opened(server.viewer) as page:
        await reached(page, "synopticon.state === 'seeking'")
        assert "Looking for a broadcaster" in (await page.text_content("#state") or "")
        async with faced(server.url, "first"):
            await reached(page, "synopticon.state === 'connected' && synopticon.frames > 5")
        await reached(page, "synopticon.state !== 'connected'", 5)
        async with faced(server.url, "second"):
            await reached(page, "synopticon.name === 'second' && synopticon.state === 'connected'", 10)
            frames = await value(page, "frames")
            await reached(page, f"synopticon.frames > {frames} + 10")
            paired = await value(page, "paired")
            await reached(page, f"synopticon.paired > {paired} + 5")


class Changing:
    """Test cards of one size after the other, each for a second."""

    def __aiter__(self) -> AsyncIterator[av.VideoFrame]:
        cards = [TestPattern(size, 30) for size in ((640, 360), (320, 240))]
        return drawn(lambda number: cards[number // 30 % 2].draw(number % 30), 30)


@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.long
async def test_frames_have_their_own_faces_through_changes_of_size_and_the_wrap_of_timestamps(
    server: SignalingServer, browser: str
) -> None:
    path, launched = BROWSERS[browser]
    if not path.exists():
        pytest.skip(f"needs {browser} at {path}")
    broadcaster = Broadcaster(server.url, Changing(), faces=AnyFace())
    assert broadcaster._stream is not None
    async with launched() as open_tab, open_tab(server.viewer) as tab:
        broadcaster._stream._capture.origin = 2**32 - 270_000  # three seconds before it
        async with broadcaster:
            await until_told(lambda: tab("synopticon.frames > 20 && synopticon.paired > 0"))
            frames, paired = await tab("[synopticon.frames, synopticon.paired]")
            seen: set[int] = set()

            async def shown() -> bool:
                seen.add(await tab("document.getElementById('video').videoWidth"))
                return len(seen) > 1 and bool(await tab(f"synopticon.frames >= {frames} + 150"))

            await until_told(shown)
            later = await tab("[synopticon.frames, synopticon.paired]")
            assert (later[1] - paired) / (later[0] - frames) > 0.6
            await until_told(
                lambda: tab("Object.values(synopticon.delays).every((part) => part !== null && part >= 0)")
            )
            delay, delays = await tab("[synopticon.delay, synopticon.delays]")
            assert 0 < delay < 2000
            assert sum(part for name, part in delays.items() if name != "detection") >= 0.5 * delay
            texts = await tab("[...document.querySelectorAll('#delays dd')].map((part) => part.textContent)")
            assert all(float(text) >= 0 for text in texts)


async def test_behind_a_relay_frames_have_their_own_faces_and_the_delay_from_capture_on(
    server: SignalingServer, opened: Open
) -> None:
    here, there = (SignalingClient(server.url, room=room) for room in ("here", "there"))
    broadcaster = faced(f"{server.url}?room=here", "lab-1")
    async with broadcaster, Relay(here, there), opened(server.viewer, query="?room=there") as page:
        await reached(page, "synopticon.frames > 20 && synopticon.paired > 10")
        assert "lab-1" in await page.inner_text("body")
        frames, paired = await page.evaluate("[synopticon.frames, synopticon.paired]")
        await reached(page, f"synopticon.frames > {frames + 60} && synopticon.delay !== null")
        later = await page.evaluate("[synopticon.frames, synopticon.paired]")
        assert (later[1] - paired) / (later[0] - frames) > 0.6
        assert 0 < await value(page, "delay") < 2000


@pytest.mark.parametrize(
    "before",
    [
        # One that tells of frames without their timestamps.
        """const { requestVideoFrameCallback: request } = HTMLVideoElement.prototype;
        HTMLVideoElement.prototype.requestVideoFrameCallback = function (callback) {
          return request.call(this, (time, metadata) => callback(time, { ...metadata, rtpTimestamp: undefined }));
        };
        delete window.VideoFrame;""",
        # One that does not tell of frames.
        "delete HTMLVideoElement.prototype.requestVideoFrameCallback; delete window.VideoFrame;",
    ],
    ids=["without timestamps", "without frame callbacks"],
)
async def test_a_browser_that_tells_less_shows_the_newest_faces(
    server: SignalingServer, before: str, opened: Open
) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, 30), faces=AnyFace()),
        opened(server.viewer, before=before) as page,
    ):
        await reached(page, "synopticon.frames > 30 && synopticon.faces === 1")
        assert await page.text_content("#state") == "Live"
        assert await page.evaluate(DRAWN) is not None
        assert await value(page, "paired") == 0
        assert await value(page, "fps") > 5


# How many sessions a page could open. Those that it asked for before are open by then: one at a time connects.
JOIN = """new Promise((done) => {
  if (window.WebSocket) new WebSocket(`ws://${location.host}/ws`).onmessage = () => done(1);
  else done(0);
})"""


@pytest.mark.parametrize(
    ("before", "lacks"),
    [
        ("delete window.RTCPeerConnection", "WebRTC"),
        ("window.RTCPeerConnection = null", "WebRTC"),
        ("window.RTCPeerConnection = class { constructor() { throw new Error('forbidden'); } }", "WebRTC"),
        ("delete window.RTCDataChannel", "data channel"),
        ("delete RTCPeerConnection.prototype.createDataChannel", "data channel"),
        ("delete window.WebSocket", "WebSocket"),
    ],
)
async def test_a_browser_that_cannot_receive_is_told_so_and_asks_nobody(
    server: SignalingServer, before: str, lacks: str, opened: Open
) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, 30)) as broadcaster,
        opened(server.viewer, before=before) as page,
    ):
        await reached(page, "synopticon.state === 'unsupported'")
        sessions = len(server.sessions)
        joined = await page.evaluate(JOIN)
        assert await page.inner_text("#headline") == "This browser cannot show live video"
        hint = await page.inner_text("#hint")
        assert lacks in hint
        assert "Firefox" in hint
        assert await page.is_visible("#hint")
        assert await value(page, "session") is None
        assert (sessions, len(server.sessions), broadcaster.peers) == (1, 1 + joined, ())
        for key in "cpmorl":  # everything on the page still works
            await page.keyboard.press(key)
        assert lacks in await page.inner_text("#lines")


async def test_it_plays_on_without_the_server(opened: Open) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with SignalingServer(port=0) as server:
            await stack.enter_async_context(faced(server.url))
            page = await stack.enter_async_context(opened(server.viewer))
            await reached(page, "synopticon.paired > 5")
        await reached(page, "synopticon.session === null")
        frames = await value(page, "frames")
        await reached(page, f"synopticon.frames > {frames} + 45")
        assert await value(page, "state") == "connected"


async def test_the_log_can_be_opened(server: SignalingServer, opened: Open) -> None:
    async with opened(server.viewer) as page:
        await reached(page, "synopticon.session !== null")
        assert not await page.is_visible("#lines")
        await page.click("#log summary")
        assert await page.is_visible("#lines")
        assert await page.locator("#lines li").count() > 0


SECRET = b"a secret of thirty-two bytes, at least"


@pytest_asyncio.fixture(loop_scope="module")
async def guarded() -> AsyncIterator[SignalingServer]:
    """A server that lets in nobody without a token."""
    async with SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as server:
        yield server


async def test_the_token_and_the_room_in_its_address_let_it_in(guarded: SignalingServer, opened: Open) -> None:
    sends, receives = (
        make_token(SECRET, Claims(room="lab", roles=frozenset({role}))) for role in ("broadcast", "receive")
    )
    client = SignalingClient(guarded.url, room="lab", token=sends)
    async with (
        Broadcaster(client, TestPattern(SIZE, 30)),
        opened(guarded.viewer, query=f"?room=lab&token={receives}") as page,
    ):
        await reached(page, "synopticon.frames > 5")
        assert "token" not in await page.evaluate("location.href")
        assert "room=lab" in await page.evaluate("location.search")
        await page.reload()
        await reached(page, "synopticon.frames > 5")


async def test_a_broadcaster_is_called_what_its_token_calls_it(guarded: SignalingServer, opened: Open) -> None:
    named, receives = make_token(SECRET, Claims(name="lab-1")), make_token(SECRET, Claims())
    async with (
        Broadcaster(SignalingClient(guarded.url, token=named), TestPattern(SIZE, 30)),
        opened(guarded.viewer, query=f"?token={receives}") as page,
        Receiver(SignalingClient(guarded.url, token=receives)) as receiver,
    ):
        states: list[StateEvent] = []
        receiver.events.subscribe(states.append)
        await anext(receiver)
        assert {event.name for event in states if event.state in {"connecting", "connected"}} == {"lab-1"}
        await reached(page, "synopticon.frames > 5")
        assert await value(page, "name") == "lab-1"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "A token is needed"),
        ("?token=x.y.z", "not valid"),
        ("?room=attic&token=LAB", "another room"),
        ("?token=OLD", "has expired: ask for a new one"),
    ],
)
async def test_it_says_why_it_is_not_let_in(guarded: SignalingServer, query: str, words: str, opened: Open) -> None:
    lab, old = make_token(SECRET, Claims(room="lab")), make_token(SECRET, Claims(expires=time.time() - 1))
    async with opened(guarded.viewer, query=query.replace("LAB", lab).replace("OLD", old)) as page:
        await reached(page, "synopticon.state === 'refused'")
        assert "does not let you in" in (await page.text_content("#state") or "")
        assert words in (await page.text_content("#hint") or "")


async def test_an_invitation_is_for_one_browser_which_may_come_back(guarded: SignalingServer, opened: Open) -> None:
    link = f"?room=lab&token={make_token(SECRET, Claims(room='lab', invitation='i1'))}"
    async with opened(guarded.viewer, query=link) as page:
        await reached(page, "synopticon.session !== null")
        async with opened(guarded.viewer, query=link) as other:
            await reached(other, "synopticon.state === 'refused'")
            assert "in use in another browser or on another device" in (await other.text_content("#hint") or "")
        await page.reload()
        await reached(page, "synopticon.session !== null")
        twin = await page.context.new_page()
        await twin.goto(guarded.viewer + link)
        await reached(twin, "synopticon.session !== null")
        await reached(page, "synopticon.state === 'refused'")
        assert "once more in this browser" in (await page.text_content("#hint") or "")
        await page.context.set_offline(offline=True)
        for session in guarded.sessions.values():
            session._transport.disconnect(graceful=False)
        await reached(twin, "synopticon.session === null")
        await page.context.set_offline(offline=False)
        await reached(twin, "synopticon.session !== null")


async def test_it_asks_a_broadcaster_that_appears_at_once_and_alone(server: SignalingServer, opened: Open) -> None:
    async with opened(server.viewer) as page, connect(server.url) as appearing:
        await reached(page, "synopticon.session !== null")
        session = json.loads(await appearing.recv())["sessionId"]
        await appearing.send('{"type":"configure","requirements":{"role":"broadcast","name":"lab-1"}}')
        async with asyncio.timeout(20):
            async for text in appearing:
                message = json.loads(text)
                if message["type"] == "webrtc_seek_broadcaster" and message.get("targetSession") == session:
                    break


async def test_it_plays_on_when_the_broadcaster_loses_its_signaling_alone(
    server: SignalingServer, opened: Open
) -> None:
    async with Broadcaster(server.url, TestPattern(SIZE, 30)) as broadcaster, opened(server.viewer) as page:
        await reached(page, "synopticon.frames > 5")
        server.sessions[await broadcaster.signaling.wait_open()].end(1012, "Service restart")
        frames = await value(page, "frames")
        await reached(page, f"synopticon.frames > {frames} + 50")  # longer than it takes to miss one that is killed
        assert "Disconnected" not in (await page.text_content("#lines") or "")


async def test_a_broadcaster_that_is_killed_is_soon_missed(server: SignalingServer, opened: Open) -> None:
    command = ["-m", "synopticon_rtc.broadcast", "--url", server.url, "--source", "test", "--faces", "0"]
    child = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with opened(server.viewer) as page:
            await reached(page, "synopticon.frames > 30")
            begun = time.monotonic()
            child.kill()
            await reached(page, "synopticon.state === 'interrupted'")
            assert time.monotonic() - begun < 1.8
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


# Of what is seen: [left, top, right, bottom] in pixels of the page.
BOX = """(element) => {
  const { left, top, right, bottom } = element.getBoundingClientRect();
  return [left, top, right, bottom];
}"""


async def resize(page: Page, width: int, height: int) -> None:
    """Change the size of the page, and wait until it has been laid out and drawn in it."""
    await page.set_viewport_size({"width": width, "height": height})
    await reached(page, f"innerWidth === {width} && innerHeight === {height}")
    await page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
    )


async def box(page: Page, selector: str) -> list[float]:
    found: list[float] = await page.eval_on_selector(selector, BOX)
    return found


@pytest.mark.long
async def test_no_part_of_the_page_lies_on_the_picture_or_leaves_the_screen(
    server: SignalingServer, opened: Open
) -> None:
    async with (
        Broadcaster(server.url, TestPattern((720, 1280), 15), faces=AnyFace(), name="A name as long as they come " * 3),
        opened(server.viewer) as page,
    ):
        await reached(page, "synopticon.frames > 5 && document.getElementById('bitrate').textContent !== '\u2013'")
        for shown in False, True:  # the parts of the delay
            assert await page.is_visible("#delays") == shown
            for width, height in [(320, 640), (390, 844), (768, 1024), (844, 390), (1280, 800), (1440, 900)]:
                await resize(page, width, height)
                header, picture, footer = [await box(page, each) for each in ("header", "#overlay", "footer")]
                assert header[3] <= picture[1] + 0.5, (width, height)
                assert picture[3] <= footer[1] + 0.5, (width, height)
                assert footer[3] <= height + 0.5, (width, height)
                for left, _, right, _ in [await box(page, each) for each in ("#name", "#stats", "#modes", ".tools")]:
                    assert left >= 12, (width, height)
                    assert right <= width - 12, (width, height)
            await page.keyboard.press("d")


async def test_open_parts_of_the_delay_leave_the_name_whole(server: SignalingServer, opened: Open) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, 30), faces=AnyFace(), name="Portrait"),
        opened(server.viewer, width=768, height=1024) as page,
    ):
        await reached(page, "synopticon.delays.detection !== null")
        await page.click("#parts summary")
        assert await page.eval_on_selector("#name", "(name) => name.scrollWidth <= name.clientWidth")


async def test_a_list_that_names_the_broadcaster_stands_in_place_of_its_name(
    server: SignalingServer, opened: Open
) -> None:
    named = "document.getElementById('name').classList.contains('unseen')"
    async with Broadcaster(server.url, TestPattern(SIZE, 30), name="lab-1"):
        async with (
            Broadcaster(server.url, TestPattern(SIZE, 30), name="lab-2"),
            opened(server.viewer, query="?from=lab-1", width=390, height=844) as page,
        ):
            await reached(page, f"synopticon.frames > 5 && {named}")
            assert await page.text_content("#name") == "lab-1"
            assert await page.eval_on_selector("#choice", "(list) => list.selectedOptions[0].text") == "lab-1"
            await page.select_option("#choice", "")  # whoever answers: the list does not say who that is
            await reached(page, f"synopticon.frames > 5 && !({named})")
        async with opened(server.viewer, query="?from=lab-1") as page:
            await reached(page, "synopticon.frames > 5")
            assert await page.is_hidden("#choice")
            assert not await page.evaluate(named)


@pytest.mark.parametrize("query", ["", "?from=lab-1"])
async def test_no_part_of_the_header_lies_on_another_where_there_is_a_list(
    server: SignalingServer, query: str, opened: Open
) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, 30), name="lab-1"),
        Broadcaster(server.url, TestPattern(SIZE, 30), name="A name as long as they come " * 3),
        opened(server.viewer, query=query) as page,
    ):
        await reached(page, "!document.getElementById('choice').hidden")
        await reached(page, "document.getElementById('bitrate').textContent !== '\u2013'")
        name = ["#name"] * (not query)
        for width, height in [(320, 640), (390, 844), (768, 1024), (844, 390), (667, 375), (1440, 900)]:
            await resize(page, width, height)
            boxes = [await box(page, each) for each in (*name, "#choice", "#state", "#stats")]
            for one, other in itertools.combinations(boxes, 2):
                beside = one[2] <= other[0] or other[2] <= one[0]
                assert beside or one[3] <= other[1] or other[3] <= one[1], (width, one, other)
            assert max(right for _, _, right, _ in boxes) <= width - 12


async def test_detection_stands_apart_from_the_parts_of_the_delay(server: SignalingServer, opened: Open) -> None:
    async with Broadcaster(server.url, TestPattern(SIZE, 30), faces=AnyFace()), opened(server.viewer) as page:
        await reached(page, "synopticon.frames > 5")
        await page.click("#parts summary")
        assert await page.is_visible("#delays")
        detection = await page.query_selector("#delays .apart dt")
        assert detection is not None
        assert await detection.text_content() == "detection"


async def test_a_picture_on_an_upright_phone_sits_under_the_header(server: SignalingServer, opened: Open) -> None:
    async with (
        Broadcaster(server.url, TestPattern(SIZE, 30), faces=AnyFace()),
        opened(server.viewer, width=390, height=844) as page,
    ):
        await reached(page, "synopticon.frames > 5 && synopticon.faces > 0")
        header, picture = [await box(page, each) for each in ("header", "#overlay")]
        assert abs(picture[1] - header[3]) <= 1
        assert await page.evaluate(DRAWN) is not None


async def test_controls_are_off_while_there_is_nothing_to_act_on(server: SignalingServer, opened: Open) -> None:
    off = "document.getElementById('modes').disabled"
    async with opened(server.viewer) as page:
        await reached(page, "synopticon.session !== null")
        assert await page.is_disabled("#mirror")
        await reached(page, off)
        await page.keyboard.press("o")
        async with Broadcaster(server.url, TestPattern(SIZE, 30)):  # which looks for no faces
            await reached(page, "synopticon.frames > 5 && !document.getElementById('mirror').disabled")
            assert await page.evaluate(off)
            assert await page.text_content("#note") == "This broadcaster looks for no faces"
        await reached(page, "document.getElementById('mirror').disabled")
        async with Broadcaster(server.url, TestPattern(SIZE, 30), faces=AnyFace()):
            await reached(page, f"!({off})")
            assert await page.is_checked("#modes [value=mesh]")


class NoFace:
    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        return []


async def test_where_a_mesh_is_asked_for_and_there_is_no_face_it_says_so(server: SignalingServer, opened: Open) -> None:
    said = "document.getElementById('note').textContent"
    async with Broadcaster(server.url, TestPattern(SIZE, 30), faces=NoFace()), opened(server.viewer) as page:
        await reached(page, f"{said} === 'No face in the picture'")
        await page.keyboard.press("o")
        await reached(page, f"{said} === ''")


async def test_an_interruption_says_who_is_gone_and_since_when(server: SignalingServer, opened: Open) -> None:
    command = ["-m", "synopticon_rtc.broadcast", "--url", server.url, "--source", "test", "--faces", "0"]
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, "--name", "lab-1", stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with opened(server.viewer) as page:
            await reached(page, "synopticon.frames > 10")
            child.kill()
            await reached(page, "synopticon.state === 'interrupted'")
            assert re.fullmatch(r"lab-1 has been gone since \d\d:\d\d:\d\d\.", await page.inner_text("#hint"))
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
