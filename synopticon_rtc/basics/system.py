"""What not every operating system has, each with what takes its place elsewhere: nobody else asks the system for it."""

import asyncio
import contextlib
import functools
import importlib
import os
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

LOOK_EVERY = 0.02
"""Seconds between two looks whether a socket can be read, where the event loop does not tell."""


def _module(name: str) -> Any:  # noqa: ANN401 - one that type checkers know on some systems alone
    """Return a module, None where this system has none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl, _msvcrt, _resource, _termios = map(_module, ("fcntl", "msvcrt", "resource", "termios"))


# Sockets

if hasattr(select, "poll"):

    def is_writable(sock: socket.socket) -> bool:
        """Whether the system would take something to send now."""
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        return bool(poll.poll(0))

else:

    def is_writable(sock: socket.socket) -> bool:
        """Whether the system would take something to send now."""
        return bool(select.select([], [sock], [], 0)[1])


def is_proactor() -> bool:
    """Whether the event loop is that of Windows, which tells what was read, and not when something can be."""
    return isinstance(asyncio.get_running_loop(), getattr(asyncio, "ProactorEventLoop", ()))


def on_readable(sock: socket.socket, callback: Callable[[], object]) -> Callable[[], object]:
    """Call back again and again while a socket can be read; returns what ends that, before the socket is closed."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(sock.fileno(), callback)
    except NotImplementedError:
        return _looked_at(sock, callback)
    return functools.partial(loop.remove_reader, sock.fileno())


def _looked_at(sock: socket.socket, callback: Callable[[], object]) -> Callable[[], object]:
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        timer = loop.call_later(LOOK_EVERY, look)
        if select.select([sock], [], [], 0)[0]:
            callback()

    def forget() -> None:
        timer.cancel()

    timer = loop.call_later(0, look)
    return forget


# Processes and files


def on_signal(number: signal.Signals, callback: Callable[[], object]) -> Callable[[], object]:
    """Have the event loop call back at a signal; to be called in the main thread. Returns what ends that."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, callback)
    except NotImplementedError:
        before = signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))
        return functools.partial(signal.signal, number, before)
    return functools.partial(loop.remove_signal_handler, number)


def group_of_its_own() -> dict[str, Any]:
    """Return the options by which a process is started so that Ctrl-C is not for it."""
    if hasattr(os, "killpg"):
        return {"start_new_session": True}
    return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}


def end_group(leader: int) -> None:
    """End a process that has a group of its own, at once, with those that it started where the system finds them."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(leader, signal.SIGKILL)
        else:
            os.kill(leader, signal.SIGTERM)  # nothing can catch it on Windows


def file_limit() -> int | None:
    """Return how many files and sockets this process may have open; None where there is no such limit."""
    if _resource is None:
        return None
    limit, _ = _resource.getrlimit(_resource.RLIMIT_NOFILE)
    return None if limit == _resource.RLIM_INFINITY else int(limit)


def raise_file_limit() -> None:
    """Let this process have as many files and sockets open as it may."""
    if _resource is None:
        return
    _, hard = _resource.getrlimit(_resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS has a lower bound of its own
        _resource.setrlimit(_resource.RLIMIT_NOFILE, (hard, hard))


def lock(handle: int) -> None:
    """Lock a file for this process until it closes it.

    Raises:
        BlockingIOError: Another has locked it.
        OSError: It cannot be locked.
    """
    if _fcntl is not None:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        return
    try:
        _msvcrt.locking(handle, _msvcrt.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(error.errno, error.strerror) from error


def forget_typed(terminal: int) -> None:
    """Throw away what was typed on a terminal and not read yet."""
    if _termios is not None:
        _termios.tcflush(terminal, _termios.TCIFLUSH)
        return
    while _msvcrt.kbhit():
        _msvcrt.getch()


def scratch_file() -> BinaryIO:
    """Open a file that is gone when it is closed; where none can be written to, what is written is lost."""
    try:
        if hasattr(os, "memfd_create"):
            return os.fdopen(os.memfd_create("scratch"), "w+b")
        return cast("BinaryIO", tempfile.TemporaryFile())
    except OSError:
        return Path(os.devnull).open("w+b")
