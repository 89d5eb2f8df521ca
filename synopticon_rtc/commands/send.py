"""``python -m synopticon_rtc.send``: send files to somebody who broadcasts."""

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from synopticon_rtc.commands.cli import Command, Output, Quantity
from synopticon_rtc.commands.files import INTERVAL, rate_option, tell_progress
from synopticon_rtc.commands.kinds import Text
from synopticon_rtc.commands.meeting import DEFAULT_URL
from synopticon_rtc.commands.options import (
    Reach,
    ca_option,
    reach_options,
    room_option,
    signaling_client,
    token_file_option,
    trace_option,
)
from synopticon_rtc.errors import ConnectionLost, FileError, NobodyAnswered, SynopticonError
from synopticon_rtc.files.transfer import FileTransfer
from synopticon_rtc.receiver import Receiver
from synopticon_rtc.receiving.overdue import not_there

TIMEOUT = 15.0
"""Seconds without the other end, at the beginning and whenever it is gone."""
NO_STREAM = "-"
"""The only stream to take: there is none of this name, so none is encoded or looked at for us."""


@click.command("send", cls=Command)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", type=Text(), required=True, help="Name or session of the broadcaster to send them to.")
@click.option("--url", show_default=DEFAULT_URL, help="Signaling server to use.")
@room_option
@token_file_option
@ca_option
@rate_option
@click.option(
    "--timeout",
    type=Quantity(min=0, min_open=True),
    default=TIMEOUT,
    show_default=True,
    help="Seconds without the other end after which to give up.",
)
@trace_option
@reach_options
async def main(
    files: tuple[Path, ...],
    to: str,
    url: str | None,
    room: str,
    token_file: Path | None,
    ca: ssl.SSLContext | None,
    file_rate: int | None,
    timeout: float,  # noqa: ASYNC109 - of many things that follow one another
    trace: Path | None,
    reach: Reach,
    output: Output,
) -> None:
    """Send FILES, and what is in those that are folders, to a broadcaster that takes them, as with --files.

    A receiver can be sent files by its broadcaster alone: docs/files.md tells how.

    Where the connection is lost, it goes on as soon as it is there again; if it ends for good, the same command goes
    on where it was.
    """
    try:
        receiver = Receiver(
            signaling_client(url or DEFAULT_URL, room, token_file, ca),
            broadcaster=to,
            streams=(NO_STREAM,),
            video=False,
            trace=trace,
            **reach,
        )
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    async with receiver:
        sending = _Sending(receiver, output, to=to, rate=file_rate, timeout=timeout)
        await sending.send(files)


class _Sending:
    """Sends files one after the other, over as many connections as it takes."""

    def __init__(self, receiver: Receiver[Any], output: Output, *, to: str, rate: int | None, timeout: float) -> None:
        self._receiver = receiver
        self._output = output
        self._to = to
        self._rate = rate
        self._timeout = timeout
        self._connected = asyncio.Event()
        receiver.events.subscribe(lambda event: self._changed(event.state))
        self._failed: list[SynopticonError] = []

    def _changed(self, state: str) -> None:
        if state == "connected":
            self._connected.set()
        else:
            self._connected.clear()

    async def send(self, paths: Sequence[Path]) -> None:
        """Send them.

        Raises:
            SynopticonError: One of them is not there.
        """
        for path in paths:
            begun = await self._begin(path)
            while begun:
                lost = [transfer for transfer in begun if not await self._follow(transfer)]
                begun = list(itertools.chain.from_iterable([await self._begin_again(transfer) for transfer in lost]))
        if self._failed:
            raise self._failed[0]

    async def _begin(self, path: Path) -> list[FileTransfer]:
        await self._reach()
        if await asyncio.to_thread(path.is_dir):
            return await self._receiver.send_folder(path, rate=self._rate)
        return [await self._receiver.send_file(path, rate=self._rate)]

    async def _begin_again(self, transfer: FileTransfer) -> list[FileTransfer]:
        assert transfer.path is not None  # noqa: S101 - it was sent from there
        await self._reach()
        return [await self._receiver.send_file(transfer.path, folder=transfer.folder, rate=self._rate)]

    async def _reach(self) -> None:
        client = self._receiver.signaling
        try:
            async with asyncio.timeout(self._timeout):
                if not self._connected.is_set():  # a connection outlives signaling
                    await client.wait_open()
                await self._connected.wait()
        except TimeoutError:
            if client.session is None:
                raise not_there(client, self._timeout) from None
            raise NobodyAnswered(
                f"no broadcaster called {self._to} was there within {self._timeout:g} s: start one with --files "
                "(a receiver can be sent files by its broadcaster alone)"
            ) from None

    async def _follow(self, transfer: FileTransfer) -> bool:
        """Tell how far a file is until it is there or cannot be; False where the connection was lost before."""
        told = time.monotonic()
        # None: on a terminal
        shown = tqdm(total=transfer.size, unit="B", unit_scale=True, disable=True if self._output.json else None)
        with contextlib.closing(shown):
            shown.set_description(transfer.name)
            try:
                async for progress in transfer:
                    shown.update(progress.octets - shown.n)
                    if time.monotonic() - told >= INTERVAL:
                        told = time.monotonic()
                        tell_progress(self._output, transfer, progress)
            except ConnectionLost:
                return False
            except FileError as error:
                self._failed.append(error)
                self._tell(transfer, "failed", str(error))
            else:
                self._tell(transfer, "complete", "")
        return True

    def _tell(self, transfer: FileTransfer, state: str, reason: str) -> None:
        self._output.event("file", state=state, name=transfer.name, size=transfer.size, reason=reason)
        if not reason:
            self._output.say(f"{transfer.name}: sent, {transfer.size} bytes")
        elif len(self._failed) > 1:  # the first is told at the end
            self._output.say(reason)
