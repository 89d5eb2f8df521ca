"""Names of files that are the words of strangers."""

import re
import unicodedata

_TAKEN = '/\\:*?"<>|'  # have a meaning to some system
# Windows takes these for devices, whatever ending they have; the digits are of Latin-1 too.
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(\..*)?", re.IGNORECASE)


def fit(text: str, longest: int) -> str:
    """Make a part of a path of what somebody else says, of so many octets at most; empty where nothing is left of it.

    What no system takes for anything but a name stays as it is.
    """
    plain = unicodedata.normalize("NFC", text[:longest])
    shown = "".join("_" if each in _TAKEN or not each.isprintable() else each for each in plain)
    cut = shown.strip(" .").encode()[:longest].decode(errors="ignore").rstrip(" .")
    return cut if cut.strip("_") else ""


def not_a_device(part: str) -> str:
    """Return a part of a path, or another where a system takes it for a device."""
    return f"_{part}" if _DEVICE.fullmatch(part) else part
