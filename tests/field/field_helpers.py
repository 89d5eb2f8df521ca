"""What the tests of the field share: commands as a user runs them, in a terminal too."""

import contextlib
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")  # of rich


def command(module: str, *args: str) -> list[str]:
    return [sys.executable, "-m", f"synopticon_rtc.{module}", *args]


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """What a terminal shows, without the colours and the movements of the cursor."""
        return ESCAPES.sub("", self.out)


def run(*args: str, seconds: float = 60, env: dict[str, str] | None = None, **options: object) -> Done:
    done = subprocess.run(
        command(*args),
        stdout=options.get("stdout", subprocess.PIPE),  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return Done(done.returncode, done.stdout or "", done.stderr)


def run_in_terminal(*args: str, seconds: float = 60, columns: int = 100, after: float | None = None) -> Done:
    """Run a command in a terminal, and press Ctrl-C after that many seconds."""
    main, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(command(*args), stdin=side, stdout=side, stderr=side, start_new_session=True)
    os.close(side)
    shown = bytearray()
    timers = [threading.Timer(seconds, process.kill)]
    if after is not None:
        timers.append(threading.Timer(after, process.send_signal, [signal.SIGINT]))
    for timer in timers:
        timer.start()
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while data := os.read(main, 65536):
            shown += data
    os.close(main)
    code = process.wait()
    for timer in timers:
        timer.cancel()
    return Done(code, shown.decode(errors="replace"), "")


@contextlib.contextmanager
def running(*args: str, until: str, env: dict[str, str] | None = None) -> Iterator[str]:
    """Run a command meanwhile, from the line on in which it says these words."""
    process = subprocess.Popen(
        command(*args), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(env or {})}
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if until in line:
                yield line
                return
        raise AssertionError("".join(said))
    finally:
        process.terminate()
        process.communicate(timeout=20)
