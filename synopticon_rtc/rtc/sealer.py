"""Encrypts the same packets for one peer after another, in one buffer."""

import struct
from collections.abc import Sequence
from typing import Any

from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.pacer import BURST

ROOM = 1500
"""Bytes that a packet may take, encrypted; the most that pylibsrtp takes."""


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
        self._overhead = (0, 0)
        self._plain = b""
        self._places: list[tuple[Any, int, int]] = []
        self._sizes: list[int] = []

    def seal(
        self, context: object, tag: int, payloads: Sequence[bytes], word: int, tail: bytes, *, marked: bool
    ) -> tuple[memoryview, list[int]]:
        """Encrypt packets of one frame for one peer.

        Args:
            context: Of the peer, from :func:`seams.srtp_context`.
            tag: How many bytes longer a packet is once it is encrypted.
            payloads: Of the packets, no more than a burst; the very same object for every peer.
            word: The first four octets of the first packet's header; sequence numbers count up and wrap around.
            tail: The rest of the header, the same for all.
            marked: Whether the last packet is the last of its frame.

        Returns:
            The packets one behind the other, and how long each is; they hold until the next call.

        Raises:
            ValueError: libsrtp refuses a packet.
        """
        if payloads is not self._payloads or (len(tail), tag) != self._overhead:
            self._load(payloads, len(tail), tag)
        view, length, protect = self._view, self._length, self._protect
        view[: len(self._plain)] = self._plain
        write = struct.Struct(f"!I{len(tail)}s").pack_into
        fixed, sequence_number = word & 0xFFFF0000, word & 0xFFFF
        last = len(payloads) - 1 if marked else -1
        for index, (place, at, size) in enumerate(self._places):
            write(view, at, (fixed | 0x800000 if index == last else fixed) | sequence_number, tail)
            sequence_number = (sequence_number + 1) & 0xFFFF
            length[0] = size
            if protect(context, place, length):
                raise ValueError("libsrtp does not encrypt a packet")
        return view[: len(self._plain)], self._sizes

    def _load(self, payloads: Sequence[bytes], tail: int, tag: int) -> None:
        self._payloads, self._overhead = payloads, (tail, tag)
        header, end = bytes(4 + tail), bytes(tag)
        self._plain = b"".join(header + payload + end for payload in payloads)
        self._sizes = [4 + tail + len(payload) + tag for payload in payloads]
        if len(payloads) > BURST or max(self._sizes) > ROOM:
            raise ValueError("more than a burst, or a packet too long")
        self._places = []
        at = 0
        for size in self._sizes:
            self._places.append((self._room + at, at, size - tag))
            at += size
