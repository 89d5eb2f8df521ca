"""What native code of the libraries that find faces writes to stderr, kept off it."""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from synopticon_rtc.basics import system

logger = logging.getLogger(__name__)

if sys.stderr is None:  # closed: what is opened next, an event loop's own among it, would be stderr to native code
    with suppress(OSError):
        os.open(os.devnull, os.O_WRONLY)

_stderr = threading.Lock()


@contextmanager
def native_log() -> Iterator[None]:
    """Pass what native code writes to stderr on to our log, at debug level.

    MediaPipe's heeds no option or variable that would quieten it, so stderr is a file in memory meanwhile. Lines of
    anybody else's are written to stderr afterwards.
    """
    if sys.stderr is None:
        yield
        return
    with _stderr, system.scratch_file() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            for line in kept:
                if re.match(rb"[IWEF]\d{4} |INFO: |WARNING: (All log messages|Logging) before ", line):
                    logger.debug("%s", line.decode(errors="replace").rstrip())
                else:
                    os.write(2, line)
