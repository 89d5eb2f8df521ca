"""Getting into a signaling server: its address with the room, the token, and why it turns somebody down."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from websockets.http11 import Response

from synopticon_rtc.errors import InvalidURL, SignalingError
from synopticon_rtc.signaling.messages import one_line

Token = str | Callable[[], str | Awaitable[str]]

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
ADVICE = {
    "token_missing": "give one, as token=, in SYNOPTICON_TOKEN or by --token-file",
    "token_expired": "get a new one",
    "token_immature": "wait, or set the clock of whoever made it",
    "wrong_room": "ask for the room that the token is for",
}


TOKEN_WITHIN = 10.0  # seconds for a coroutine function to give a token


class Refusal(msgspec.Struct, frozen=True):
    """Why a server turns us down: a code, and words."""

    error: str
    message: str

    def __str__(self) -> str:
        advice = ADVICE.get(self.error, "")
        return f"{one_line(self.message)} ({one_line(self.error)})" + (advice and f"; {advice}")


def read_address(url: str, room: str) -> tuple[str, str | None]:
    """Put the room into the address of a server, and take the token out of it: there it would be in every log.

    Raises:
        InvalidURL: It is no ``ws://`` or ``wss://`` address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a bracket that is not closed, a port that is no number
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port == 0:
        shown = url.partition("?")[0]
        raise InvalidURL(
            f"{shown!r} is no address of a signaling server: give one like ws://localhost:8081/ws or wss://host/ws"
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    token = query.pop("token", None)
    if room:
        query["room"] = room
    return parts._replace(query=urlencode(query)).geturl(), token


async def authorization(token: Token | None) -> dict[str, str]:
    """Give the headers that show a token.

    Raises:
        ConnectionError: The function that should give it failed; it may not the next time.
        SignalingError: It is none.
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
    if not given:
        return {}
    if not isinstance(given, str) or not TOKEN.fullmatch(given):
        raise SignalingError("the token is malformed: letters, digits and . _ ~ + / - = are all that it may hold")
    return {"Authorization": f"Bearer {given}"}


def read_refusal(response: Response) -> Refusal | None:
    """Read why the server turns us down; None where it does not say why."""
    try:
        return msgspec.json.decode(bytes(response.body or b""), type=Refusal)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
