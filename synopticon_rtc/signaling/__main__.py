"""``python -m synopticon_rtc.signaling``: the door to :mod:`synopticon_rtc.commands.signaling`."""

import sys

from synopticon_rtc.commands.signaling import run

if __name__ == "__main__":
    run(sys.argv[1:])
