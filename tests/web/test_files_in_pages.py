"""Files between pages and Python, in a real browser: what is dropped on a page, and what people let it take."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from browsers import CHROMIUM, CHROMIUM_ARGUMENTS
from files_helpers import written
from playwright.async_api import Browser, Page, async_playwright
from waiting import until

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern
from synopticon_rtc.errors import FileError
from synopticon_rtc.files.transfer import FileTransfer

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]

SIZE, SMALL = 3_000_001, 100_001
WITHIN = 60.0
# Without a dialogue, which no test can answer: then a page downloads what it takes.
NO_DIALOGUE = "Object.defineProperty(window, 'showSaveFilePicker', { value: null, configurable: true });"
# A place that somebody has chosen in that dialogue: on the disk, where the browser keeps what belongs to a page.
CHOSEN = """async ({ suggestedName }) => {
  const folder = await navigator.storage.getDirectory();
  window.chosen = await folder.getFileHandle(suggestedName, { create: true });
  return window.chosen;
}"""
DROP_CHOSEN = """async () => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(await chosen.getFile());
  window.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
}"""
LARGE = 50_000_000
MEMORY = 75_000_000
"""Bytes that all pages may take more while a large file comes and goes: 51 MB were measured on a machine with much else
to do, and 36 MB beside a file of 12 MB. One that is held whole would add its 50 MB to the latter."""
DROP = """(size) => {
  const bytes = new Uint8Array(size).map((_, at) => (at * 31 + (at >> 8)) & 255);
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "from a page.bin", { lastModified: 1700000000000 }));
  window.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
}"""
PUBLISH = """async (url) => {
  const { Broadcaster } = await import("/broadcaster.js");
  const { FileList } = await import("/filelist.js");
  const list = new FileList(() => broadcaster.files, console.log);
  window.broadcaster = new Broadcaster(url, { name: "page" }, { changed() {}, faces() {}, log() {}, files: list });
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
  const context = canvas.getContext("2d");
  setInterval(() => context.fillRect(0, 0, (Date.now() / 20) % 64, 48), 50);
  broadcaster.publish("camera", canvas.captureStream().getVideoTracks()[0]);
}"""


def dropped(size: int) -> str:
    """Return the hash of what is dropped on a page."""
    return hashlib.sha256(bytes((at * 31 + (at >> 8)) & 255 for at in range(size))).hexdigest()


class Memory:
    """The most that all pages have held since this was made, bytes."""

    def __init__(self) -> None:
        self.before = self.most = self._now()

    def look(self) -> None:
        self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        total = 0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "--type=renderer" in process.cmdline():
                    total += process.memory_info().rss
        return total


async def watched(transfer: FileTransfer, memory: Memory) -> None:
    """Wait until a file is there, and look at how much the pages hold meanwhile."""
    async for _ in transfer:
        memory.look()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def opened(chromium: Browser, url: str) -> AsyncIterator[Page]:
    """Open a page; it must throw nothing."""
    faults: list[str] = []
    async with await chromium.new_context(accept_downloads=True) as context:
        page = await context.new_page()
        await page.add_init_script(NO_DIALOGUE)
        page.on("pageerror", lambda error: faults.append(str(error)))
        await page.goto(url)
        yield page
    assert faults == []


async def exchange(page: Page, end: Broadcaster | Receiver, to: str | None, path: Path, folder: Path) -> None:
    """Send a file each way, of the same size."""
    size = path.stat().st_size  # noqa: ASYNC240 - nothing else runs
    sending: FileTransfer = (
        await end.send_file(path, to=to or "") if isinstance(end, Broadcaster) else await end.send_file(path)
    )
    async with page.expect_download(timeout=WITHIN * 1000) as download:
        await page.get_by_role("button", name="Take it").click()
    await sending.wait()
    saved = folder / "saved"
    await (await download.value).save_as(saved)
    assert saved.read_bytes() == path.read_bytes()  # noqa: ASYNC240 - small, and nothing else runs
    await page.evaluate(DROP, size)
    offer = await anext(end.files)
    assert (offer.name, offer.size, offer.modified) == ("from a page.bin", size, 1_700_000_000)
    transfer = await offer.accept(folder)
    await transfer.wait()
    assert transfer.path is not None
    assert hashlib.sha256(transfer.path.read_bytes()).hexdigest() == dropped(size)
    await page.get_by_text("sent", exact=True).wait_for()


async def test_the_viewer_takes_and_offers_files(chromium: Browser, tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", SIZE)
    async with (
        asyncio.timeout(WITHIN),
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((320, 240), 15)) as broadcaster,
        opened(chromium, server.viewer) as page,
    ):
        await until(lambda: broadcaster.peers)
        await exchange(page, broadcaster, broadcaster.peers[0], path, tmp_path)
        refused = await broadcaster.send_file(path, to=broadcaster.peers[0])
        await page.get_by_role("button", name="No", exact=True).click()
        with pytest.raises(FileError, match="it is not wanted"):
            await refused.wait()


async def test_a_page_that_publishes_takes_and_offers_files(chromium: Browser, tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", SIZE)
    async with (
        asyncio.timeout(WITHIN),
        SignalingServer(port=0) as server,
        opened(chromium, server.viewer + "nothing-here") as page,
        Receiver(server.url) as receiver,
    ):
        await page.evaluate(PUBLISH, server.url)
        await anext(receiver)
        await exchange(page, receiver, None, path, tmp_path)


async def test_the_page_with_a_camera_takes_and_offers_files(chromium: Browser, tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", SMALL)
    async with (
        asyncio.timeout(WITHIN),
        SignalingServer(port=0) as server,
        opened(chromium, server.viewer + "camera") as page,
        Receiver(server.url) as receiver,
    ):
        await page.click("#start")
        await anext(receiver)
        await exchange(page, receiver, None, path, tmp_path)
        path = written(tmp_path / "more.bin", 10)
        refused = await receiver.send_file(path)
        await page.get_by_role("button", name="No", exact=True).click()
        with pytest.raises(FileError, match="it is not wanted"):
            await refused.wait()


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_50_mb_go_to_the_disk_of_a_browser_and_back_in_little_memory(chromium: Browser, tmp_path: Path) -> None:
    path = written(tmp_path / "large.bin", LARGE)
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((320, 240), 15)) as broadcaster,
        opened(chromium, server.viewer) as page,
    ):
        await page.evaluate(f"Object.defineProperty(window, 'showSaveFilePicker', {{ value: {CHOSEN} }})")
        while not broadcaster.peers:  # noqa: ASYNC110 - a page tells of nothing
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)  # until the page holds what it needs for video
        memory = Memory()
        sent = await broadcaster.send_file(path, to=broadcaster.peers[0])
        await page.get_by_role("button", name="Take it").click()
        await watched(sent, memory)
        await page.evaluate(DROP_CHOSEN)
        transfer = await (await anext(broadcaster.files)).accept(tmp_path / "back")
        await watched(transfer, memory)
        assert memory.most - memory.before < MEMORY
    assert transfer.path == tmp_path / "back" / "large.bin"
    assert transfer.path is not None
    assert transfer.path.read_bytes() == path.read_bytes()
