"""Let a signaling server take the place of another one under a call, and tell what the call noticed.

The first server says goodbye, as it does on SIGTERM; the second begins at the same address. Everything is in this one
process, with a test card in place of a camera.
"""

import asyncio
import contextlib
import itertools

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern


async def note(receiver: Receiver, times: list[float]) -> None:
    """Note when each frame comes."""
    async for _ in receiver:
        times.append(asyncio.get_running_loop().time())  # noqa: PERF401 - each when it comes


async def main() -> None:
    times: list[float] = []
    async with contextlib.AsyncExitStack() as call:
        async with SignalingServer(port=0) as old:
            broadcaster = await call.enter_async_context(Broadcaster(old.url, TestPattern((320, 240))))
            receiver = await call.enter_async_context(Receiver(old.url, timeout=15))
            await anext(receiver)
            noting = asyncio.create_task(note(receiver, times))
            await old.drain(1)  # seconds for those who are connected
        print("the old server is gone", flush=True)
        async with SignalingServer(port=old.port) as new:
            await broadcaster.signaling.wait_open()
            await receiver.signaling.wait_open()
            print("both ends are at the new server", flush=True)
            async with Receiver(new.url, timeout=15) as newcomer:
                await anext(newcomer)
            print("somebody else has joined", flush=True)
        noting.cancel()
    gaps = [after - before for before, after in itertools.pairwise(times)]
    print(f"{len(times)} frames meanwhile, none of them more than {max(gaps):.2f} s after the one before it")


asyncio.run(main())
