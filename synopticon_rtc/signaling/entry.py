"""Getting into a signaling server: its address with the room, the token, and why it turns somebody down."""

import asyncio
import inspect
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from websockets.exceptions import InvalidURI
from websockets.http11 import Response
from websockets.uri import parse_uri

from synopticon_rtc.errors import InvalidURL, SignalingError, without_login
from synopticon_rtc.signaling.messages import one_line

Token = str | Callable[[], str | Awaitable[str]]

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
TOKEN_WITHIN = 10.0  # seconds for a coroutine function to give a token
ADVICE = {
    "token_missing": "give one, as token=, in SYNOPTICON_TOKEN or by --token-file",
    "token_immature": "wait, or set the clock of whoever made it",
}


class Refusal(msgspec.Struct, frozen=True):
    """Why a server turns us down: a code, and words."""

    error: str
    message: str

    def __str__(self) -> str:
        advice = ADVICE.get(self.error, "")
        return f"{one_line(self.message)} ({one_line(self.error)})" + (advice and f"; {advice}")


class Address(NamedTuple):
    """The address of a server, without what shall not be seen in logs.

    Attributes:
        url: With the room in its query.
        token: What stood there as one.
        login: Name and password, for a proxy in front that asks for them (RFC 7617).
    """

    url: str
    token: str | None
    login: tuple[str, str] | None


def read_address(url: str, room: str) -> Address:
    """Put the room into the address of a server, and take the token and the login out of it.

    Raises:
        InvalidURL: It is no ``ws://`` or ``wss://`` address.
    """
    try:
        parts = urlsplit(url)
        # A bracket that is not closed, a port that is no number, a name without a password, bytes that are no UTF-8.
        login = parse_uri(url).user_info
    except (InvalidURI, ValueError):
        parts, login = urlsplit(""), None
    if not parts.hostname or parts.port == 0:
        shown = without_login(url.partition("?")[0])
        raise InvalidURL(
            f"{shown!r} is no address of a signaling server: give one like ws://localhost:8081/ws or wss://host/ws"
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    token = query.pop("token", None)
    if room:
        query["room"] = room
    plain = parts._replace(query=urlencode(query), netloc=parts.netloc.rpartition("@")[2])
    return Address(plain.geturl(), token, login)


def held_by(url: str, holder: str) -> str:
    """Return the address of a server at which a client tells what it is to be known by when it comes back."""
    parts = urlsplit(url)
    return parts._replace(query=f"{parts.query}&holder={holder}".lstrip("&")).geturl()


async def current(token: Token | None) -> str | None:
    """Give the token as it is now.

    Raises:
        ConnectionError: The function that should give it failed; it may not the next time.
    """
    try:
        given = token() if callable(token) else token
        if inspect.isawaitable(given):
            async with asyncio.timeout(TOKEN_WITHIN):
                given = await given
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("no token could be had: what should give it was cancelled") from error
    except Exception as error:
        raise ConnectionError(f"no token could be had: {error!r}") from error
    return given


async def authorization(token: Token | None, login: tuple[str, str] | None = None) -> dict[str, str]:
    """Give the headers that show a token or, without one, a login.

    Raises:
        ConnectionError: The function that should give it failed; it may not the next time.
        SignalingError: It is none, or there is a login too.
    """
    given = await current(token)
    if not given:
        return {"Authorization": f"Basic {b64encode(':'.join(login).encode()).decode()}"} if login else {}
    if login:
        raise SignalingError("a password in the server's address and a token exclude each other: give one of them")
    if not isinstance(given, str) or not TOKEN.fullmatch(given):
        raise SignalingError("the token is malformed: letters, digits and . _ ~ + / - = are all that it may hold")
    return {"Authorization": f"Bearer {given}"}


def read_refusal(response: Response) -> Refusal | None:
    """Read why the server turns us down; None where it does not say why."""
    try:
        return msgspec.json.decode(bytes(response.body or b""), type=Refusal)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
