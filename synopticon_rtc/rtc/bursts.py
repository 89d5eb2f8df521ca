"""Datagrams to one address, many in one system call, and none that waits."""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

from synopticon_rtc.basics import system
from synopticon_rtc.rtc.ice import DatagramTransport

UDP_SEGMENT = 103
"""Linux's option that cuts one buffer into datagrams of a length (linux/udp.h); the socket module does not name it."""
SEGMENTS = 64
"""Most datagrams that one call takes (UDP_MAX_SEGMENTS)."""
SEND_BUFFER = 262_144
"""Bytes that the system may hold: room for several bursts, and no more than a moment's delay."""
WRITE_BUFFER_LIMIT = 65_536
"""Bytes that may wait in a transport that queues by itself."""
Run = tuple[int, int, int]
"""Datagrams of one length, of which the last may be shorter: where they start and end, and how long they are."""
_uint16 = struct.Struct("@H").pack
NOT_SEGMENTED = {errno.EINVAL, errno.EMSGSIZE, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP}


class BurstSocket:
    """The way to one address that sends bursts: what the system does not take at once is not sent.

    A transport of asyncio queues what the system refuses; this sends by the socket beneath it. Where there is none that
    can be shared, as with TURN, it sends by the transport.

    Args:
        transport: The datagram transport that is sent with; closing it stays its owner's task.
        address: Where to.
    """

    def __init__(self, transport: DatagramTransport, address: tuple[str, int]) -> None:
        self.transport = transport
        self.address = address
        self._segmenting = hasattr(socket.socket, "sendmsg")
        self._socket: socket.socket | None = None
        information = getattr(transport, "get_extra_info", None)
        shared: socket.socket | None = information("socket") if information is not None else None
        if shared is not None:
            with contextlib.suppress(OSError, AttributeError):  # no more files may be open, or it is no plain socket
                own = shared.dup()
                own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
                self._socket = own

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def is_ready(self) -> bool:
        """Whether the system would take a datagram now."""
        if self._socket is None:
            return self.transport.get_write_buffer_size() <= WRITE_BUFFER_LIMIT
        return system.is_writable(self._socket)

    def send(self, data: memoryview, cut: Iterable[Run]) -> bool:
        """Send datagrams that lie one behind the other; False if one was not taken, and those after it were not sent.

        Args:
            data: All of them.
            cut: The runs of them, as :func:`runs` finds them.
        """
        try:
            for at, end, size in cut:
                self._send_run(data[at:end], size)
        except OSError:  # the system's buffer is full, or there is no way at the moment
            return False
        return True

    def _send_run(self, run: memoryview, size: int) -> None:
        if len(run) <= size:
            self._send_one(run)
            return
        if self._segmenting and self._socket is not None:
            try:
                self._socket.sendmsg([run], [(socket.IPPROTO_UDP, UDP_SEGMENT, _uint16(size))], 0, self.address)
            except OSError as error:
                if error.errno not in NOT_SEGMENTED:
                    raise
                self._segmenting = False  # not on this system, or not on the way to this address
            else:
                return
        for at in range(0, len(run), size):
            self._send_one(run[at : at + size])

    def _send_one(self, packet: memoryview) -> None:
        if self._socket is not None:
            self._socket.sendto(packet, self.address)
        elif self.transport.get_write_buffer_size() > WRITE_BUFFER_LIMIT:
            raise BlockingIOError
        else:
            self.transport.sendto(bytes(packet), self.address)


def runs(sizes: Sequence[int]) -> Iterator[Run]:
    """Find as which runs datagrams of these lengths, one behind the other, are sent."""
    at = first = 0
    count = len(sizes)
    while first < count:
        size = sizes[first]
        next_, most = first + 1, min(count, first + SEGMENTS)
        while next_ < most and sizes[next_] == size:
            next_ += 1
        end = at + size * (next_ - first)
        if next_ < most and sizes[next_] < size:
            end += sizes[next_]
            next_ += 1
        yield at, end, size
        at, first = end, next_
