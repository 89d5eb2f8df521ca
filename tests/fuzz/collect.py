"""Collect what peers really send into the corpora of the fuzz targets: `PYTHONPATH=tests/conformance collect.py`.

Chromium, Firefox, Pion and GStreamer meet ours in both roles, and ours meet each other. Of each kind of message one is
kept of each of them.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import BROWSERS, serving
from foreign import Foreign, Workshop, meet
from fuzzing import CORPUS
from pairs import PAGE_TABLE, PAGES, Pair, check

from synopticon_rtc.rtc import Channel, PeerConnection
from synopticon_rtc.rtc.association import Association
from synopticon_rtc.rtc.sorting import SortingProtocol
from synopticon_rtc.rtc.stream import Codec
from synopticon_rtc.rtc.transport import Transport
from synopticon_rtc.signaling import client

LARGEST = 16_384
"""Bytes of an input: a page's face is 15,000."""
DTLS = 20, 63
"""The first byte of its datagrams, which is lower for STUN and higher for RTP (RFC 7983)."""
FULL = 1000
"""Bytes that tell a packet in the middle of a frame from the last of one."""
FRAMES = 60
"""That are played, for reports to be among what comes."""


class Collection:
    """What one peer sent, one of each kind, by the corpus that it belongs to."""

    def __init__(self) -> None:
        self.found: dict[str, dict[object, bytes]] = {}

    def add(self, corpus: str, kind: object, data: bytes | str) -> None:
        """Keep an input, unless there is one of its kind."""
        data = data.encode() if isinstance(data, str) else bytes(data)
        if len(data) <= LARGEST:
            self.found.setdefault(corpus, {}).setdefault(kind, data)

    def add_message(self, channel: Channel, message: bytes | str) -> None:
        """Keep a message of a data channel."""
        if isinstance(message, bytes):
            self.add("faces", 0, message)
        elif channel.label == "control":
            self.add("control", message[:14], message)
        else:
            self.add("faces-json", 0, message)

    def write(self, name: str) -> None:
        """Write the files of one peer."""
        for corpus, inputs in self.found.items():
            folder = CORPUS / corpus
            folder.mkdir(parents=True, exist_ok=True)
            if corpus in {"offers", "answers"}:
                for codec, data in inputs.items():
                    (folder / f"{name}-{codec}.sdp").write_bytes(data)
            elif corpus in {"signaling", "control", "faces-json", "candidates"}:
                (folder / f"{name}.txt").write_bytes(b"".join(data + b"\n" for data in inputs.values()))
            else:
                (folder / f"{name}.hex").write_text("".join(f"{data.hex()}\n" for data in inputs.values()))


def kind_of(datagram: bytes) -> object:
    """Tell STUN by its message type, and DTLS by its content type and, in the clear, that of the handshake."""
    if datagram[0] < DTLS[0]:
        return datagram[:2]
    return datagram[0], datagram[3:5] == b"\0\0" and datagram[13]


@contextlib.contextmanager
def collecting(it: Collection, codec: Codec = "vp8") -> Iterator[None]:
    """Collect what comes to the peers of this process."""
    with pytest.MonkeyPatch.context() as patch:

        def listen(there: Any, name: str, take: Callable[..., object]) -> None:
            method = getattr(there, name)

            def listening(*args: Any, **options: Any) -> Any:
                take(*args)
                return method(*args, **options)

            patch.setattr(there, name, listening)

        def take_datagram(_: object, data: bytes, __: object) -> None:
            if data[0] <= DTLS[1]:
                it.add("datagrams", kind_of(data), data)

        def take_candidate(_: object, text: str | None, *__: object) -> None:
            if text:
                it.add("candidates", text.split()[7], text)

        def take_rtp(_: object, data: bytes, *__: object) -> None:
            it.add(f"rtp-{codec}", (data[:2], len(data) > FULL), data)

        listen(PeerConnection, "answer", lambda _, sdp, *__: it.add("offers", codec, sdp))
        listen(PeerConnection, "set_answer", lambda _, sdp: it.add("answers", codec, sdp))
        listen(PeerConnection, "add_candidate", take_candidate)
        listen(SortingProtocol, "sort", take_datagram)
        listen(Transport, "_handle_rtp_data", take_rtp)
        listen(Transport, "_handle_rtcp_data", lambda _, data: it.add("rtcp", data[:2], data))
        listen(Association, "_handle_data", lambda _, data: it.add("sctp", data[12:14], data))
        listen(Channel, "_received", it.add_message)
        listen(client, "decode", lambda data: it.add("signaling", data[:24], data))
        yield


async def main() -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in "pairs", "foreign":
            patch.setattr(f"{module}.FRAMES", FRAMES)
        await collect()


async def collect() -> None:
    """Let all meet ours, and write what they sent."""
    ours = Collection()
    with collecting(ours):
        await check(Pair("embedded"), None, "")
    ours.write("ours")
    with serving(PAGES) as base:
        (page,) = [page for page in PAGE_TABLE if page.name == "webrtc-client"]
        for name, (_, start) in BROWSERS.items():
            it = Collection()
            async with start() as browser:
                for role in page.roles:
                    with collecting(it):
                        await check(Pair("embedded", page, role, name), browser, base)
            it.write(name)
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        await asyncio.to_thread(workshop.prepare)
        for stack in ("pion", "gstreamer"):
            it = Collection()
            for peer in (Foreign(stack, "receive"), Foreign(stack, "broadcast"), Foreign(stack, "broadcast", "h264")):
                with collecting(it, peer.codec):
                    await meet(peer, workshop)
            it.write(stack)


if __name__ == "__main__":
    asyncio.run(main())
