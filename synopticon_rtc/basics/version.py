"""Which version of the package this is."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("synopticon-rtc")
except PackageNotFoundError:  # it runs from a folder
    __version__ = "unknown"
