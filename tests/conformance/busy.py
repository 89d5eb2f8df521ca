"""A page that broadcasts while its main thread is busy: how long its receivers, a page and ours, wait for a picture."""

import contextlib
from collections.abc import AsyncIterator

from browsers import Browser, Tab, until_told
from pairs import SERVERS

from synopticon_rtc import Receiver

BUSY_MS = (300, 700, 1200)
"""For how long at a time the main thread is held: a face mesh on software WebGL takes that long for a picture."""
RECEIVERS = {"face-tracking-demo": "webrtc-receiver-demo", "webrtc-signaling-demo": "webrtc-signaling-demo"}
"""Which page receives what the one that broadcasts sends."""
WITHIN = 60.0  # seconds to a first frame


@contextlib.asynccontextmanager
async def busy_page(browser: Browser, base: str, name: str, busy_ms: int) -> AsyncIterator[tuple[str, Tab]]:
    """Give the address of a server on which that page broadcasts, and the page."""
    async with SERVERS["0.6.3"]() as server:
        address = f"{base}/index.html?page={name}&role=broadcast&url={server.url}&busy={busy_ms}"
        async with browser(address) as tab:
            await until_told(lambda: tab("window.report?.session && window.report.worked > 1"), 2 * WITHIN)
            yield server.url, tab


async def first_frame_of_page(browser: Browser, base: str, name: str, url: str) -> float:
    """Receive with a page: seconds from its first discovery to its first frame."""
    async with browser(f"{base}/index.html?page={RECEIVERS[name]}&role=receive&url={url}") as tab:
        return float(await until_told(lambda: tab("window.report?.first"), WITHIN))


async def first_frame_of_ours(url: str) -> float:
    """Receive with ours: seconds from its first discovery to its first frame."""
    async with Receiver(url, timeout=WITHIN) as receiver:
        await anext(receiver)
        assert receiver.stats.first_frame is not None
        return receiver.stats.first_frame
