"""The VideoRoom of a Janus server, in the place of a signaling server (https://janus.conf.meetecho.com/docs/videoroom)."""

import asyncio
import logging
import re
import ssl as ssl_module
from typing import ClassVar, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from websockets.exceptions import WebSocketException

from synopticon_rtc.engines.engine import Engine
from synopticon_rtc.engines.janus_room import (
    INVALID_ELEMENT,
    NO_PIN,
    NO_SUCH_ROOM,
    UNAUTHORIZED,
    UNAUTHORIZED_PLUGIN,
    UNAUTHORIZED_ROOM,
    JanusRoom,
    advise,
)
from synopticon_rtc.engines.janus_session import JanusError, open_session
from synopticon_rtc.errors import InvalidURL, SignalingError, without_login
from synopticon_rtc.signaling.entry import Token, current
from synopticon_rtc.signaling.messages import AnyMessage, Message
from synopticon_rtc.signaling.route import explain

logger = logging.getLogger(__name__)

FIRST_RETRY, SLOWEST_RETRY = 0.2, 1.5  # seconds
FINAL = frozenset({UNAUTHORIZED, UNAUTHORIZED_PLUGIN, NO_SUCH_ROOM, NO_PIN, INVALID_ELEMENT, UNAUTHORIZED_ROOM})
"""Why a receiver that was never let in will not be let in."""
_ROOM = re.compile(r"[^\x00-\x20\x7f/]{1,128}")


class Address(NamedTuple):
    """The address of a room.

    Attributes:
        shown: It, without what shall not be seen in logs.
        url: That of the WebSocket.
        room: The room, by its number or its name.
        secrets: What stood in the query: ``pin``, ``token`` and ``secret``.
        simulcast: Whether videos are published in several sizes.
    """

    shown: str
    url: str
    room: str
    secrets: dict[str, str]
    simulcast: bool = False


def read_address(address: str) -> Address:
    """Read the address of a room: ``janus+ws://HOST[:PORT][/PATH]/ROOM[?pin=...&token=...&secret=...&simulcast=yes]``.

    Raises:
        InvalidURL: It is none.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:  # a bracket that is not closed, a port that is no number
        parts, port = urlsplit(""), None
    path, _, room = parts.path.rstrip("/").rpartition("/")
    secrets = dict(parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True))  # tokens of Janus have it
    shown = without_login(address.partition("?")[0])
    if not parts.hostname or port == 0 or "@" in parts.netloc or not _ROOM.fullmatch(unquote(room)):
        raise InvalidURL(
            f"{shown!r} is no address of a room of Janus: give one like janus+ws://localhost:8188/1234 or "
            "janus+wss://host/janus/1234"
        )
    simulcast = secrets.pop("simulcast", "no")
    if simulcast not in {"yes", "no"}:
        raise InvalidURL(f"{shown} takes simulcast=yes or simulcast=no after its question mark")
    if unknown := secrets.keys() - {"pin", "token", "secret"}:
        raise InvalidURL(
            f"{shown} takes pin, token, secret and simulcast after its question mark, not {min(unknown)[:40]!r}"
        )
    scheme = parts.scheme.lower().removeprefix("janus+")
    return Address(shown, f"{scheme}://{parts.netloc}{path or '/'}", unquote(room), secrets, simulcast == "yes")


class Janus(Engine):
    """A room of a Janus server.

    Whoever broadcasts publishes in it, and every publisher in it is a broadcaster to those who receive. Who is let in
    no more, or not yet, tries again; but a receiver that was never let in is told why.

    Args:
        address: As :func:`read_address` reads it.
        token: What Janus and the room want to see, in place of one in the address; a function is called before each
            connection.
        ssl: Which certificates of ``wss://`` servers to trust.

    Raises:
        InvalidURL: It is no such address.
    """

    faces: ClassVar[Literal["channel", "video", "none"]] = "channel"

    def __init__(self, address: str, *, token: Token | None = None, ssl: ssl_module.SSLContext | None = None) -> None:
        self._address = read_address(address)
        self.simulcast = self._address.simulcast
        self._token = token or self._address.secrets.get("token")
        self._ssl = ssl
        super().__init__(self._address.shown)

    def _forget(self) -> None:
        super()._forget()
        self._met = False  # whether we were let in before
        self._room: JanusRoom | None = None

    def configure(self) -> None:
        """Have what those who listen publish come into the room, and tell them who is there."""
        if self._room is not None:
            loop = asyncio.get_running_loop()  # which does so once they know of the session
            loop.call_soon(self._tell_who_is_there)
            if self._publishes:
                loop.call_soon(self._room.uplink.ask)

    @property
    def _publishes(self) -> bool:
        return any("broadcast" in listener.requirements.role for listener in self._listeners)

    def send(self, message: Message) -> None:
        """Take a message for the room, or for one in it."""
        if self._room is not None:
            self._room.send(message)

    async def flush(self) -> None:
        """Wait until what was sent is on its way, at most a moment."""
        if self._room is not None:
            await self._room.session.flush()

    async def _stay_connected(self) -> None:
        pause = FIRST_RETRY
        while True:
            reason = ""
            try:
                await self._be_there()
            except JanusError as error:
                if error.code in FINAL and not self._met and not self._publishes:
                    raise SignalingError(f"{self.url} refuses: {advise(error)}") from error
                reason = advise(error)
            except (OSError, EOFError, WebSocketException, ImportError) as error:
                trouble = explain(error, self._address.url)
                if trouble.final and not self._met and not self._publishes:
                    raise SignalingError(f"{self.url} {trouble.verdict}: {trouble.reason}") from error
                reason = trouble.reason
            if self.session is not None:
                pause = FIRST_RETRY
                self._settled.clear()
            if reason != self.reason:
                logger.warning("%s: %s, trying again", self.url, reason)
            self._change(None, reason)
            await asyncio.sleep(pause)
            pause = min(2 * pause, SLOWEST_RETRY)

    async def _be_there(self) -> None:
        """Be in the room until that is lost; always raises."""
        secrets = {"apisecret": self._address.secrets["secret"]} if "secret" in self._address.secrets else {}
        if token := await current(self._token):
            secrets["token"] = token
        told = {key: value for key, value in (self._address.secrets | secrets).items() if key in {"pin", "token"}}
        name = next((named for listener in self._listeners if (named := listener.requirements.name)), "")
        async with open_session(self._address.url, secrets, self._ssl, self._faults) as session:
            try:
                async with asyncio.TaskGroup() as tasks:
                    room = JanusRoom(session, self, tasks, self._address.room, told)
                    own = await room.join(name)
                    self._room, self._met = room, True
                    try:
                        self._begin(own)
                        await room.stay()
                    finally:
                        self._room = None
                        room.leave()
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None

    def choose(self, session: str, mid: str, layer: int) -> None:
        """Have a layer of a video sent to us, where there are several."""
        if self._room is not None:
            self._room.choose(session, mid, layer)

    # What the room asks

    def tell(self, message: AnyMessage) -> None:
        """Hand a message round, as it would come from a signaling server."""
        self._hand_round(message)

    def _tell_who_is_there(self) -> None:
        if self._room is not None:
            self.tell(self._room.present())

    def seek(self) -> None:
        """Have a broadcaster make an offer, if one listens."""
        if self._publishes:
            self._ask()
