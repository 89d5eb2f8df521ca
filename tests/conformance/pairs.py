"""Every pair of a page and a peer of ours, through every server: what is a pass, and which pairs cannot be."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from browsers import Browser, Tab, until_told
from published import V062, V063, PublishedServer

from synopticon_rtc import Broadcaster, Face, Receiver, SignalingServer, TestPattern
from synopticon_rtc.errors import NobodyAnswered

PAGES = Path(__file__).parent / "pages"
FRAMES, FACES = 5, 3  # that must come
SIZE = (320, 240)
WITHIN = 60.0  # seconds for a pair to meet and play: it takes 1 to 4 where the machine is not busy
Server = PublishedServer | SignalingServer
SERVERS: dict[str, Callable[[], AbstractAsyncContextManager[Server]]] = {
    "0.6.2": lambda: PublishedServer(V062),
    "0.6.3": lambda: PublishedServer(V063),
    "embedded": lambda: SignalingServer(port=0),
}


@dataclass(frozen=True)
class Page:
    """A row of the protocol's table of pages: what it does by itself is in its file."""

    name: str
    roles: tuple[Literal["broadcast", "receive"], ...]
    points: int | None
    """Landmarks in each face of its payload; None without a channel."""
    seeks_alone: bool = False
    """Whether it knows no discovery but ``webrtc_seek_broadcaster``."""
    offers_unasked: bool = False


PAGE_TABLE = [
    Page("webrtc-signaling-demo", ("broadcast", "receive"), points=468),
    Page("webrtc-receiver-demo", ("receive",), points=478, seeks_alone=True),
    Page("face-tracking-demo", ("broadcast",), points=478, seeks_alone=True),
    Page("webrtc-client", ("broadcast", "receive"), points=478),
    Page("webrtc-demo", ("broadcast", "receive"), points=None, offers_unasked=True),
    Page("mediapipe-simple-test", ("broadcast", "receive"), points=468),
    Page("webrtc-client-ts", ("broadcast", "receive"), points=None, seeks_alone=True),
]


@dataclass(frozen=True)
class Pair:
    """A page in a browser and our other end, through a server; without a page, two of ours."""

    server: str
    page: Page | None = None
    role: Literal["broadcast", "receive"] = "receive"
    browser: str = ""

    def __str__(self) -> str:
        return f"{self.who}-{self.server}"

    @property
    def who(self) -> str:
        return f"{self.page.name}-{self.role}-{self.browser}" if self.page else "ours-ours"

    @property
    def impossible(self) -> str:
        """Why the page cannot work through that server, whoever is at the other end."""
        alone = self.page is not None and self.page.seeks_alone and self.server == "0.6.2"
        return "the page knows webrtc_seek_broadcaster alone, which 0.6.2 does not know" if alone else ""


def all_pairs() -> Iterator[Pair]:
    for server in SERVERS:
        yield Pair(server)
        for page in PAGE_TABLE:
            for role in page.roles:
                yield Pair(server, page, role, "chromium")
                if role == "receive":
                    yield Pair(server, page, role, "firefox")


async def check(pair: Pair, browser: Browser | None, base: str) -> None:
    """Let the two meet.

    Raises:
        AssertionError: They do not play, or a pair does that cannot.
        NobodyAnswered: Our receiver found no broadcaster.
    """
    async with SERVERS[pair.server]() as server:
        if pair.page is None:
            async with our_broadcaster(server), Receiver(server.url, timeout=WITHIN) as receiver:
                await receives(receiver, points=478)
            return
        assert browser
        page = pair.page
        url = f"{base}/index.html?page={page.name}&role={pair.role}&url={server.url}"
        if pair.role == "receive":
            async with our_broadcaster(server), browser(url) as tab:
                await (page_finds_nobody(tab) if pair.impossible else page_receives(tab, page))
        else:
            async with browser(url) as tab:
                await reported(tab, lambda report: report["session"] and report["offers"] == page.offers_unasked)
                if pair.impossible:
                    await nobody_finds_the_page(server)
                    return
                async with Receiver(server.url, timeout=WITHIN) as receiver:
                    await receives(receiver, page.points)
                assert (await tab("window.report"))["thrown"] == []


class MadeUpFace:
    """A detector that finds the face of the pages: point i tells its index."""

    landmarks = np.array([(i / 1000, 0.5, -i / 1000) for i in range(478)], np.float32)

    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        assert (frame.width, frame.height) == SIZE
        return [Face(self.landmarks, {})]


@contextlib.asynccontextmanager
async def our_broadcaster(server: Server) -> AsyncIterator[Broadcaster]:
    async with Broadcaster(server.url, TestPattern(SIZE, 30), faces=MadeUpFace()) as broadcaster:
        await broadcaster.signaling.wait_open()
        yield broadcaster


async def receives(receiver: Receiver, points: int | None, within: float = WITHIN) -> None:
    """Our receiver gets frames, and the very faces that were sent."""
    frames = faces = 0
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    async for moment in receiver:
        assert loop.time() < end, f"{frames} frames and {faces} faces in {within:g} s"
        assert (moment.frame.width, moment.frame.height) == SIZE
        frames += 1
        for face in moment.faces:
            faces += 1
            assert points
            np.testing.assert_allclose(face.landmarks, MadeUpFace.landmarks[:points], atol=2e-3)
        if frames >= FRAMES and (faces >= FACES or not points):
            break


async def page_receives(tab: Tab, page: Page) -> None:
    """The page gets frames, and faces that it can read, and nothing breaks it."""

    def plays(report: dict[str, Any]) -> bool:
        return report["frames"] >= FRAMES and (page.points is None or report["faces"] >= FACES)

    report = await reported(tab, plays)
    assert report["size"] == list(SIZE)
    assert report["offers"] == 1
    if page.points:
        landmarks = [[point["x"], point["y"], point["z"]] for point in report["landmarks"]]
        np.testing.assert_allclose(landmarks, MadeUpFace.landmarks, atol=1e-4)


async def page_finds_nobody(tab: Tab) -> None:
    report = await reported(tab, lambda report: bool(report["refused"]))
    assert report["refused"] == ["Unknown message type: webrtc_seek_broadcaster"]
    await asyncio.sleep(0.5)
    assert (await tab("window.report"))["offers"] == 0


async def nobody_finds_the_page(server: Server) -> None:
    async with Receiver(server.url, timeout=1) as receiver:
        with contextlib.suppress(NobodyAnswered):
            moment = await anext(receiver)
            raise AssertionError(f"found all the same: {moment}")


async def reported(tab: Tab, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the page reports what is asked for."""
    report: dict[str, Any] = {}

    async def ask() -> bool:
        nonlocal report
        report = await tab("window.report") or {}
        assert not report.get("thrown"), f"the page threw {report['thrown']}"
        return bool(report) and condition(report)

    try:
        await until_told(ask, WITHIN)
        return report  # noqa: TRY300 - what the last question brought
    except TimeoutError:
        told = {key: value for key, value in report.items() if key != "landmarks"}
        raise AssertionError(f"the page came no further than {told} in {WITHIN:g} s") from None
