"""Every error this package raises on purpose.

    SynopticonError
    ├── SignalingError          the signaling server cannot be used
    │   ├── InvalidURL          not a ws:// or wss:// address, or not one of a NATS server
    │   ├── PortInUse           the embedded server cannot listen
    │   └── InvalidToken        a token does not let its bearer in
    ├── InvalidMessage          a message that breaks its protocol
    ├── NobodyAnswered          no broadcaster answered in time
    ├── InvalidSDP              a session description or candidate that cannot be used
    │   └── NoCommonCodec       the peers share no video codec
    ├── InvalidIceServer        not a stun:, turn: or turns: address
    ├── NoCandidates            there is no address to connect from
    ├── ConnectionLost          the peer connection is gone for good
    ├── FileError               a file cannot be sent or received, or is not wanted
    ├── SourceError             frames cannot be had from a source
    ├── DetectorError           faces cannot be looked for
    │   └── ModelError          the face model is missing or corrupt
    ├── FrameSkipped            a detector leaves a frame out on purpose
    ├── InvalidFaces            a faces message that breaks its format
    ├── RecordingError          a recording cannot be written, or read
    ├── TableError              a table of faces cannot be written
    └── MissingExtra            an optional dependency is not installed

Each message says what is wrong, where, and what to do about it, in one line. No message holds a password.
"""

import re

from synopticon_rtc.basics.text import visible

_CREDENTIALS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*:(?://)?)"
    r"(?:(?<=//)[^/?#@:\s]*:\S*|[^/?#@\s]*(?:@[^/?#@\s]*)*)@",  # a password that nobody encoded holds anything
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*:(?://)?|//|).*@", re.IGNORECASE | re.DOTALL)
_SECRET = re.compile(r"(?P<name>(?:pas|pwd|token|secret|key|auth|sig|credential)[\w.-]*=)[^&;\s]+", re.IGNORECASE)


def without_password(text: str) -> str:
    """Return a text that may hold an address, such as ``http://user:password@host/``, without user and password."""
    return _SECRET.sub(r"\g<name>...", _CREDENTIALS.sub(r"\g<scheme>", text))


def without_login(address: str) -> str:
    """Return an address that is alone, perhaps a malformed one, without all that may be user and password.

    Passwords hold anything, also ``/`` and ``@``: so it goes as far as it can reach, which in a text would be too far.
    """
    match = _LOGIN.match(address)
    return address if match is None else match["scheme"] + address[match.end() :]


class SynopticonError(Exception):
    """Base of all errors of this package; its text can be printed, whatever names of others are in it."""

    def __str__(self) -> str:
        return visible(" ".join(super().__str__().split()))


class SignalingError(SynopticonError):
    """The signaling server cannot be used."""


class InvalidURL(SignalingError, ValueError):
    """An address is not the ``ws://`` or ``wss://`` URL of a signaling server, or ``nats://`` of a NATS server."""


class PortInUse(SignalingError):
    """The embedded signaling server cannot listen on its address."""


class InvalidToken(SignalingError):
    """A token does not let its bearer in.

    Attributes:
        code: Why, for programs.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidMessage(SynopticonError, ValueError):
    """A message of the signaling or of a peer breaks its protocol."""


class NobodyAnswered(SynopticonError, TimeoutError):
    """No broadcaster answered in time."""


class InvalidSDP(SynopticonError, ValueError):
    """A session description or an ICE candidate from a peer cannot be used."""


class NoCommonCodec(InvalidSDP):
    """The peers share no video codec."""


class InvalidIceServer(SynopticonError, ValueError):
    """The address of an ICE server is not a ``stun:``, ``turn:`` or ``turns:`` URL."""


class NoCandidates(SynopticonError, ConnectionError):
    """There is no address to connect from: no network, or no TURN server that answers where only those may be used."""


class ConnectionLost(SynopticonError):
    """The peer connection is gone for good."""


class FileError(SynopticonError):
    """A file cannot be sent or received, or is not wanted."""


class SourceError(SynopticonError):
    """A source cannot give frames."""


class DetectorError(SynopticonError):
    """Faces cannot be looked for."""


class ModelError(DetectorError):
    """The face model is missing or corrupt."""


class FrameSkipped(SynopticonError):
    """A detector leaves a frame out on purpose: receivers are told that it was not looked at."""


class InvalidFaces(SynopticonError, ValueError):
    """A faces message breaks its format."""


class TableError(SynopticonError):
    """A table of faces cannot be written."""


class TraceError(SynopticonError):
    """A trace cannot be written, or is none."""


class RecordingError(SynopticonError):
    """A recording cannot be written, or read."""


class MissingExtra(SynopticonError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an extra: in a clone of synopticon-rtc, pip install ".[{extra}]"')
