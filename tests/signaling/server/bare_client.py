"""A client without any of our own code, for what a server says on the wire."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator
from typing import Any

from published import PublishedServer
from waiting import until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from synopticon_rtc.signaling.server.server import SignalingServer


class Client:
    """A bare client: what it sends and gets is JSON, its session is the one it was welcomed with."""

    def __init__(self, websocket: ClientConnection, welcome: dict[str, Any]) -> None:
        self.websocket = websocket
        self.welcome = welcome
        self.session: str = welcome["sessionId"]

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        await self.websocket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def receive(self) -> dict[str, Any]:
        return object_of(await self.receive_text())

    async def receive_text(self) -> str:
        async with asyncio.timeout(20):
            data = await self.websocket.recv()
        assert isinstance(data, str)
        return data

    async def next_is_pong(self) -> bool:
        """Whether nothing came before the answer to a ping that is sent now."""
        await self.send({"type": "ping"})
        kind: str = (await self.receive())["type"]
        return kind == "pong"

    async def configure(self, **requirements: Any) -> dict[str, Any]:
        """Configure, and return the answer."""
        await self.send({"type": "configure", "requirements": requirements})
        return await self.receive()

    async def closed(self) -> tuple[int | None, str | None]:
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.websocket.recv()
            await self.websocket.wait_closed()
        return self.websocket.close_code, self.websocket.close_reason


def object_of(text: str) -> dict[str, Any]:
    message = json.loads(text)
    assert isinstance(message, dict)
    return message


@contextlib.asynccontextmanager
async def joined(
    server: SignalingServer | PublishedServer, count: int = 1, *, query: str = "", **options: Any
) -> AsyncIterator[list[Client]]:
    async with contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(count):
            opening = connect(f"{server.url}{query}", compression=None, max_size=None, **options)
            websocket = await stack.enter_async_context(opening)
            clients.append(Client(websocket, object_of(str(await websocket.recv()))))
        yield clients


async def until_open(server: SignalingServer, count: int) -> None:
    await until(lambda: len(server.sessions) == count)


async def fetch(
    server: SignalingServer, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    def blocking() -> tuple[http.client.HTTPResponse, bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)) as connection:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response, response.read()

    return await asyncio.to_thread(blocking)
