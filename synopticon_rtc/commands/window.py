"""A window that shows pictures."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from synopticon_rtc.errors import SynopticonError

TITLE = "synopticon"


class Window:
    """A window in a process of its own, open while this is entered, or until its user closes it."""

    def __init__(self) -> None:
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        """Open it. Raises :class:`SynopticonError` where there is no screen, or no OpenCV."""
        screen = Path(__file__).with_name("screen.py")
        process = await create_subprocess_exec(
            *(sys.executable, "-P", str(screen), TITLE), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert process.stdout is not None  # noqa: S101 - tells the type checkers
        try:
            opened = await process.stdout.readline()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if not opened:
            _, said = await process.communicate()
            # OpenCV aborts where it finds no screen; what is said then helps nobody.
            lacking = said.decode(errors="replace").strip() if process.returncode == 1 else "a screen: there is none"
            raise SynopticonError(f"--show needs {lacking}")
        self._process = process
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()

    def show(self, image: npt.NDArray[np.uint8]) -> bool:
        """Show a picture, uint8 (height, width, 3) in BGR; one that comes too soon is left out.

        Returns:
            False once the user has closed the window.
        """
        if self._process is None or self._process.stdin is None or self._process.returncode is not None:
            return False
        pipe = self._process.stdin
        if not pipe.transport.get_write_buffer_size():
            height, width = image.shape[:2]
            pipe.write(width.to_bytes(4, "little") + height.to_bytes(4, "little"))
            pipe.write(image.tobytes())
        return True
