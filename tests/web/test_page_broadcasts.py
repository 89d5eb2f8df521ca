"""Pages that broadcast, in real browsers, and who watches them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import pytest_asyncio
from browsers import BROWSERS, CHROMIUM, CHROMIUM_ARGUMENTS, FIREFOX, serving, until_told
from pairs import PAGES, reported
from playwright.async_api import Browser, Page, async_playwright

from synopticon_rtc import Face, Moment, Receiver, Recorder, SignalingServer
from synopticon_rtc.basics import clock
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.faces.wire import PROTOCOL, FacesMessage, encode
from synopticon_rtc.peers.control import Control
from synopticon_rtc.receiving.sound import AudioMoment

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]

WITHIN = 20.0  # seconds for whatever is to come about
EMPTY = "nothing-here"  # an address of the server that has a page without a script
# Publishes camera and microphone; what the test wants to know is in `told`.
PUBLISH = """
window.told = { faces: [], log: [], failed: null };
window.publish = async (url, name, video) => {
  const { Broadcaster } = await import("/broadcaster.js");
  const on = {
    changed() {},
    faces: (message, stream) => told.faces.push({ captured: message.captured, stream, faces: message.faces.length }),
    log: (text) => told.log.push(text),
  };
  window.broadcaster = new Broadcaster(url, { name }, on);
  const media = await navigator.mediaDevices.getUserMedia({ video, audio: true });
  for (const track of media.getTracks()) broadcaster.publish(track.kind === "video" ? "camera" : "microphone", track);
};
window.paint = (width, height) => {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  let number = 0;
  setInterval(() => {
    context.fillStyle = `hsl(${(number++ * 5) % 360} 60% 50%)`;
    context.fillRect(0, 0, width, height);
  }, 50);
  return canvas.captureStream().getVideoTracks()[0];
};
"""


class AnyFace:
    """Finds one face in every frame."""

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:  # noqa: ARG002 - whichever it is
        return [Face(np.full((478, 3), 0.5, np.float32), {})]


def publishing(url: str, name: str = "page", size: tuple[int, int] = (1280, 720)) -> str:
    video = f"{{width: {size[0]}, height: {size[1]}}}"
    return f"publish({url!r}, {name!r}, {video}).catch((error) => (told.failed = String(error))), 0"


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    arguments = [each for each in CHROMIUM_ARGUMENTS if not each.startswith("--use-fake-device")]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*arguments, "--use-fake-device-for-media-stream=fps=30"]
        )
        yield browser
        await browser.close()


Open = Callable[[str], AbstractAsyncContextManager[Page]]


@pytest.fixture
def opened(chromium: Browser) -> Open:
    """Opens a page of a server that can publish; it must throw nothing."""

    @contextlib.asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Page]:
        faults: list[str] = []
        async with await chromium.new_context() as context:
            page = await context.new_page()
            await page.add_init_script(PUBLISH)
            page.on("pageerror", lambda error: faults.append(str(error)))
            await page.goto(url + EMPTY)
            yield page
        assert faults == []

    return opened


async def until(page: Page, condition: str) -> None:
    await page.wait_for_function(f"() => {condition}", timeout=WITHIN * 1000)


async def watched(receiver: Receiver, name: str, seconds: float = WITHIN) -> Moment[Any]:
    """Return the next moment of a stream."""
    async with asyncio.timeout(seconds):
        async for moment in receiver.moments(name):
            return moment
    raise AssertionError("it ended")


async def loud(receiver: Receiver) -> AudioMoment:
    async with asyncio.timeout(WITHIN):
        async for moment in receiver.audio():
            if np.abs(moment.samples).max() > 0.05:
                return moment
    raise AssertionError("it ended")


async def told(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN):
        while not condition():  # noqa: ASYNC110 - what a page does is waited for
            await asyncio.sleep(0.02)


@pytest.mark.long
async def test_a_receiver_whose_messages_are_held_up_is_not_gone(
    server: SignalingServer, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server.viewer) as page, Receiver(server.url) as receiver:
        await page.evaluate(publishing(server.url))
        await watched(receiver, "camera")
        await until(page, "broadcaster.watchers.some(({ up }) => up)")
        monkeypatch.setattr(Control, "_send", lambda *_: None)  # as where they wait behind a file
        await asyncio.sleep(6)
        assert not [line for line in await page.evaluate("told.log") if "gone" in line]
        assert await page.evaluate("broadcaster.watchers.length") == 1


async def test_camera_and_microphone_are_received_in_full_and_with_their_times(
    server: SignalingServer, opened: Open
) -> None:
    async with opened(server.viewer) as page, Receiver(server.url, timeout=WITHIN) as receiver:
        await page.evaluate(publishing(server.url, "Ada"))
        first = await anext(receiver)
        assert (first.frame.width, first.frame.height) == (1280, 720)
        moments = [await anext(receiver) for _ in range(20)]
        assert all(moment.captured is not None for moment in moments)
        while (age := receiver.age(moments[-1])) is None:  # clocks are known a little after the first frame
            moments.append(await anext(receiver))
        assert age < 1
        sound = await loud(receiver)
        assert sound.captured == pytest.approx(clock.now(), abs=5)
        assert {stream.name: (stream.kind, stream.hint) for stream in receiver.streams.values()} == {
            "camera": ("video", "camera"),
            "microphone": ("audio", "microphone"),
        }
        assert receiver.origin.name == "Ada"
        assert await page.evaluate("broadcaster.watchers.map(({ up, recorded }) => [up, recorded])") == [[True, False]]


async def test_a_player_that_offers_is_told_at_once_that_a_page_takes_no_offers(
    server: SignalingServer, opened: Open
) -> None:
    async with opened(server.viewer) as page, Receiver(server.url, timeout=WITHIN) as receiver:
        await page.evaluate(publishing(server.url))
        await watched(receiver, "camera")
        endpoint = server.url.replace("ws", "whep+http", 1).removesuffix("/ws")
        async with Receiver(f"{endpoint}/whep/page", timeout=WITHIN) as player:
            with pytest.raises(SignalingError, match=r"HTTP 400 .* it is a page, which takes no offers"):
                await anext(player)
        await watched(receiver, "camera")


async def test_streams_come_go_and_change(server: SignalingServer, opened: Open) -> None:
    events: list[tuple[str, str]] = []
    async with opened(server.viewer) as page, Receiver(server.url, timeout=WITHIN) as receiver:
        receiver.stream_events.subscribe(lambda event: events.append((event.name, event.state)))
        await page.evaluate(publishing(server.url))
        await anext(receiver)
        await page.evaluate("broadcaster.publish('screen', paint(320, 180))")
        assert (await watched(receiver, "screen")).frame.width == 320
        await page.evaluate("broadcaster.publish('screen', paint(480, 270))")
        await told(lambda: ("screen", "replaced") in events)
        while (await watched(receiver, "screen")).frame.width != 480:
            pass
        await page.evaluate("broadcaster.mute('screen', true)")
        await told(lambda: receiver.streams["screen"].muted)
        with contextlib.suppress(TimeoutError):  # what was on its way
            await watched(receiver, "screen", 0.2)
        with pytest.raises(TimeoutError):
            await watched(receiver, "screen", 0.5)
        await page.evaluate("broadcaster.mute('screen', false)")
        await watched(receiver, "screen")
        await page.evaluate("broadcaster.unpublish('screen')")
        await told(lambda: "screen" not in receiver.streams)
        await page.evaluate("broadcaster.publish('desk', paint(160, 90))")
        assert (await watched(receiver, "desk")).frame.width == 160
        assert await page.evaluate("broadcaster.watchers.length") == 1
        before = receiver.stats.frames
        while receiver.stats.frames < before + 5:  # of the camera, all the time
            await anext(receiver)


async def test_a_page_that_is_loaded_again_is_soon_seen_again(server: SignalingServer, opened: Open) -> None:
    async with opened(server.viewer) as page, Receiver(server.url, timeout=WITHIN) as receiver:
        await page.evaluate(publishing(server.url))
        before = (await anext(receiver), receiver.origin.session)[1]
        began = time.monotonic()
        await page.reload()
        await page.evaluate(publishing(server.url))
        while receiver.origin.session == before:
            await anext(receiver)
        await anext(receiver)
        assert time.monotonic() - began < 3


async def test_media_play_on_while_signaling_is_away_and_who_comes_later_is_served(opened: Open) -> None:
    async with contextlib.AsyncExitStack() as first:
        server = await first.enter_async_context(SignalingServer(port=0))
        port = int(server.url.split(":")[2].split("/")[0])
        async with opened(server.viewer) as page, Receiver(server.url, timeout=WITHIN) as receiver:
            await page.evaluate(publishing(server.url, size=(320, 180)))
            await anext(receiver)
            times: list[float] = []
            watching = asyncio.create_task(note_times(receiver, times))
            await first.aclose()
            await until(page, "broadcaster.state === 'unreachable'")
            await page.evaluate("broadcaster.publish('screen', paint(320, 180))")  # for that no signaling is needed
            await watched(receiver, "screen")
            async with SignalingServer(port=port) as again:
                await until(page, "broadcaster.state === 'ready'")
                async with Receiver(again.url, timeout=WITHIN) as other:
                    await anext(other)
                    assert await page.evaluate("broadcaster.watchers.length") == 2
            watching.cancel()
        assert np.diff(times).max() < 1


async def note_times(receiver: Receiver, times: list[float]) -> None:
    async for _ in receiver.moments("camera"):
        now = time.monotonic()
        times.append(now)


async def test_a_page_says_who_may_watch(server: SignalingServer, opened: Open) -> None:
    async with opened(server.viewer) as page, Receiver(server.url, timeout=WITHIN) as receiver:
        await page.evaluate(publishing(server.url, size=(320, 180)))
        await anext(receiver)
        states: list[tuple[str, str]] = []
        receiver.events.subscribe(lambda event: states.append((event.state, event.reason)))
        await page.evaluate("broadcaster.sendAway(broadcaster.watchers[0].session, 'the study is over')")
        await told(lambda: any("the study is over" in reason for _, reason in states))
        await page.evaluate("broadcaster.admit = async ({ name }) => (told.asked = name, false), 0")
        async with Receiver(server.url) as stranger:
            await until(page, "told.asked === ''")
            assert await page.evaluate("broadcaster.watchers") == []
            await page.evaluate("broadcaster.admit = async () => true, 0")
            async with Receiver(server.url, timeout=WITHIN) as friend:
                await anext(friend)
            assert stranger.stats.frames == 0


async def test_a_page_knows_who_records_it_and_of_which_frame_faces_are(
    server: SignalingServer, opened: Open, tmp_path: Path
) -> None:
    async with opened(server.viewer) as page, Receiver(server.url, timeout=WITHIN) as receiver:
        await page.evaluate(publishing(server.url, size=(320, 180)))
        await anext(receiver)
        async with Recorder(tmp_path / "page.mkv", receiver):
            await until(page, "broadcaster.watchers[0]?.recorded")
        await until(page, "!broadcaster.watchers[0].recorded")
        (peer,) = receiver._peers.values()
        channel = peer.connection.add_channel("returned", protocol=PROTOCOL, ordered=False, max_retransmits=0)
        await told(lambda: channel.is_open)
        moment = await anext(receiver)
        now = await page.evaluate("performance.now()")
        channel.send(encode(FacesMessage((), 320, 180, moment.frame.pts, moment.captured)))
        channel.send(b"damaged")
        await until(page, "told.log.some((line) => line.startsWith('A faces message was dropped'))")
        [found] = await page.evaluate("told.faces")
        assert found["stream"] == "camera"
        assert found["faces"] == 0
        assert -1000 < found["captured"] - now < 0


async def test_published_pages_receive_a_page(server: SignalingServer, opened: Open, chromium: Browser) -> None:
    names = ("webrtc-receiver-demo", "webrtc-signaling-demo", "webrtc-demo")
    with serving(PAGES) as base:
        async with opened(server.viewer) as page, await chromium.new_context() as context:
            await page.evaluate(publishing(server.url, size=(320, 240)))
            await until(page, "window.broadcaster?.state === 'ready'")
            for name in names:
                tab = await context.new_page()
                await tab.goto(f"{base}/index.html?page={name}&role=receive&url={server.url}")
                report = await reported(tab.evaluate, lambda report: report["frames"] >= 5)
                assert report["offers"] == 1
                assert report["thrown"] == []
            assert await page.evaluate("broadcaster.watchers.map(({ up }) => up)") == [True] * len(names)


@pytest.mark.skipif(not FIREFOX.exists(), reason=f"needs Firefox at {FIREFOX}")
@pytest.mark.long
async def test_firefox_is_received_and_draws_faces_on_the_frames_that_they_were_found_in(
    server: SignalingServer,
) -> None:
    _, firefox = BROWSERS["firefox"]
    viewer = server.viewer.replace("127.0.0.1", "localhost")
    async with (
        firefox() as browser,
        browser(viewer + "camera") as tab,
        Receiver(server.url, detector=AnyFace(), return_faces=True, timeout=WITHIN) as receiver,
    ):
        await until_told(lambda: tab("window.synopticon !== undefined"))
        await tab("document.getElementById('start').click()")
        first = await anext(receiver)
        moments = [await anext(receiver) for _ in range(10)]
        assert first.frame.width >= 640
        assert all(moment.captured is not None for moment in moments[1:])
        assert (await loud(receiver)).rate == 48_000
        assert set(receiver.streams) == {"camera", "microphone"}
        await until_told(lambda: tab("synopticon.faces === 1 && synopticon.paired > 10"))
        assert 0 < await tab("synopticon.age") < 1000
