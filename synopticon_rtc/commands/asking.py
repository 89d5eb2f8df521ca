"""Asks on the terminal who may watch."""

import asyncio
import contextlib
import os
import threading

import click

from synopticon_rtc.basics import system
from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.sending.admission import Visitor

YES = {"y", "yes"}
CHUNK = 1024  # bytes that are read at once


class Doorkeeper:
    """Asks about one receiver after the other, by a line on stderr, and takes a line for the answer.

    Args:
        file: The number of the file that answers come from; at its end they are no.
    """

    def __init__(self, file: int = 0) -> None:
        self._file = file
        self._turn = asyncio.Lock()
        self._typed = b""  # and not looked at yet
        self._answer: asyncio.Future[str] | None = None  # what is waited for, also by who has gone meanwhile

    async def admit(self, visitor: Visitor) -> bool:
        """Ask whether a receiver may watch."""
        async with self._turn:
            if self._answer is None:
                self._answer = self._listen()
            name = visible(visitor.name, NAME)
            who = f"{name} ({visitor.session})" if name else visitor.session
            click.echo(f"{who} asks to watch. Let in? [y/N] ", err=True, nl=False)
            answer = await asyncio.shield(self._answer)
            self._answer = None
            return answer.strip().lower() in YES

    def _listen(self) -> asyncio.Future[str]:
        """Read a line in a thread, as not all that a file may be can be waited for by the event loop."""
        if os.isatty(self._file):  # what was typed before is no answer
            self._typed = b""
            system.forget_typed(self._file)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def listen() -> None:
            line = self._read()
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(answer.set_result, line)

        threading.Thread(target=listen, name="answer", daemon=True).start()
        return answer

    def _read(self) -> str:
        while b"\n" not in self._typed:
            try:
                more = os.read(self._file, CHUNK)
            except OSError:  # it is closed, or the terminal is gone
                more = b""
            if not more:
                return ""
            self._typed += more
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode(errors="replace")
