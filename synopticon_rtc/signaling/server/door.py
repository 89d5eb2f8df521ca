"""The door of a server: where it listens, and who is let in before anything is known of them but an address.

A connection costs a descriptor and a few KiB (with TLS, some more) before it has asked for anything. So there are only
so many of these, in all and from one source; where there are more, those that waited longest go, as whoever means to
ask has done so within a round trip or three.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import ssl
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import aiofastnet

from synopticon_rtc.basics import system
from synopticon_rtc.basics.seldom import Seldom
from synopticon_rtc.signaling.addresses import is_loopback, source_of
from synopticon_rtc.signaling.server.limits import (
    ACCEPT_AT_ONCE,
    ACCEPT_GRACE,
    ACCEPT_PAUSE,
    BACKLOG,
    FULL_EVERY,
    SPARE_FILES,
    Limits,
)

WINDOW = 2**18  # bytes that a client may be ahead of the server; picows takes all that are there at once
MAX_PORT = 65535
BINDS = 10  # attempts to find a port that is free on all addresses of a name
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger("synopticon_rtc.signaling.server")


class Call:
    """A connection, from the moment that it is taken to its end.

    Attributes:
        host: The address of its other end.
        port: Likewise.
        secure: Whether TLS protects it.
        since: When it came, on the loop's clock (s).
    """

    __slots__ = ("_cut", "_door", "_opening", "_transport", "host", "port", "secure", "since")

    def __init__(self, door: "Door", host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self.host = host
        self.port = port
        self.secure = False
        self.since = loop.time()
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._cut = loop.call_later(door.limits.handshake, self.cut)

    def opening(self, task: asyncio.Task[None]) -> None:
        """Take note of what opens it, TLS and all."""
        self._opening = task

    def connected(self, transport: asyncio.Transport) -> None:
        """Take note that it can carry a request."""
        self._transport = transport

    def give(self, seconds: float) -> None:
        """Give it so much time from now on."""
        self._cut.cancel()
        self._cut = asyncio.get_running_loop().call_later(seconds, self.cut)

    def admit(self) -> None:
        """Take note that it is a session: others look after it now."""
        self._cut.cancel()
        self._door.admitted(self)

    def ended(self) -> None:
        """Take note that it is over."""
        self._cut.cancel()
        self._door.left(self)

    def cut(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()
        elif self._opening is not None:
            self._opening.cancel()


class Door:
    """Listens, and takes connections.

    Args:
        answer: Makes the protocol of a connection.
        limits: How many there may be, and how long they may take.
        tls: Certificate and key.
        trusted: Tells hosts that speak for many clients.

    Attributes:
        limits: As given.
        sockets: Those that listen.
    """

    def __init__(
        self,
        answer: Callable[[Call], asyncio.Protocol],
        limits: Limits,
        tls: ssl.SSLContext | None,
        trusted: Callable[[str], bool],
    ) -> None:
        self.limits = limits
        self._answer = answer
        self._trusted = trusted
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop  # as TLS sees it
        self.sockets: list[socket.socket] = []
        self._watched: dict[socket.socket, Callable[[], object]] = {}  # and what ends that
        self._resuming: set[asyncio.TimerHandle] = set()
        self._calls: set[Call] = set()
        self._waiting: dict[Call, None] = {}  # in the order in which they came
        self._of_source: defaultdict[str, dict[Call, None]] = defaultdict(dict)  # of these, likewise
        self._room = 0
        self._empty = asyncio.Event()
        self._full_lines = Seldom(FULL_EVERY)
        self._failed_lines = Seldom(FULL_EVERY)

    async def open(self, host: str, port: int) -> int:
        """Listen on all addresses of a host, on one port, and return that.

        Raises:
            OSError: It cannot listen there.
            OverflowError: There is no such port.
        """
        if not 0 <= port <= MAX_PORT:
            raise OverflowError("a port is 0 to 65535")
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for attempt in range(BINDS):
            try:
                self.sockets = _bind(list(dict.fromkeys((info[0], info[4]) for info in infos)))
                break
            except OSError as error:
                if port or error.errno != errno.EADDRINUSE or attempt == BINDS - 1:
                    raise
        self._loop = cast("asyncio.AbstractEventLoop", _Quiet(loop)) if self._tls and not system.is_proactor() else loop
        self._room = self._count_room()
        self._empty.clear()
        for listening in self.sockets:
            listening.listen(BACKLOG)
            self._watch(listening)
        return int(self.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Take no more connections."""
        for timer in self._resuming:
            timer.cancel()
        self._resuming.clear()
        for forget in self._watched.values():
            forget()
        self._watched.clear()
        for listening in self.sockets:
            listening.close()
        self.sockets.clear()
        for call in self._waiting:
            call.give(self.limits.close)
        if not self._calls:
            self._empty.set()

    def cut(self) -> None:
        """End all connections at once."""
        for call in list(self._calls):
            call.cut()

    async def wait_closed(self) -> None:
        """Wait until it is closed and all connections have ended."""
        await self._empty.wait()

    def admitted(self, call: Call) -> None:
        """Take note that one is a session."""
        self._forget_waiting(call)

    def left(self, call: Call) -> None:
        """Take note that one is over."""
        self._forget_waiting(call)
        self._calls.discard(call)
        if not self._calls and not self.sockets:
            self._empty.set()

    def _forget_waiting(self, call: Call) -> None:
        if call in self._waiting:
            del self._waiting[call]
            source = source_of(call.host)
            del self._of_source[source][call]
            if not self._of_source[source]:
                del self._of_source[source]

    def _count_room(self) -> int:
        """Tell how many connections there may be."""
        wanted = self.limits.sessions + self.limits.requests
        files = system.file_limit()
        if files is None or wanted + SPARE_FILES <= files:
            return wanted
        room = max(1, files - SPARE_FILES)
        log.warning(
            "%d open files are too few for %d sessions and %d other connections: there is room for %d in all; "
            "raise the limit (ulimit -n, LimitNOFILE=)",
            files,
            self.limits.sessions,
            self.limits.requests,
            room,
        )
        return room

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            if self._is_full() and self._waiting:
                if (more := self._full_lines.take()) is not None:
                    log.warning(
                        "%d connections are open, and %d of them ask for nothing: the oldest are cut (%d times since)",
                        len(self._calls),
                        len(self._waiting),
                        more,
                    )
                if not self._make_room():
                    self._pause(listening)
                return  # what makes room is free in the next turn
            try:
                sock, (host, port, *_) = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    continue  # what ails this one connection (accept(2))
                # The kernel goes on telling that somebody waits.
                if (more := self._failed_lines.take()) is not None:
                    log.warning("no connection can be taken: %s; tried again (%d times since)", error.strerror, more)
                self._make_room()
                self._pause(listening)
                return
            self._take(sock, host, port)

    def _watch(self, listening: socket.socket) -> None:
        self._watched[listening] = system.on_readable(listening, functools.partial(self._accept, listening))

    def _pause(self, listening: socket.socket) -> None:
        self._watched.pop(listening)()

        def resume() -> None:
            self._resuming.discard(timer)
            self._watch(listening)

        timer = asyncio.get_running_loop().call_later(ACCEPT_PAUSE, resume)
        self._resuming.add(timer)

    def _is_full(self) -> bool:
        return len(self._waiting) >= self.limits.requests or len(self._calls) >= self._room

    def _make_room(self) -> bool:
        """Cut those that had their time, and tell whether there were any."""
        return sum(self._cut_oldest(self._waiting) for _ in range(ACCEPT_AT_ONCE)) > 0

    def _cut_oldest(self, calls: dict[Call, None]) -> bool:
        """Cut whoever waited longest, if that is long enough."""
        call = next(iter(calls), None)
        if call is None or asyncio.get_running_loop().time() - call.since < ACCEPT_GRACE:
            return False
        self._forget_waiting(call)
        call.cut()
        return True

    def _take(self, sock: socket.socket, host: str, port: int) -> None:
        source = source_of(host)
        waiting = self._of_source.get(source, {})
        exempt = is_loopback(host) or self._trusted(host)
        too_many = not exempt and len(waiting) >= self.limits.address_requests and not self._cut_oldest(waiting)
        if too_many or self._is_full():
            sock.close()
            return
        sock.setblocking(False)
        call = Call(self, host, port)
        self._calls.add(call)
        self._waiting[call] = None
        self._of_source[source][call] = None
        call.opening(asyncio.create_task(self._open(call, sock)))

    async def _open(self, call: Call, sock: socket.socket) -> None:
        try:
            call.secure = self._tls is not None and not await _speaks_plainly(sock)
            tls = self._tls if call.secure else None
            await aiofastnet.connect_accepted_socket(
                self._loop,
                lambda: self._answer(call),
                sock,
                ssl=tls,
                ssl_handshake_timeout=self.limits.handshake if tls else None,
                ssl_shutdown_timeout=self.limits.answer if tls else None,  # what is written last is to be read
            )
        except OSError:  # TLS that is none, or takes too long; no more of it than of other requests that are none
            sock.close()
            call.ended()
        except asyncio.CancelledError:
            sock.close()
            call.ended()
            raise


async def _speaks_plainly(sock: socket.socket) -> bool:
    """Wait for the first byte that a client sends, and tell by it whether that is plain HTTP; it is not taken."""
    readable = asyncio.Event()
    forget = system.on_readable(sock, readable.set)
    try:
        await readable.wait()
    finally:
        forget()
    return sock.recv(1, socket.MSG_PEEK).isalpha()  # of a method; a record of TLS begins with its type (RFC 8446, 5.1)


class _Quiet:
    """A loop that hears of no client which hung up in the midst of TLS's handshake.

    aiofastnet tells of it like of a fault of its own: instead of an error it gives its class, so that the loop, which
    wants to log a trace of it, logs how it failed to. Load balancers and scanners do so all the time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever a loop has
        return getattr(self._loop, name)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass on all else."""
        if context.get("exception") is not ConnectionResetError:
            self._loop.call_exception_handler(context)


def _bind(addresses: list[tuple[int, tuple[object, ...]]]) -> list[socket.socket]:
    """Bind a socket to each address, all to one port."""
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for family, address in addresses:
            try:
                sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and (sockets or len(addresses) > 1):
                    continue  # a machine without IPv6
                raise
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            port = sockets[0].getsockname()[1] if sockets else address[1]
            try:
                sock.bind((address[0], port, *address[2:]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(addresses) > 1:
                    continue  # likewise
                raise
            sockets.append(sock)
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, "none of its addresses is this machine's")
        stack.pop_all()
    return sockets
