"""``python -m synopticon_rtc.analyse``: the door to :mod:`synopticon_rtc.commands.analyse`."""

from synopticon_rtc.commands.analyse import main

if __name__ == "__main__":
    main()
