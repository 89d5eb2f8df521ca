"""Encrypts the same packets for one peer after another, in one buffer."""

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.bursts import Run, runs
from synopticon_rtc.rtc.pacer import BURST

ROOM = 1500
"""Bytes that a packet may take, encrypted; the most that pylibsrtp takes."""
MARKER = 0x800000
"""The marker in the first four octets of an RTP header: the packet is the last of its frame (RFC 3550 section 5.1)."""


class Sealer:
    """Protects bursts of RTP packets by the function with which pylibsrtp protects one at a time.

    pylibsrtp copies each packet in and out of a buffer of its own. Here the packets of a burst lie in one buffer, as
    the system takes them; for the next peer all but the headers is put back by one copy.
    """

    def __init__(self) -> None:
        ffi, self._protect = seams.srtp_functions()
        self._room = ffi.new("char[]", BURST * ROOM)
        self._view = memoryview(ffi.buffer(self._room))
        self._length = ffi.new("int *")
        self._payloads: Sequence[bytes] = ()
        self._form = (0, 0, False)  # that of the packets which the payloads were made into
        self._write = struct.Struct("!I").pack_into
        self._plain = b""
        self._packets = self._view[:0]
        self._places: list[tuple[Any, int, int, int]] = []  # of each: for libsrtp and in the view, its size, the marker
        self._runs: Sequence[Run] = ()

    def seal(
        self, context: object, tag: int, payloads: Sequence[bytes], word: int, tail: bytes, *, marked: bool
    ) -> tuple[memoryview, Sequence[Run]]:
        """Encrypt packets of one frame for one peer.

        Args:
            context: Of the peer, from :func:`seams.srtp_context`.
            tag: How many bytes longer a packet is once it is encrypted.
            payloads: Of the packets, no more than a burst; the very same object for every peer.
            word: The first four octets of the first packet's header; sequence numbers count up and wrap around.
            tail: The rest of the header, the same for all.
            marked: Whether the last packet is the last of its frame.

        Returns:
            The packets one behind the other, and as which runs they are sent; they hold until the next call.

        Raises:
            ValueError: libsrtp refuses a packet.
        """
        form = len(tail), tag, marked
        if payloads is not self._payloads or form != self._form:
            self._load(payloads, *form)
        packets, length, protect, write = self._packets, self._length, self._protect, self._write
        packets[:] = self._plain
        fixed, sequence_number = word & 0xFFFF0000, word & 0xFFFF
        for place, at, size, marker in self._places:
            write(packets, at, fixed | marker | sequence_number, tail)
            sequence_number = (sequence_number + 1) & 0xFFFF
            length[0] = size
            if protect(context, place, length):
                raise ValueError("libsrtp does not encrypt a packet")
        return packets, self._runs

    def _load(self, payloads: Sequence[bytes], tail: int, tag: int, marked: bool) -> None:  # noqa: FBT001 - as seal
        sizes = [4 + tail + len(payload) + tag for payload in payloads]
        if len(payloads) > BURST or max(sizes) > ROOM:
            raise ValueError("more than a burst, or a packet too long")
        self._payloads, self._form = payloads, (tail, tag, marked)
        self._write = struct.Struct(f"!I{tail}s").pack_into
        header, end = bytes(4 + tail), bytes(tag)
        self._plain = b"".join(header + payload + end for payload in payloads)
        self._packets = self._view[: len(self._plain)]
        self._runs = list(runs(sizes))
        starts = accumulate(sizes, initial=0)
        markers = [0] * (len(sizes) - 1) + [MARKER if marked else 0]
        self._places = [
            (self._room + at, at, size - tag, marker) for at, size, marker in zip(starts, sizes, markers, strict=False)
        ]
