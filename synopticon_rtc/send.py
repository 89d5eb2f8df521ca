"""``python -m synopticon_rtc.send``: the door to :mod:`synopticon_rtc.commands.send`."""

from synopticon_rtc.commands.send import main

if __name__ == "__main__":
    main()
