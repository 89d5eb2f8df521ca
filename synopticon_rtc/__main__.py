"""``synopticon`` and ``python -m synopticon_rtc``: the door to :mod:`synopticon_rtc.commands.synopticon`."""

from synopticon_rtc.commands.synopticon import main

if __name__ == "__main__":
    main()
