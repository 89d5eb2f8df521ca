"""Capture what browsers send us, as test data: `capture.py [FOLDER]`, 3 s of each codec that each of them can send.

A page sends the browser's own test picture to a receiver of ours. What comes is written after decryption, as rtpdump
files, which Wireshark opens; the browser's offer lies beside each, and says what the payload types are. Firefox has
H.264 by a plugin alone, which Debian does not bring.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import BROWSERS, Browser, serving, until_told
from pairs import PAGES
from rtpdump import Record, write

from synopticon_rtc import Receiver, SignalingServer
from synopticon_rtc.rtc import PeerConnection
from synopticon_rtc.rtc.transport import Transport

SECONDS = 3.0
CODECS = ("VP8", "H264")
FOLDER = Path(__file__).parents[1] / "rtc" / "captures"


@contextlib.contextmanager
def recording(records: list[Record], offers: list[str]) -> Iterator[None]:
    """Record the decrypted packets and the offers that come to this process."""
    answer = PeerConnection.answer

    async def take_offer(connection: PeerConnection, sdp: str, *args: Any, **options: Any) -> str:
        offers.append(sdp)
        return await answer(connection, sdp, *args, **options)

    begun = time.monotonic()

    def note(name: str, *, rtcp: bool) -> Any:
        handle = getattr(Transport, name)

        async def take(transport: Transport, data: bytes, *args: Any, **options: Any) -> None:
            records.append(Record(round((time.monotonic() - begun) * 1000), bytes(data), rtcp))
            await handle(transport, data, *args, **options)

        return take

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PeerConnection, "answer", take_offer)
        patch.setattr(Transport, "_handle_rtp_data", note("_handle_rtp_data", rtcp=False))
        patch.setattr(Transport, "_handle_rtcp_data", note("_handle_rtcp_data", rtcp=True))
        yield


async def capture(browser: Browser, base: str, codec: str, stem: Path) -> str:
    """Receive for some seconds, write what came, and tell of it."""
    records: list[Record] = []
    offers: list[str] = []
    async with SignalingServer(port=0) as server:
        address = f"{base}/index.html?page=camera&role=broadcast&codec={codec}&url={server.url}"
        async with browser(address) as tab:
            await until_told(lambda: tab("window.report?.session"), 30)
            if not (await tab("window.report"))["able"]:
                return "this browser cannot send it"
            with recording(records, offers):
                async with Receiver(server.url, timeout=30) as receiver:
                    await anext(receiver)
                    await asyncio.sleep(SECONDS)
            assert not (await tab("window.report"))["thrown"]
    first = records[0].at
    write(stem.with_suffix(".rtpdump"), [record._replace(at=record.at - first) for record in records])
    stem.with_suffix(".sdp").write_bytes(offers[-1].encode())
    return f"{len(records)} packets, {sum(len(record.data) for record in records):,} bytes"


async def main(folder: Path) -> None:
    with serving(PAGES) as base:
        for name, (_, start) in BROWSERS.items():
            async with start() as browser:
                for codec in CODECS:
                    stem = folder / f"{name}-{codec.lower()}"
                    print(f"{stem.name}: {await capture(browser, base, codec, stem)}")  # noqa: T201 - a command


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
