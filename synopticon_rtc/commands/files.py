"""What commands do with files: they take those that are offered, and tell how far each is."""

import asyncio
import contextlib
import functools
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import click

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.broadcaster import Broadcaster
from synopticon_rtc.commands.cli import Output
from synopticon_rtc.commands.kinds import Octets
from synopticon_rtc.commands.options import add_options
from synopticon_rtc.errors import FileError, SynopticonError
from synopticon_rtc.files.incoming import FileOffer
from synopticon_rtc.files.transfer import FileProgress, FileTransfer
from synopticon_rtc.receiver import Receiver

logger = logging.getLogger(__name__)

MOST = 10_000
"""Files that a command takes: a disk has room for so many empty ones only."""
INTERVAL = 1.0  # seconds between two events of how far a file is
SHOWN = 4  # files in the status
BAR = 20  # characters

rate_option = click.option(
    "--file-rate", type=Octets(), help="Bytes a second that a file takes at most, like 500k; else all that is left."
)


def files_options(who: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of what takes files.

    Args:
        who: Who may offer them.
    """
    options = (
        click.option(
            "--files",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help=f"Take the files that {who}, and put them here.",
        ),
        click.option("--file-size", type=Octets(), help="Size of the largest file to take, like 2G; else what fits."),
        rate_option,
    )

    return functools.partial(add_options, options)


class Inbox:
    """Takes files, of any number of peers, and tells people or programs of them.

    Args:
        folder: Where they go; None to take none.
        output: Where to tell of them.
        largest: Bytes of the largest that is taken, None for any.
        rate: Bytes a second that each takes at most, None for all that is left.

    Attributes:
        aloud: Whether people have no other sign of it.

    Raises:
        UsageError: There are options, and no folder.
    """

    def __init__(self, folder: Path | None, output: Output, *, largest: int | None, rate: int | None) -> None:
        if folder is None and (largest or rate):
            raise click.UsageError("--file-size and --file-rate belong to --files.")
        self.aloud = True
        self._folder = folder
        self._output = output
        self._largest = largest
        self._rate = rate
        self._count = 0
        self._running: dict[asyncio.Task[None], FileTransfer] = {}

    async def prepare(self) -> None:
        """Make the folder.

        Raises:
            FileError: It cannot be made, or written to.
        """
        if self._folder is not None:
            await asyncio.to_thread(_make, self._folder)

    @contextlib.asynccontextmanager
    async def taking(
        self, peer: Broadcaster | Receiver[Any], within: Callable[[], str] | None = None
    ) -> AsyncIterator[None]:
        """Take what is offered to a broadcaster or a receiver meanwhile.

        Args:
            peer: To whom it is offered.
            within: Gives the folder within the folder to which what is offered then goes; None for none.

        Raises:
            FileError: As for :meth:`prepare`.
        """
        if self._folder is None:
            yield
            return
        await self.prepare()
        following: set[asyncio.Task[None]] = set()
        task = asyncio.create_task(self._take(peer, self._folder, within, following))
        try:
            yield
        finally:
            tasks = [task, *following]
            for each in tasks:
                each.cancel()
            await asyncio.wait(tasks)

    def rows(self) -> dict[str, str]:
        """Return what the status says of them."""
        shown = [f"{visible(each.name, NAME)}\n{bar(each.progress)}" for each in self._running.values()]
        return {"files": "\n".join(shown[:SHOWN])} if shown else {}

    async def _take(
        self,
        peer: Broadcaster | Receiver[Any],
        folder: Path,
        within: Callable[[], str] | None,
        following: set[asyncio.Task[None]],
    ) -> None:
        async for offer in peer.files:
            if reason := self._refusal(offer):
                offer.reject(reason)
                self._tell(offer, "refused", reason)
                continue
            self._count += 1
            try:
                transfer = await offer.accept(folder / within() if within else folder, rate=self._rate)
            except SynopticonError as error:
                self._tell(offer, "failed", str(error))
                continue
            task = asyncio.create_task(self._follow(offer, transfer))
            following.add(task)
            task.add_done_callback(following.discard)
            self._running[task] = transfer
            task.add_done_callback(self._running.pop)

    def _refusal(self, offer: FileOffer) -> str:
        if self._largest is not None and offer.size > self._largest:
            return f"it has {offer.size} bytes, and {self._largest} are taken at most"
        return f"{MOST} files were taken already" if self._count >= MOST else ""

    async def _follow(self, offer: FileOffer, transfer: FileTransfer) -> None:
        self._tell(offer, "begun", "")
        told = time.monotonic()
        try:
            async for progress in transfer:
                if time.monotonic() - told >= INTERVAL:
                    told = time.monotonic()
                    tell_progress(self._output, transfer, progress)
        except SynopticonError as error:
            self._tell(offer, "failed", str(error))
        else:
            self._tell(offer, "complete", "", path=str(transfer.path))

    def _tell(self, offer: FileOffer, state: str, reason: str, **more: str) -> None:
        self._output.event(
            "file", state=state, name=offer.name, size=offer.size, session=offer.session, reason=reason, **more
        )
        if self.aloud and state != "begun":
            self._output.say(f"file {offer.name}: {reason or more.get('path', state)}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"the folder {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"the folder {folder} cannot be written to")


def tell_progress(output: Output, transfer: FileTransfer, progress: FileProgress) -> None:
    """Tell programs how far a file is."""
    output.event(
        "progress",
        name=transfer.name,
        octets=progress.octets,
        size=progress.size,
        rate=round(progress.rate),
        left=None if progress.left is None else round(progress.left, 1),
    )


def bar(progress: FileProgress) -> str:
    """Draw how far a file is."""
    share = progress.octets / progress.size if progress.size else 1.0
    left = "" if progress.left is None else f"   {math.ceil(progress.left)} s left"
    done = round(share * BAR)
    return f"{'█' * done}{'░' * (BAR - done)} {share:4.0%}   {progress.rate / 1e6:.1f} MB/s{left}"
