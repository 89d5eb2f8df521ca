"""Files that are in their place only once they are whole."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def beside(path: Path) -> Path:
    """Return where a file is written until it is whole.

    Raises:
        OSError: It could not be moved into its place.
    """
    if path.is_dir():
        raise IsADirectoryError(None, "it is a directory")
    return path.with_name(f"{path.name}.part")


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give where a file is to be written meanwhile, and move it into its place; where that fails leave nothing of it.

    Raises:
        OSError: It cannot be moved.
    """
    place = beside(path)
    try:
        yield place
        place.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            place.unlink()
        raise
