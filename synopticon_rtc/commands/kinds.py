"""Kinds of values on the command line: sizes, times, ports."""

import re
import ssl
from typing import Any

import click

from synopticon_rtc.basics.text import is_unicode
from synopticon_rtc.signaling.messages import ROOM_LENGTH

BITRATE = re.compile(r"(\d+(?:\.\d+)?)([kM]?)")
PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
SIZE = re.compile(r"(\d+)x(\d+)")
ADDRESS = re.compile(r"(?:(?P<host>[^\[\]:]+|\[[^\[\]]+\]):)?(?P<port>\d+)")
LONGEST = 36_500 * 86_400.0  # seconds; in much more, calendars and timers end
SMALLEST_SIDE, LARGEST_SIDE = 16, 8192


class Size(click.ParamType[tuple[int, int]]):
    """``1280x720``: width and height in pixels."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:  # noqa: ANN401 - click's signature
        """Read it."""
        match = SIZE.fullmatch(str(value))
        width, height = (int(match[1]), int(match[2])) if match else (0, 0)
        if not (SMALLEST_SIDE <= width <= LARGEST_SIDE and SMALLEST_SIDE <= height <= LARGEST_SIDE):
            self.fail(f"{value!r} is no size: give WIDTHxHEIGHT in pixels, like 1280x720, each 16 to 8192.", param, ctx)
        return width, height


class KeyValue(click.ParamType[tuple[str, str]]):
    """``rtsp_transport=tcp``: a name and a value."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:  # noqa: ANN401 - click's signature
        """Read it."""
        if isinstance(value, tuple):  # click converts defaults twice
            return value
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is no option: give NAME=VALUE, like rtsp_transport=tcp.", param, ctx)
        return key, text


class Bitrate(click.ParamType[int]):
    """``1.5M``, ``800k`` or ``800000``: bit/s."""

    name = "BIT/S"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """Read it."""
        match = BITRATE.fullmatch(str(value))
        rate = round(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6}[match[2]]) if match else 0
        if not 50_000 <= rate <= 50_000_000:  # noqa: PLR2004 - said in the message
            self.fail(f"{value!r} is no bit rate: give one like 1.5M, 800k or 800000, 50k to 50M.", param, ctx)
        return rate


class Address(click.ParamType[tuple[str, int]]):
    """``[HOST:]PORT`` to listen on."""

    name = "[HOST:]PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:  # noqa: ANN401 - click's signature
        """Read it."""
        match = ADDRESS.fullmatch(str(value))
        if not match or int(match["port"]) > 65535:  # noqa: PLR2004 - the largest port
            self.fail(f"{value!r} is no address to listen on: give PORT or HOST:PORT, like 127.0.0.1:8081.", param, ctx)
        return (match["host"] or "127.0.0.1").strip("[]"), int(match["port"])


class Authorities(click.ParamType[ssl.SSLContext]):
    """A file of certificates (PEM) to trust beside those that the system trusts."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ssl.SSLContext:  # noqa: ANN401 - click's signature
        """Read it."""
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(value)
        except OSError as error:  # ssl.SSLError is one
            self.fail(f"{value!r} holds no certificates (PEM): {error.strerror or error}.", param, ctx)
        return context


class Text(click.ParamType[str]):
    """What others are told, such as a name.

    Args:
        longest: Characters that it has at most; None where those who are told shorten it.
        printable: Whether it may have those alone that can be seen.
    """

    name = "TEXT"

    def __init__(self, longest: int | None = None, *, printable: bool = False) -> None:
        self._longest = longest
        self._printable = printable

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401 - click's signature
        """Read it."""
        text = str(value)
        if not is_unicode(text):
            self.fail(f"{text!r:.100} cannot be told others: it is not in UTF-8.", param, ctx)
        if self._longest is not None and len(text) > self._longest:
            self.fail(f"it has {len(text)} characters, and {self._longest} are the most.", param, ctx)
        if self._printable and not text.isprintable():
            self.fail(f"{text!r} has characters that cannot be seen.", param, ctx)
        return text


class Duration(click.ParamType[float]):
    """``90``, ``90s``, ``15m``, ``1h`` or ``7d``: seconds.

    Args:
        least: The shortest.
    """

    name = "TIME"

    def __init__(self, least: float = 1.0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's signature
        """Read it."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        if not match:
            self.fail(f"{value!r} is no time: give one like 90s, 15m, 1h or 7d.", param, ctx)
        seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
        if not self._least <= seconds <= LONGEST:
            self.fail(f"{value!r:.40} is no time to choose: give {self._least:g}s to {LONGEST / 86400:g}d.", param, ctx)
        return seconds


class Octets(click.ParamType[int]):
    """``500M``, ``2G`` or ``500000``: octets."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's signature
        """Read it."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)", str(value))
        octets = round(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2]]) if match else 0
        if octets < 1:
            self.fail(f"{value!r} is no size: give one like 500M, 2G or 500000.", param, ctx)
        return octets


class PortRange(click.ParamType[tuple[int, int]]):
    """``40000-40100``: the lowest and the highest port."""

    name = "LOW-HIGH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:  # noqa: ANN401 - click's signature
        """Read it."""
        if isinstance(value, tuple):  # click converts defaults twice
            return value
        match = PORTS.fullmatch(str(value))
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 0 < low <= high <= 65535:  # noqa: PLR2004 - the largest port
            self.fail(f"{value!r} are no ports: give LOW-HIGH, like 40000-40100.", param, ctx)
        return low, high


ROOM = Text(ROOM_LENGTH, printable=True)
"""The name of a room."""
