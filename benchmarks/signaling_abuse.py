"""Clients that have a token and no manners.

Each sends one bad message after the other, of all kinds by turns, and comes back when it is closed.
``python -m benchmarks.signaling_abuse CORE``, driven over its standard input.
"""

import asyncio
import json
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from picows import WSError
from websockets.frames import Frame, Opcode

from benchmarks.children import pin, serve
from benchmarks.signaling_load import Client, ice

PAUSE = 0.02
"""Seconds between two messages of a session."""
KEY = '"sourceSession":'
SPELLINGS = (
    KEY,
    '"\\u0073ourceSession":',
    '"source\\u0053ession" : ',
    '\t"\\u0073\\u006f\\u0075\\u0072\\u0063\\u0065\\u0053\\u0065\\u0073\\u0073\\u0069\\u006f\\u006e"\n:\r',
)
"""Ways to write the key that the server alone may set."""


def _text(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return Frame(Opcode.TEXT, data).serialize(mask=True)


def _forged(number: int, victim: str, target: str) -> bytes:
    spelling = SPELLINGS[number % len(SPELLINGS)]
    source = f"{spelling}{json.dumps(victim)}"
    message = ice(target, number).decode()
    return _text(f"{{{source},{message[1:]}" if number % 2 else f"{message[:-1]},{source}}}")


KINDS: dict[str, Callable[[int, str, str], bytes]] = {
    "no JSON": lambda *_: _text('{"type":"webrtc_ice",'),
    "no object": lambda *_: _text("[1,2,3]"),
    "no UTF-8": lambda *_: _text(b'{"type":"request_offer","name":"\xff\xfe"}'),
    "unknown": lambda number, *_: _text(json.dumps({"type": f"what{number}"})),
    "deep": lambda *_: _text('{"type":"request_offer","x":' + 20_000 * "["),
    "forged": _forged,
    "nobody": lambda number, *_: _text(ice(f"ws_{number}")),
    "to all": lambda *_: _text('{"type":"request_offer"}'),
    "pings": lambda *_: _text('{"type":"ping"}'),
    "large": lambda _, __, target: _text(ice(target)[:-1] + b',"x":"' + 200_000 * b"x" + b'"}'),
    "oversized": lambda *_: b"\x81\xff" + struct.pack("!Q", 2**40) + bytes(4) + 10_000 * b"x",
    "no frame": lambda *_: b"\xf3\x85" + bytes(9),
    "pongs": lambda *_: 50 * Frame(Opcode.PONG, b"").serialize(mask=True),
    "fragments": lambda *_: Frame(Opcode.TEXT, b"{", fin=False).serialize(mask=True),
}
"""Bad messages: from a number, who is to be taken for the sender, and whom it is for."""


class Abuse:
    """The abusers of this process."""

    def __init__(self) -> None:
        self._sent: Counter[str] = Counter()
        self._closed: Counter[str] = Counter()
        self._refused = 0

    async def abuse(self, url: str, token: str, honest: list[list[str]], count: int, sessions: int) -> dict[str, Any]:
        """Send bad messages from so many sessions; return how many of which kind, and how sessions were closed.

        Of ten sessions, one reads nothing of what it has sent to itself, and one sends all that it has at once.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(sessions):
                numbers = range(number, count, sessions)
                if number % 10 == 0:
                    group.create_task(self._flood(url, token, len(numbers)))
                else:
                    group.create_task(self._misbehave(url, token, honest, numbers, deaf=number % 10 == 1))
        return {"sent": self._sent, "closed": self._closed, "refused": self._refused}

    async def _flood(self, url: str, token: str, count: int) -> None:
        client = await self._come(url, token)
        client.transport.underlying_transport.write(count * KINDS["to all"](0, "", ""))
        self._sent["to all"] += count
        await asyncio.sleep(count * PAUSE)
        self._leave(client)

    async def _misbehave(self, url: str, token: str, honest: list[list[str]], numbers: range, *, deaf: bool) -> None:
        client = await self._come(url, token)
        for number in numbers:
            if client.closed:
                self._leave(client)
                client = await self._come(url, token)
            if deaf and not client.closed:
                client.transport.underlying_transport.pause_reading()
            kind = "large" if deaf else list(KINDS)[number % len(KINDS)]
            victim, target = honest[number % len(honest)]
            client.transport.underlying_transport.write(KINDS[kind](number, victim, client.session if deaf else target))
            self._sent[kind] += 1
            await asyncio.sleep(PAUSE)
        self._leave(client)

    def _leave(self, client: Client) -> None:
        self._closed[client.closed.partition(" ")[0] or "not at all"] += 1
        client.transport.underlying_transport.abort()

    async def _come(self, url: str, token: str) -> Client:
        while True:
            try:
                return await Client.open(url, token)
            except (OSError, WSError):
                self._refused += 1
                await asyncio.sleep(PAUSE)


async def main(core: str) -> None:
    """Do as asked."""
    pin(int(core))
    await serve(abuse=Abuse().abuse)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
