"""A chat beside the video: the broadcaster passes what each receiver writes on to all of them.

Three receivers say hello to one another here, in one process with everything else.
"""

import asyncio
import contextlib

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern

NAMES = "Ada", "Bo", "Cy"


async def pass_on(broadcaster: Broadcaster) -> None:
    async for message in broadcaster.messages("chat"):
        await broadcaster.send("chat", message.data)


async def talk(url: str, name: str) -> None:
    async with Receiver(url, timeout=15) as receiver:
        await anext(receiver)  # a first frame: somebody is there
        chat = receiver.messages("chat")
        await receiver.send("chat", f"{name}: hello")
        heard = 0
        async for message in chat:
            print(f"{name} reads {message.data!r}", flush=True)
            heard += str(message.data).endswith("hello")
            if heard == 1:
                break


async def main() -> None:
    async with SignalingServer(port=0) as server, Broadcaster(server.url, TestPattern((320, 240))) as broadcaster:
        passing = asyncio.create_task(pass_on(broadcaster))
        await asyncio.gather(*(talk(server.url, name) for name in NAMES))
        passing.cancel()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
