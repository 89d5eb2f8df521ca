"""What one peer was sent, by sequence number, so that it can be sent again."""

from bisect import bisect_right
from collections.abc import Iterator

from synopticon_rtc.rtc.stream import EncodedFrame

HISTORY_FRAMES = 128
"""Frames that can be sent again: four seconds of video, far beyond what a receiver waits for."""
HISTORY_PACKETS = 16_384
"""The same in packets: few enough that 16 bits of a sequence number name one of them, and not two."""
HISTORY_OCTETS = 8_000_000
"""The same in octets, which are shared by all peers that were sent them."""


class History:
    """The last frames that were sent to a peer, found by the sequence number of any of their packets.

    Within, sequence numbers are counted on beyond 16 bits, so that they grow and can be searched.
    """

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._frames: list[EncodedFrame] = []
        self._packets = 0
        self._octets = 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[int, EncodedFrame]:
        """Return the sequence number of a frame's first packet, of 16 bits, and the frame."""
        return self._firsts[index] & 0xFFFF, self._frames[index]

    def __reversed__(self) -> Iterator[tuple[int, EncodedFrame]]:
        for index in range(len(self._frames) - 1, -1, -1):
            yield self[index]

    def add(self, first: int, frame: EncodedFrame) -> None:
        """Note a frame; as many of the oldest are forgotten as is needed.

        Args:
            first: The sequence number of its first packet, counted on beyond 16 bits.
            frame: What is sent from there on.
        """
        self._firsts.append(first)
        self._frames.append(frame)
        self._packets += len(frame.payloads)
        self._octets += frame.octets
        while self._frames and (
            len(self._frames) > HISTORY_FRAMES or self._packets > HISTORY_PACKETS or self._octets > HISTORY_OCTETS
        ):
            self._forget(0)

    def drop_newest(self) -> None:
        """Forget the frame that was added last, of which not all was sent."""
        if self._frames:
            self._forget(-1)

    def find(self, number: int, end: int) -> tuple[EncodedFrame, int] | None:
        """Return the frame of a packet and the index of the packet in it, None where it is not known (any more).

        Args:
            number: Of the packet, 16 bits.
            end: The sequence number of the next packet to be sent, counted on beyond 16 bits.
        """
        sequence_number = end - 1 - (end - 1 - number & 0xFFFF)
        at = bisect_right(self._firsts, sequence_number) - 1
        if at < 0:
            return None
        frame, index = self._frames[at], sequence_number - self._firsts[at]
        return (frame, index) if index < len(frame.payloads) else None

    def _forget(self, index: int) -> None:
        del self._firsts[index]
        frame = self._frames.pop(index)
        self._packets -= len(frame.payloads)
        self._octets -= frame.octets
