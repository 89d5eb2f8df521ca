"""What files are called where they are received, whatever a stranger calls them."""

import itertools
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path, PurePath

from synopticon_rtc.basics.filename import fit, not_a_device

LONGEST = 200
"""Bytes of a name: file systems take 255, and some follow for a number, or for what is not whole yet."""
LONGEST_SUFFIX = 20
NAMELESS = "file"
_PART = re.compile(r"\.[0-9a-f]{8}\.part$", re.IGNORECASE)  # what is on its way is called so, and nothing else


def safe(name: str) -> str:
    """Return a name that leads nowhere else, names no device and is not hidden, with the suffix that it had."""
    whole = fit(name, 4 * len(name)) or NAMELESS
    stem, dot, suffix = whole.rpartition(".")
    if not stem or len(suffix.encode()) > LONGEST_SUFFIX:
        stem, dot, suffix = whole, "", ""
    kept = fit(stem, LONGEST - len(suffix.encode()) - 1) or NAMELESS
    name = not_a_device(f"{kept}{dot}{suffix}")
    return f"{name}_" if _PART.search(name) else name


def numbered(name: str) -> Iterator[str]:
    """Give a name, and then others for where it is taken: ``a.txt``, ``a (1).txt``, ``a (2).txt``."""
    yield name
    path = PurePath(name)
    yield from (f"{path.stem} ({number}){path.suffix}" for number in itertools.count(1))


def part_of(path: Path, size: int, modified: float | None) -> Path:
    """Return where that is written which is not whole yet: another place for each version of a file."""
    version = sha256(f"{path.name}\0{size}\0{modified}".encode()).hexdigest()[:8]
    return path.with_name(f"{path.name}.{version}.part")
