"""What axe-core finds in the pages: nothing serious, in whatever state they are."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from browsers import CHROMIUM, CHROMIUM_ARGUMENTS
from files_helpers import written
from playwright.async_api import Page, async_playwright

from synopticon_rtc import Broadcaster, SignalingServer, TestPattern
from synopticon_rtc.signaling.server.tokens import TokenKeys

AXE = Path(__file__).parents[1] / "conformance/stacks/node_modules/axe-core/axe.min.js"
DROP = """() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([new Uint8Array(1000)], "a picture.jpeg"));
  dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
}"""
FINDINGS = """async () => {
  const { violations } = await axe.run();
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}"""

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
    pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: `make conformance` does"),
]


@contextlib.asynccontextmanager
async def phone(arguments: list[str]) -> AsyncIterator[Page]:
    """Open a page in a browser of its own, as large as a phone's."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        context = await browser.new_context(viewport={"width": 390, "height": 844}, bypass_csp=True)  # axe's own script
        yield await context.new_page()
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    """A phone's page."""
    async with phone(CHROMIUM_ARGUMENTS) as page:
        yield page


async def findings(page: Page) -> list[str]:
    await page.add_script_tag(path=AXE)
    found: list[str] = await page.evaluate(FINDINGS)
    return found


def publisher(server: SignalingServer, name: str) -> Broadcaster:
    return Broadcaster(server.url, TestPattern((320, 180), 10), name=name)


async def test_the_viewer_has_no_serious_finding(page: Page) -> None:
    async with SignalingServer(port=0) as server:
        await page.goto(server.viewer)
        await page.wait_for_function("() => window.synopticon?.session")
        assert await findings(page) == []
        async with publisher(server, "Ada"), publisher(server, "Ben"):
            await page.wait_for_function("() => synopticon.frames > 3")
            await page.wait_for_selector("#choice", state="visible")
            for panel in "#parts", "#log":
                await page.click(f"{panel} > summary")
                assert await findings(page) == []
    await page.wait_for_function("() => synopticon.state === 'unreachable'")
    assert await findings(page) == []


async def test_the_page_for_rooms_of_janus_has_no_serious_finding(page: Page) -> None:
    async with SignalingServer(port=0) as server:
        await page.goto(f"{server.viewer}janus")
        assert await findings(page) == []
        await page.goto(f"{server.viewer}janus?room=ws://127.0.0.1:9/1")
        await page.wait_for_function("() => document.getElementById('headline').textContent.includes('trying again')")
        assert await findings(page) == []


async def test_the_page_that_publishes_has_no_serious_finding_in_any_state(page: Page) -> None:
    async with SignalingServer(port=0) as server:
        await page.goto(f"{server.viewer}camera?lab=The+Baby+Lab&room=lab-3")
        assert await findings(page) == []
        await page.click("#start")
        await page.wait_for_function("() => synopticon.state === 'ready'")
        for panel in "#people", "#settings":
            await page.click(f"{panel} > summary")
            assert await findings(page) == []
        await page.keyboard.press("Escape")
        assert await page.evaluate("document.activeElement.closest('details').id") == "settings"
        await page.click("#stop")
        assert await findings(page) == []


async def test_the_grid_has_no_serious_finding(page: Page) -> None:
    async with SignalingServer(port=0) as server, publisher(server, "Ada"):
        await page.goto(f"{server.viewer}?grid")
        await page.wait_for_function("() => window.synopticon?.people[0]?.frames > 3")
        assert await findings(page) == []
        async with publisher(server, "Ben"):
            await page.wait_for_function("() => synopticon.people[1]?.frames > 3")
            await page.click(".enlarge >> nth=1")
            assert await findings(page) == []


async def test_files_have_no_serious_finding_in_any_state(page: Page, tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", 1_000_000)
    async with SignalingServer(port=0) as server, Broadcaster(server.url, TestPattern((320, 180), 10)) as broadcaster:
        await page.goto(server.viewer)
        await page.evaluate("Object.defineProperty(window, 'showSaveFilePicker', { value: null })")
        while not broadcaster.peers:  # noqa: ASYNC110 - a page tells of nothing
            await asyncio.sleep(0.02)
        (to,) = broadcaster.peers
        row, take = page.locator("#files li"), page.get_by_role("button", name="Take it")
        sent = await broadcaster.send_file(path, to=to, rate=100_000)
        await take.wait_for()
        assert await findings(page) == []  # offered
        await take.click()
        await row.get_by_text(" of 1.0 MB").wait_for()
        assert await findings(page) == []  # running
        sent.cancel("enough")
        await row.get_by_text("enough").wait_for()
        assert await findings(page) == []  # failed
        await broadcaster.send_file(path, to=to)
        await page.get_by_role("button", name="No", exact=True).click()
        await row.get_by_text("it is not wanted").wait_for()
        assert await findings(page) == []  # refused
        done = await broadcaster.send_file(path, to=to)
        async with page.expect_download():
            await take.click()
        await done.wait()
        await row.get_by_text("received").wait_for()
        assert await findings(page) == []  # done


async def test_the_room_has_no_serious_finding_in_any_state(page: Page) -> None:
    async with SignalingServer(port=0) as server, publisher(server, "Ada"):
        await page.goto(f"{server.viewer}room?lab=The+Baby+Lab")
        assert await findings(page) == []
        await page.click("#start")
        await page.wait_for_function("() => synopticon.people[1]?.frames > 3")
        for panel in "#people", "#settings":
            await page.click(f"{panel} > summary")
            assert await findings(page) == []
        await page.click("#leave")
        assert await findings(page) == []
        await page.goto(f"{server.viewer}room")
        await page.click("#watch")
        await page.wait_for_function("() => synopticon.people[1]?.frames > 3")
        assert await findings(page) == []


async def test_files_on_a_page_have_no_serious_finding(page: Page) -> None:
    async with SignalingServer(port=0) as server:
        await page.goto(f"{server.viewer}camera")
        await page.click("#start")
        await page.wait_for_function("() => synopticon.state === 'ready'")
        viewer = await page.context.new_page()
        await viewer.goto(server.viewer)
        await viewer.wait_for_function("() => synopticon.frames > 3")
        await viewer.evaluate(DROP)
        await page.wait_for_selector("#files button:text('Take it')")
        assert [await findings(each) for each in (page, viewer)] == [[], []]
        await viewer.close()


@pytest.mark.long
async def test_pages_that_may_use_no_camera_have_no_serious_finding() -> None:
    refusing = [each for each in CHROMIUM_ARGUMENTS if each != "--use-fake-ui-for-media-stream"]
    async with SignalingServer(port=0) as server, phone([*refusing, "--deny-permission-prompts"]) as page:
        for name in "camera", "room":
            await page.goto(f"{server.viewer}{name}")
            await page.click("#start")
            await page.wait_for_selector("#again", state="visible")
            assert await findings(page) == []


async def test_pages_that_a_server_does_not_let_in_have_no_serious_finding(page: Page) -> None:
    async with SignalingServer(port=0, tokens=TokenKeys(secret=b"a secret of thirty-two bytes, at least")) as server:
        for name in "", "?grid", "camera", "room":
            await page.goto(f"{server.viewer}{name}")
            await page.get_by_text("oken").first.wait_for()
            assert await findings(page) == []
