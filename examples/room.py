"""Prints who is in a room, and whose frames were captured when: everybody's moments in one order.

Run: ``python examples/room.py [SECONDS]``, with several broadcasters at ``ws://localhost:8081/ws`` or SYNOPTICON_URL.
"""

import asyncio
import contextlib
import os
import sys

from synopticon_rtc import ParticipantEvent, Room


def tell(event: ParticipantEvent) -> None:
    print(f"{event.name or event.session} {event.state}: {event.reason}")


async def main(seconds: float) -> None:
    before: float | None = None
    async with Room(os.environ.get("SYNOPTICON_URL", "ws://localhost:8081/ws")) as room:
        room.events.subscribe(tell)
        print("waiting for whoever broadcasts")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for seen in room.moments():
                    if seen.captured is None or seen.late:
                        continue
                    since = 0.0 if before is None else seen.captured - before
                    before = seen.captured
                    error = seen.participant.receiver.clock_error or 0.0
                    print(
                        f"{1000 * since:5.1f} ms later  {seen.participant.name}  (give or take {1000 * error:.1f} ms)"
                    )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0))
