"""``python -m synopticon_rtc.trace``: the door to :mod:`synopticon_rtc.commands.trace`."""

from synopticon_rtc.commands.trace import main

if __name__ == "__main__":
    main()
