"""``python -m synopticon_rtc.broadcast``: the door to :mod:`synopticon_rtc.commands.broadcast`."""

from synopticon_rtc.commands.broadcast import main

if __name__ == "__main__":
    main()
