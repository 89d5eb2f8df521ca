"""A relay as one writes it with websockets in an afternoon: no authentication, no limits, no metrics.

``python -m benchmarks.signaling_bare PORT``. It says what Synopticon's server says, as far as a relay needs it.
"""

import asyncio
import json
import secrets
import sys
import time

from websockets.asyncio.server import ServerConnection, serve

sessions: dict[str, ServerConnection] = {}


async def relay(connection: ServerConnection) -> None:
    """Pass on what one client sends, to the session that it names or to all others."""
    session = f"ws_{int(time.time() * 1000)}_{secrets.token_hex(8)}"
    sessions[session] = connection
    try:
        await connection.send(json.dumps({"type": "connected", "sessionId": session}))
        async for data in connection:
            message = json.loads(data)
            message["sourceSession"] = session
            target = message.get("targetSession")
            receivers = [sessions[target]] if target else [one for name, one in sessions.items() if name != session]
            for receiver in receivers:
                await receiver.send(json.dumps(message))
    finally:
        del sessions[session]


async def main(port: int) -> None:
    """Serve until the process is ended."""
    async with serve(relay, "127.0.0.1", port, compression=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
