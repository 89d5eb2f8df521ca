"""Two ends that exchange files, over a network in memory or real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rtc_helpers import Clip, Peer, join

from synopticon_rtc.files.hub import FileHub, FileLink
from synopticon_rtc.files.incoming import FileOffer
from synopticon_rtc.files.transfer import FileTransfer
from synopticon_rtc.rtc import Channel


class End:
    """One end of a connection, with its hub."""

    def __init__(self, name: str) -> None:
        self.hub = FileHub()
        self.others: list[Channel] = []
        self.peer = Peer(on_channel=self._adopt)
        self.link: FileLink = self.hub.join(self.peer.connection, name)

    def _adopt(self, channel: Channel) -> None:
        if not self.link.adopt(channel):
            self.others.append(channel)

    def cut(self, other: "End", *, up: bool = False) -> None:
        """Cut the ways to another end, or mend them."""
        assert self.peer.host is not None
        assert other.peer.host is not None
        self.peer.host.network.cut(self.peer.host, other.peer.host, up=up)


@contextlib.asynccontextmanager
async def connected(clip: Clip | None = None) -> AsyncIterator[tuple[End, End]]:
    """Connect two ends, the first of which may send pictures; each knows the other by its name."""
    one, two = End("two"), End("one")
    async with one.peer, two.peer:
        if clip is not None:
            one.peer.connection.add_video(lambda _: clip.stream, [clip.stream.codec])
        one.peer.connection.add_channel("control")
        await join(one.peer, two.peer)
        await two.peer.until(lambda: two.others)
        try:
            yield one, two
        finally:
            await one.hub.aclose()
            await two.hub.aclose()


async def offered(end: End) -> FileOffer:
    """Take the next offer."""
    offers = end.hub.offers()
    try:
        async with asyncio.timeout(60):
            return await anext(offers)
    finally:
        await offers.aclose()  # type: ignore[attr-defined]


async def carried(one: End, two: End, path: Path, folder: Path, **options: Any) -> tuple[FileTransfer, FileTransfer]:
    """Send a file and accept it; neither is waited for."""
    sent = await one.hub.send(path, None, rate=options.pop("rate", None))
    return sent, await (await offered(two)).accept(folder, **options)


def written(path: Path, size: int) -> Path:
    """Write a file whose content is not the same anywhere in it."""
    path.write_bytes(b"".join(number.to_bytes(8, "big") for number in range(-(-size // 8)))[:size])
    return path
