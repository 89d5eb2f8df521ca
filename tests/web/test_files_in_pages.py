"""Files between pages and Python, in a real browser: what is dropped on a page, and what people let it take."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

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

SIZE = 3_000_001
WITHIN = 60.0
# Without a dialogue, which no test can answer: then a page downloads what it takes.
NO_DIALOGUE = "delete window.showSaveFilePicker; Object.defineProperty(window, 'showSaveFilePicker', { value: null });"
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
    """Send a file each way."""
    sending: FileTransfer = (
        await end.send_file(path, to=to or "") if isinstance(end, Broadcaster) else await end.send_file(path)
    )
    async with page.expect_download(timeout=WITHIN * 1000) as download:
        await page.get_by_role("button", name="Take it").click()
    await sending.wait()
    saved = folder / "saved"
    await (await download.value).save_as(saved)
    assert saved.read_bytes() == path.read_bytes()  # noqa: ASYNC240 - small, and nothing else runs
    await page.evaluate(DROP, SIZE)
    offer = await anext(end.files)
    assert (offer.name, offer.size, offer.modified) == ("from a page.bin", SIZE, 1_700_000_000)
    transfer = await offer.accept(folder)
    await transfer.wait()
    assert transfer.path is not None
    assert hashlib.sha256(transfer.path.read_bytes()).hexdigest() == dropped(SIZE)
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
