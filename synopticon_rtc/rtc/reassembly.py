"""Messages put together from the chunks of one SCTP stream (RFC 9260 section 6.9), each chunk looked at once."""

from collections import deque
from collections.abc import Iterator

from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, SCTP_DATA_LAST_FRAG, SCTP_DATA_UNORDERED, DataChunk
from aiortc.utils import uint16_add, uint16_gt, uint32_gt, uint32_gte

Message = tuple[int, int, bytes]
"""Stream, payload protocol identifier, data."""
_TSNS = 2**32
_WHOLE = SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG


class _Run:
    """Chunks of one message that follow one another."""

    __slots__ = ("chunks", "size")

    def __init__(self, chunk: DataChunk) -> None:
        self.chunks = deque([chunk])
        self.size = len(chunk.user_data)

    @property
    def begins(self) -> bool:
        """Whether it has the first chunk of its message."""
        return bool(self.chunks[0].flags & SCTP_DATA_FIRST_FRAG)

    @property
    def ends(self) -> bool:
        """Whether it has the last."""
        return bool(self.chunks[-1].flags & SCTP_DATA_LAST_FRAG)

    def join(self, later: "_Run") -> "_Run":
        """Take up the run behind it; the shorter one is moved."""
        size = self.size + later.size
        if len(self.chunks) >= len(later.chunks):
            self.chunks.extend(later.chunks)
            run = self
        else:
            later.chunks.extendleft(reversed(self.chunks))
            run = later
        run.size = size
        return run


class InboundStream:
    """One stream as its receiver has it.

    Attributes:
        sequence_number: That of the ordered message that comes next.
        size: Bytes that wait.
        count: Chunks, and whole messages, that wait.
        longest: Bytes of the longest message begun so far.
    """

    def __init__(self) -> None:
        self.sequence_number = 0
        self.size = 0
        self.count = 0
        self.longest = 0
        self._by_first: dict[int, _Run] = {}
        """Runs whose beginning is missing, by their first TSN."""
        self._by_last: dict[int, _Run] = {}
        """Runs whose end is missing, by their last TSN."""
        self._early: dict[int, Message] = {}
        """Whole ordered messages that others must come before, by their sequence number."""
        self._ready: list[Message] = []

    def add_chunk(self, chunk: DataChunk) -> None:
        """Take a chunk; none may come twice."""
        if chunk.flags & _WHOLE == _WHOLE:  # as nearly all are
            self.longest = len(chunk.user_data)
            self._deliver(chunk, chunk.user_data)
            return
        run = _Run(chunk)
        self.size += run.size
        self.count += 1
        if not run.begins and (before := self._by_last.pop((chunk.tsn - 1) % _TSNS, None)) is not None:
            run = before.join(run)
        if not chunk.flags & SCTP_DATA_LAST_FRAG and (
            (after := self._by_first.pop((chunk.tsn + 1) % _TSNS, None)) is not None
        ):
            run = run.join(after)
        self.longest = run.size
        if run.begins and run.ends:
            self._by_first.pop(run.chunks[0].tsn, None)
            self._by_last.pop(run.chunks[-1].tsn, None)
            self._complete(run)
            return
        if not run.begins:
            self._by_first[run.chunks[0].tsn] = run
        if not run.ends:
            self._by_last[run.chunks[-1].tsn] = run

    def _complete(self, run: _Run) -> None:
        self.count -= len(run.chunks)
        self.size -= run.size
        self._deliver(run.chunks[0], b"".join(chunk.user_data for chunk in run.chunks))

    def _deliver(self, first: DataChunk, data: bytes) -> None:
        message = first.stream_id, first.protocol, data
        if first.flags & SCTP_DATA_UNORDERED:
            self._ready.append(message)
        elif uint16_gt(first.stream_seq, self.sequence_number):
            if first.stream_seq not in self._early:
                self._early[first.stream_seq] = message
                self.count += 1
                self.size += len(data)
        else:
            self._ready.append(message)
            if first.stream_seq == self.sequence_number:
                self.sequence_number = uint16_add(self.sequence_number, 1)
                if self._early:
                    self._follow()

    def _follow(self) -> None:
        while (message := self._early.pop(self.sequence_number, None)) is not None:
            self._release(message)
            self.sequence_number = uint16_add(self.sequence_number, 1)

    def _release(self, message: Message) -> None:
        self._ready.append(message)
        self.count -= 1
        self.size -= len(message[2])

    def skip(self, sequence_number: int) -> None:
        """Wait no longer for ordered messages up to this one (RFC 3758 section 3.6)."""
        following = uint16_add(sequence_number, 1)
        if not uint16_gt(following, self.sequence_number):
            return
        self.sequence_number = following
        late = [number for number in self._early if not uint16_gt(number, following) and number != following]
        for number in sorted(late, key=lambda number: (number - following) % 2**16):
            self._release(self._early.pop(number))
        self._follow()

    def pop_messages(self) -> Iterator[Message]:
        """Give out what is whole and due, in order."""
        ready, self._ready = self._ready, []
        return iter(ready)

    def prune_chunks(self, tsn: int) -> int:
        """Let go of messages that can't become whole since nothing up to this TSN will come any more.

        Returns:
            The bytes that they had.
        """
        size = self.size
        for first, run in list(self._by_first.items()):
            if uint32_gte((tsn + 1) % _TSNS, first):
                self._drop(run)
        for last, run in list(self._by_last.items()):
            if uint32_gt(tsn, last):
                self._drop(run)
        return size - self.size

    def _drop(self, run: _Run) -> None:
        self._by_first.pop(run.chunks[0].tsn, None)
        self._by_last.pop(run.chunks[-1].tsn, None)
        self.count -= len(run.chunks)
        self.size -= run.size
