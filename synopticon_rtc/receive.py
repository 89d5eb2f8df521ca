"""``python -m synopticon_rtc.receive``: the door to :mod:`synopticon_rtc.commands.receive`."""

from synopticon_rtc.commands.receive import main

if __name__ == "__main__":
    main()
