"""``python -m synopticon_rtc.export``: the door to :mod:`synopticon_rtc.commands.export`."""

from synopticon_rtc.commands.export import main

if __name__ == "__main__":
    main()
