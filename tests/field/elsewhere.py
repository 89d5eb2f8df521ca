"""Runs a module as ``python -m`` does, without what Windows lacks: ``elsewhere.py MODULE ARGUMENTS``."""

import asyncio
import os
import runpy
import select
import signal
import socket
import sys


class Loop(asyncio.SelectorEventLoop):
    """An event loop that can do no more than that of Windows."""


class Policy(asyncio.DefaultEventLoopPolicy):
    """Makes such loops."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return Loop()


def lacking(*_: object) -> None:
    """Do as a method that there is not."""
    raise NotImplementedError


def take_away() -> None:
    """Have this process lack what Windows lacks."""
    for method in ("add_reader", "add_signal_handler", "add_writer"):
        setattr(Loop, method, lacking)
    for module in ("fcntl", "grp", "pwd", "resource", "termios"):
        sys.modules[module] = None  # type: ignore[assignment]
    for holder, names in (
        (os, ("fork", "killpg", "memfd_create", "sched_getaffinity", "setsid", "O_CLOEXEC")),
        (select, ("epoll", "poll")),
        (signal, ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2")),
        (socket, ("SO_REUSEPORT",)),
    ):
        for name in names:
            delattr(holder, name)
    asyncio.ProactorEventLoop = Loop  # type: ignore[attr-defined]
    asyncio.set_event_loop_policy(Policy())


if __name__ == "__main__":
    take_away()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
