"""Shows the pictures that come on stdin in a window; run as a script by :mod:`synopticon_rtc.commands.window`.

It imports nothing of this package, and so no PyAV: where that is loaded first, OpenCV's windows hang on Linux, as both
bring a libxcb of their own.
"""

import os
import signal
import sys
import threading
from collections import deque

QUIT = {ord("q"), 27}  # 27: Escape
HEAD = 8  # bytes: width and height, 4 each


def main(title: str) -> None:
    """Show the newest picture each time, until stdin ends or the user has had enough."""
    try:
        import cv2  # noqa: PLC0415 - needs libGL, which servers lack
        import numpy as np  # noqa: PLC0415 - as it comes with it
    except ImportError as error:
        sys.exit(f"OpenCV with its system libraries: {error}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends whoever writes to stdin
    cv2.namedWindow("first")  # on a busy machine Qt may miss that its first window is shown, and then never paints it
    cv2.destroyWindow("first")
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    os.write(1, b"open\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads it any more
    newest: deque[tuple[int, int, bytes]] = deque(maxlen=1)
    ended = threading.Event()

    def read() -> None:
        while len(head := sys.stdin.buffer.read(HEAD)) == HEAD:
            width, height = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little")
            newest.append((width, height, sys.stdin.buffer.read(width * height * 3)))
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    size = 0, 0
    while not ended.is_set() and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1:
        if newest:
            width, height, pixels = newest.popleft()
            if (width, height) != size:
                size = width, height
                cv2.resizeWindow(title, *size)
            cv2.imshow(title, np.frombuffer(pixels, np.uint8).reshape(height, width, 3))
        if cv2.waitKey(5) in QUIT:
            break
    os._exit(0)  # the thread may be reading still


if __name__ == "__main__":
    main(sys.argv[1])
