"""``python -m synopticon_rtc.relay``: the door to :mod:`synopticon_rtc.commands.relay`."""

from synopticon_rtc.commands.relay import main

if __name__ == "__main__":
    main()
