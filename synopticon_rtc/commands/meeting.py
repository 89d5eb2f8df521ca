"""Where a command meets its peers: at a signaling server that is there or, for a broadcaster, at one of its own."""

import asyncio
import contextlib
import http.client
import logging
import ssl
import urllib.request
from collections.abc import Callable
from typing import Self
from urllib.parse import urlencode, urlsplit

from synopticon_rtc.commands.cli import Output
from synopticon_rtc.errors import PortInUse, SignalingError
from synopticon_rtc.signaling import SignalingServer
from synopticon_rtc.signaling.addresses import PATH
from synopticon_rtc.signaling.route import find_proxy
from synopticon_rtc.signaling.session import Signaling

DEFAULT_URL = "ws://localhost:8081/ws"
DEFAULT_ADDRESS = ("127.0.0.1", 8081)
LOOK_EVERY = 0.5  # seconds between looks whether a server that was used is gone
ANSWER_WITHIN = 2.0  # seconds
TITLE = b"<title>Synopticon</title>"

logger = logging.getLogger(__name__)


class Meeting:
    """The server that a broadcaster uses: the one that is named, or one of its own.

    Where neither is asked for, it is that of another broadcaster on this machine, if there is one; when it ends, this
    one takes its place.

    Args:
        url: The server that is named, if one is.
        serve: Where to serve, if that is asked for.
        make: Makes a server for an address.
        room: The room of the server to meet in.
        name: What the broadcaster is called.
        tls: Which certificates of servers to trust.

    Attributes:
        url: The address of the server.
        server: The server, if it is our own.
        others: Whether it is that of another broadcaster, which may end.
        viewer: The address of the viewer, empty where the server has none.

    Raises:
        SignalingError: On entering, our own server cannot listen.
    """

    def __init__(
        self,
        url: str | None,
        serve: tuple[str, int] | None,
        make: Callable[[str, int], SignalingServer],
        *,
        room: str,
        name: str,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.url = url or DEFAULT_URL
        self.server: SignalingServer | None = None
        self.others = url is None and serve is None
        self.viewer = ""
        self._serve = serve
        self._make = make
        self._room = room
        self._name = name
        self._tls = tls
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._serve is not None:
            await self._open(*self._serve)
        elif self.others and not await somebody_listens():
            with contextlib.suppress(PortInUse):  # by one that started in the same moment
                await self._open(*DEFAULT_ADDRESS)
        if self.server is not None:
            self.url = self.server.url
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def find_viewer(self) -> None:
        """Look whether the server has the viewer."""
        if self.server is None and self.url.startswith("ws"):  # engines have none
            found = await asyncio.to_thread(_find_viewer, self.url, self._tls)
            self.viewer = found and found + _query(room=self._room, **{"from": self._name})

    async def take_over(self, signaling: Signaling) -> bool:
        """Serve in the place of another broadcaster once that has ended; False at once where there is none."""
        while self.others:
            await asyncio.sleep(LOOK_EVERY)
            if signaling.session is None and not await somebody_listens():
                try:
                    await self._open(*DEFAULT_ADDRESS)
                except PortInUse:
                    continue  # a third one was faster
                except SignalingError as error:
                    logger.warning("%s", error)
                    return False
                else:
                    return True
        return False

    async def _open(self, host: str, port: int) -> None:
        self.server = await self._stack.enter_async_context(self._make(host, port))
        self.viewer = self.server.viewer + _query(room=self._room)
        self.others = False


def _query(**fields: str) -> str:
    query = urlencode({key: value for key, value in fields.items() if value})
    return query and f"?{query}"


def _find_viewer(url: str, tls: ssl.SSLContext | None) -> str:
    """Look whether a viewer is beside the signaling of a server, below whatever prefix."""
    parts = urlsplit(url)
    scheme = "https" if parts.scheme == "wss" else "http"
    viewer = parts._replace(scheme=scheme, path=parts.path.removesuffix(PATH) + "/", query="").geturl()
    proxy = find_proxy(url)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({scheme: proxy} if proxy else {}), urllib.request.HTTPSHandler(context=tls)
    )
    try:
        with opener.open(viewer, timeout=ANSWER_WITHIN) as response:
            return viewer if TITLE in response.read(2**14) else ""
    except (OSError, ValueError, http.client.HTTPException):
        return ""


async def somebody_listens() -> bool:
    """Whether anything listens where a server of a broadcaster is by default."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            _, writer = await asyncio.open_connection("localhost", DEFAULT_ADDRESS[1])
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class News:
    """Tells people or programs when signaling is gone, why, and when it is there again.

    Args:
        signaling: The client.
        output: Where to tell it.
        aloud: Whether people have no other sign of it.

    Attributes:
        missing: Why there is no session, once one was missed; empty while there is one.
    """

    def __init__(self, signaling: Signaling, output: Output, *, aloud: bool) -> None:
        self._signaling = signaling
        self._output = output
        self._aloud = aloud
        self.missing = ""
        signaling.subscribe(self._changed)

    def _changed(self) -> None:
        session, before = self._signaling.session, self.missing
        self.missing = "" if session else self._signaling.reason
        if not before and not self.missing:
            return  # the first session, of which others tell
        told = {"connected": True, "session": session} if session else {"connected": False, "reason": self.missing}
        self._output.event("signaling", url=self._signaling.url, **told)
        if self._aloud and bool(before) != bool(self.missing):
            going_on = "given up" if self._signaling.failure else "not connected, trying again"
            said = f"{going_on}: {self.missing}" if self.missing else "connected"
            self._output.say(f"signaling: {said}")
