"""The page that publishes, in a real browser: what people are told, and what they send."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from browsers import CHROMIUM, CHROMIUM_ARGUMENTS, until_told
from playwright.async_api import Browser, Page, async_playwright

from synopticon_rtc import Face, Receiver, Recorder, SignalingServer, StateEvent
from synopticon_rtc.faces.wire import PROTOCOL, FacesMessage, encode
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

SECRET = b"a secret of thirty-two bytes, at least"
PERMISSIONS = ("camera", "microphone")

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]

# Counts the questions that people are asked, keeps the tracks that they allow, and has some questions fail.
ASKED = """
window.asked = 0;
window.tracks = [];
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  asked += 1;
  FAIL
  const stream = await ask(wanted);
  tracks.push(...stream.getTracks());
  return stream;
};
navigator.mediaDevices.getDisplayMedia = async () => { // there is no screen here
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
  setInterval(() => canvas.getContext("2d").fillRect(0, 0, 640, 360), 100);
  return canvas.captureStream();
};
"""

Open = Callable[..., AbstractAsyncContextManager[Page]]


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    arguments = [each for each in CHROMIUM_ARGUMENTS if each != "--use-fake-ui-for-media-stream"]  # it lets everybody
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Open:
    """Opens the page of a server; it must throw nothing."""

    @contextlib.asynccontextmanager
    async def opened(
        server: SignalingServer, query: str = "", *, allowed: bool = True, fail: str = "", before: str = ""
    ) -> AsyncIterator[Page]:
        """A page of its own.

        Args:
            server: Whose page it is.
            query: What follows its address.
            allowed: Whether camera and microphone may be used.
            fail: Statements that run before each question for them; what they throw is its answer.
            before: A script that runs before those of the page.
        """
        faults: list[str] = []
        async with await chromium.new_context(permissions=PERMISSIONS if allowed else ()) as context:
            page = await context.new_page()
            page.set_default_timeout(20_000)
            await page.add_init_script(ASKED.replace("FAIL", fail) + before)
            page.on("pageerror", lambda error: faults.append(str(error)))
            await page.goto(f"{server.viewer}camera{query}")
            yield page
        assert faults == []

    return opened


async def reached(page: Page, condition: str) -> None:
    await page.wait_for_function(f"() => window.synopticon && ({condition})")


async def became(is_so: Callable[[], object]) -> None:
    async def ask() -> object:
        return is_so()

    await until_told(ask, 20)


async def said(page: Page, selector: str, words: str) -> None:
    """Wait until an element says that."""
    await page.wait_for_function(
        "([selector, words]) => document.querySelector(selector).innerText.includes(words)", arg=[selector, words]
    )


async def test_people_are_told_who_asks_for_what_before_they_are_asked(server: SignalingServer, opened: Open) -> None:
    async with opened(server, "?room=lab-3&lab=The+Baby+Lab&name=Anna") as page:
        text = await page.inner_text("#card")
        assert "The Baby Lab asks for your camera" in text
        assert f"room “lab-3” of the server {server.url.split('/')[2]}" in text
        assert await page.input_value("#called") == "Anna"
        assert await page.evaluate("asked") == 0
        assert len(server.sessions) == 0


@pytest.mark.long
async def test_what_is_sent_is_seen_heard_recorded_switched_off_and_ended(
    server: SignalingServer, opened: Open, tmp_path: Path
) -> None:
    async with opened(server, "?name=Anna") as page, Receiver(server.url) as receiver:
        states: list[StateEvent] = []
        receiver.events.subscribe(states.append)
        await page.click("#start")
        assert (await anext(receiver)).frame.width > 0
        await anext(receiver.audio())
        await said(page, "#state", "Sent to 1 receiver")
        assert {event.name for event in states if event.state == "connected"} == {"Anna"}
        assert await page.evaluate("asked") == 1
        await reached(page, "Number(document.getElementById('microphone').style.getPropertyValue('--level')) > 0.1")

        async with Recorder(tmp_path / "talk.mkv", receiver):
            await said(page, "#recorded", "Recorded by")
        await said(page, "#recorded", "")

        await page.click("#camera")
        await became(lambda: receiver.streams["camera"].muted)
        await said(page, "#curtain", "Nobody sees you")
        await page.click("#camera")
        await became(lambda: not receiver.streams["camera"].muted)

        await page.click("#screen")
        await became(lambda: "screen" in receiver.streams)
        await page.click("#screen")
        await became(lambda: "screen" not in receiver.streams)

        await page.click("#stop")
        await became(lambda: states[-1].state != "connected")
        assert await page.inner_text("#title") == "You have stopped"
        assert await page.evaluate("tracks.every((track) => track.readyState === 'ended')")
        assert await page.evaluate("document.activeElement.id") == "title"


async def test_faces_that_come_back_are_drawn_on_their_own_frames_and_go_when_they_end(
    server: SignalingServer, opened: Open
) -> None:
    points = np.random.default_rng(1).uniform(0.3, 0.7, (478, 3)).astype(np.float32)
    async with opened(server) as page, Receiver(server.url) as receiver:
        await page.click("#start")
        await anext(receiver)
        (peer,) = receiver._peers.values()
        channel = peer.connection.add_channel("returned", protocol=PROTOCOL, ordered=False, max_retransmits=0)
        async for moment in receiver:
            height, width = moment.frame.height, moment.frame.width
            channel.send(encode(FacesMessage((Face(points, {}),), width, height, moment.frame.pts, moment.captured)))
            if await page.evaluate("synopticon.paired") > 5:
                break
        assert await page.evaluate("synopticon.faces") == 1
        assert 0 < await page.evaluate("synopticon.age") < 1000
        assert await page.is_visible("#still")
        await page.wait_for_selector("#still", state="hidden")
        assert await page.evaluate("synopticon.faces") == 0


async def test_a_look_before_sends_nothing(server: SignalingServer, opened: Open) -> None:
    async with opened(server) as page:
        await page.click("#look")
        await said(page, "#state", "Only you see this")
        await reached(page, "document.getElementById('video').videoWidth > 0")
        assert len(server.sessions) == 0
        await page.click("#send")
        await reached(page, "synopticon.state === 'ready'")
        assert await page.evaluate("asked") == 1


async def test_somebody_who_watches_can_be_sent_away(server: SignalingServer, opened: Open) -> None:
    async with opened(server) as page, Receiver(server.url) as receiver:
        await page.click("#start")
        await anext(receiver)
        await page.click("#people summary")
        await page.click("#watchers button")
        await said(page, "#state", "Waiting for somebody to watch")
        assert await page.inner_text("#nobody") == "Nobody yet."


async def test_people_who_allow_nothing_are_told_what_to_do(server: SignalingServer, opened: Open) -> None:
    async with opened(server, allowed=False) as page:
        await page.click("#start")
        await said(page, "#title", "does not let this page use the camera")
        assert "try again" in await page.inner_text("#hint")
        await page.context.grant_permissions(PERMISSIONS)
        await page.click("#again")
        await reached(page, "synopticon.phase === 'live'")


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("throw new DOMException('', 'NotReadableError')", "in use by another program"),
        ("throw new DOMException('', 'NotFoundError')", "No camera was found"),
        ("throw new DOMException('Permission denied by system', 'NotAllowedError')", "Your system does not let"),
        ("throw new TypeError('whatever')", "could not be opened"),
    ],
)
async def test_it_says_why_there_is_no_camera(server: SignalingServer, opened: Open, fail: str, words: str) -> None:
    async with opened(server, fail=fail) as page:
        await page.click("#start")
        await said(page, "#title", words)
        assert await page.is_visible("#again")
        assert await page.evaluate("synopticon.broadcaster") is None


async def test_where_there_is_no_camera_the_voice_alone_can_be_sent(server: SignalingServer, opened: Open) -> None:
    fail = "if (wanted.video) throw new DOMException('', 'NotFoundError');"
    async with opened(server, fail=fail) as page, Receiver(server.url, timeout=20) as receiver:
        await page.click("#start")
        await said(page, "#title", "No camera was found")
        await page.click("#voice-alone")
        assert (await anext(receiver.audio())).rate == 48_000
        assert set(receiver.streams) == {"microphone"}
        await said(page, "#curtain", "No camera was found. Only your voice is sent.")
        await said(page, "#state", "Sent to 1 receiver")
        await page.click("#stop")
        await reached(page, "synopticon.phase === 'stopped'")


async def test_it_goes_on_without_a_microphone(server: SignalingServer, opened: Open) -> None:
    async with opened(server, fail="if (wanted.audio) throw new DOMException('', 'NotFoundError');") as page:
        await page.click("#start")
        await said(page, "#note", "No microphone was found: only your picture is sent.")
        await reached(page, "synopticon.phase === 'live'")


async def test_a_camera_that_is_unplugged_is_missed_and_another_takes_its_place(
    server: SignalingServer, opened: Open
) -> None:
    async with opened(server) as page, Receiver(server.url) as receiver:
        await page.click("#start")
        await anext(receiver)
        await page.evaluate("tracks.find(({ kind }) => kind === 'video').dispatchEvent(new Event('ended'))")
        await said(page, "#curtain", "The camera was unplugged")
        await became(lambda: receiver.streams["camera"].muted)
        await page.click("#camera")
        await became(lambda: not receiver.streams["camera"].muted)
        await anext(receiver)
        assert await page.is_hidden("#curtain")


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("Object.defineProperty(window, 'isSecureContext', { value: false });", "only to pages that come over https"),
        ("delete window.RTCPeerConnection;", "This browser cannot send your camera"),
    ],
)
async def test_a_page_that_cannot_send_says_so_and_asks_for_nothing(
    server: SignalingServer, opened: Open, before: str, words: str
) -> None:
    async with opened(server, before=before) as page:
        await said(page, "#title", words)
        assert await page.is_hidden("#form")
        assert await page.evaluate("asked") == 0


async def test_the_words_of_a_server_that_does_not_let_it_in_are_shown_before_anything_is_asked(opened: Open) -> None:
    async with SignalingServer(port=0, tokens=TokenKeys(secret=SECRET)) as guarded:
        token = make_token(SECRET, Claims(room="lab", name="P07"))
        async with opened(guarded, f"?room=attic&token={token}") as page:
            await said(page, "#title", "The server does not let you in")
            assert "another room" in await page.inner_text("#hint")
            assert "token" not in page.url
            assert await page.is_hidden("#form")
        async with opened(guarded, f"?token={token}") as page:
            assert "They see you as “P07”" in await page.inner_text("#card")
            assert "room “lab”" in await page.inner_text("#card")
            await page.click("#start")
            await reached(page, "synopticon.state === 'ready'")


async def test_it_says_that_somebody_is_gone_without_a_word(server: SignalingServer, opened: Open) -> None:
    command = ["-m", "synopticon_rtc.receive", "--url", server.url, "--no-video"]
    child = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with opened(server) as page:
            await page.click("#start")
            await said(page, "#state", "Sent to 1 receiver")
            child.kill()
            await said(page, "#state", "The connection was interrupted, trying again")
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def test_it_says_that_the_server_is_gone(opened: Open) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with SignalingServer(port=0) as server:
            page = await stack.enter_async_context(opened(server))
            await page.click("#start")
            await said(page, "#state", "Waiting for somebody to watch")
        await said(page, "#state", "The server cannot be reached, trying again")
