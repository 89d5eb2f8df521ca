"""What two peers say of a file, over a data channel that is there for this file alone; docs/files.md tells how.

Text messages are one of these, in JSON. Binary ones are the content of the file, in order, in pieces of any length.
"""

from typing import Annotated

import msgspec

PROTOCOL = "file/1"
WINDOW = 1_572_864
"""Bytes beyond what is on the other end's disk that may be on their way to it."""
MAX_SIZE = 2**53
"""Bytes of a file: what a number in JSON holds."""
MAX_NAME = 255
"""Characters of a name, and of each folder."""
MAX_DEPTH = 16
"""Folders within one another."""
MAX_REASON = 200
"""Characters."""
LATEST = 1e11
"""Seconds since the epoch: beyond it is no time."""

_Octets = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
_Hash = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]


class Offered(msgspec.Struct, tag="offer", frozen=True):
    """The first message, of whoever sends the file.

    Attributes:
        name: What it is called, without a path.
        size: Bytes.
        modified: When it was changed last, seconds since the epoch; None where nobody knows.
        folder: The folders that it is in, the outermost first; empty for one that is sent by itself.
    """

    name: _Name
    size: _Octets
    modified: Annotated[float, msgspec.Meta(ge=-LATEST, le=LATEST)] | None = None
    folder: Annotated[list[_Name], msgspec.Meta(max_length=MAX_DEPTH)] = []


class Accepted(msgspec.Struct, tag="accept", frozen=True):
    """The other end takes it.

    Attributes:
        at: How many bytes it has already.
        sha256: Their hash, in hexadecimal digits; empty where there are none.
    """

    at: _Octets = 0
    sha256: _Hash = ""


class Begun(msgspec.Struct, tag="begin", frozen=True):
    """The content follows.

    Attributes:
        at: From where: what the other end has, if the hash is that of the same bytes here, else 0.
    """

    at: _Octets = 0


class Limit(msgspec.Struct, tag="limit", frozen=True):
    """More may be sent.

    Attributes:
        octets: Up to which byte of the file; until this is told, :data:`WINDOW` beyond where it began.
    """

    octets: _Octets


class Ended(msgspec.Struct, tag="end", frozen=True):
    """All of it was sent.

    Attributes:
        sha256: The hash of the whole file, in hexadecimal digits.
    """

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Done(msgspec.Struct, tag="done", frozen=True):
    """It is there, under its name, and its hash is right."""


class Cancelled(msgspec.Struct, tag="cancel", frozen=True):
    """Either end wants no more of it; the channel is closed.

    Attributes:
        reason: Why, in words for people.
    """

    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)] = ""


Said = Offered | Accepted | Begun | Limit | Ended | Done | Cancelled

_decoder: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


def read(text: str) -> Said:
    """Read a message.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    return _decoder.decode(text)


def written(message: Said) -> str:
    """Write a message."""
    return msgspec.json.encode(message).decode()
