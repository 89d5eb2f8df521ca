"""Who may open a session: checked before the upgrade, so that whoever may not costs little and is told why."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import urlsplit

from synopticon_rtc.errors import InvalidToken, SignalingError
from synopticon_rtc.signaling.addresses import is_loopback
from synopticon_rtc.signaling.messages import ROOM_LENGTH
from synopticon_rtc.signaling.server.access import WITHOUT_SAYING
from synopticon_rtc.signaling.server.http import Refused, Request
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys

ORIGIN_SHOWN = 200  # characters
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@]+")
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True)
class Gate:
    """Looks at where a page comes from, at the token, and at the room.

    Raises:
        SignalingError: One of the origins is none.

    Attributes:
        keys: What tokens are checked with; None asks for no token.
        origins: Pages that may connect beside those of the server's own origin; ``*`` is all, ``null`` those of files.
        loopback: Whether the server is for this machine alone, and for its pages whatever their port.
    """

    keys: TokenKeys | None
    origins: Collection[str]
    loopback: bool

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin not in {"*", "null"} and not ORIGIN.fullmatch(origin):
                raise SignalingError(
                    f"{origin!r} is no origin: give one like https://example.org, * for all, or null for files"
                )

    def admit(self, request: Request, *, draining: bool = False) -> Claims:
        """Let a request pass unless the server stops, and tell what its token says; the room is what it asks for.

        Raises:
            Refused: It may not pass.
        """
        if draining:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "draining", "The server is about to stop: try another, or later"
            )
        self.check_origin(request)
        room = request.query.get("room", "")
        if len(room) > ROOM_LENGTH or not room.isprintable():
            raise Refused(
                HTTPStatus.BAD_REQUEST, "bad_room", f"The name of a room has at most {ROOM_LENGTH} printable characters"
            )
        if self.keys is None:
            return Claims(room=room)
        claims = self._check_token(self.keys, request)
        if claims.room is None or claims.room == room or "room" not in request.query:
            return replace(
                claims, room=room if claims.room is None else claims.room, roles=claims.roles or WITHOUT_SAYING
            )
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "wrong_room",
            "This link, or its token, is for another room: open it as you were given it",
        )

    def _check_token(self, keys: TokenKeys, request: Request) -> Claims:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = request.query.get("token", "")
        try:
            return keys.check(token.strip())
        except InvalidToken as error:
            raise Refused(HTTPStatus.UNAUTHORIZED, error.code, str(error)) from None

    def check_origin(self, request: Request) -> None:
        """Let pages of this server pass, and those that are named.

        Raises:
            Refused: It is of another.
        """
        origin = request.headers.get("Origin")
        if origin is None and request.headers.get("Sec-Fetch-Site") == "same-origin":
            # Over HTTP, where a page asks why its WebSocket was turned down, browsers leave out what they sent with it.
            origin = f"{'https' if request.secure else 'http'}://{request.headers.get('Host', '')}"
        if origin is None or "*" in self.origins or origin in self.origins:
            return
        try:
            url = urlsplit(origin)
            own = urlsplit(f"{'https' if request.secure else 'http'}://{request.headers.get('Host', '')}")
            same = (url.hostname, _port(url.scheme, url.port)) == (own.hostname, _port(own.scheme, own.port))
        except ValueError:
            pass  # a host or a port that is none
        else:
            here = is_loopback(url.hostname or "")
            # Where the server is for this machine alone, a page elsewhere is of its origin if it has its own name lead
            # here (DNS rebinding).
            if here if self.loopback else (same and url.hostname):
                return
        shown = ascii(origin[:ORIGIN_SHOWN])[1:-1]
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "wrong_origin",
            f"Pages of {shown} may not connect here: the server lets them by --origin {shown}, or where --proxy names "
            "the proxy or tunnel in front",
        )


def _port(scheme: str, port: int | None) -> int | None:
    return DEFAULT_PORTS.get(scheme) if port is None else port
