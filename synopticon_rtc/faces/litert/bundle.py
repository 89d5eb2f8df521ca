"""The parts of the face model."""

import zipfile
from pathlib import Path

from synopticon_rtc.errors import ModelError


class Bundle:
    """A ``face_landmarker.task``: a zip archive of models.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def part(self, name: str) -> bytes:
        """Return what is in a file of it.

        Raises:
            ModelError: There is no such file in it.
        """
        try:
            with zipfile.ZipFile(self._path) as bundle:
                return bundle.read(name)
        except KeyError:
            raise ModelError(f"the face model {self._path} has no {name} in it: give a face_landmarker.task") from None
        except Exception as error:  # noqa: BLE001 - whatever the way in which it is packed raises where it is damaged
            raise ModelError(f"the face model {self._path} cannot be read: {error}") from None
