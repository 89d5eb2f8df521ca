"""``python -m synopticon_rtc.record``: the door to :mod:`synopticon_rtc.commands.record`."""

from synopticon_rtc.commands.record import main

if __name__ == "__main__":
    main()
