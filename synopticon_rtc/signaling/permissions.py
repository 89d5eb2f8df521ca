"""Asks an access hook, and waits for those that take their time."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

from synopticon_rtc.signaling.access import CanConnect, Participant

log = logging.getLogger(__name__)

Then = Callable[[bool], object]


class Permissions:
    """Asks who may connect to whom.

    Args:
        can_connect: The hook. An error in it is logged, and means no.
    """

    def __init__(self, can_connect: CanConnect) -> None:
        self._can_connect = can_connect
        self._asked: set[asyncio.Future[None]] = set()

    def ask(self, source: Participant, target: Participant, then: Then) -> None:
        """Call ``then`` with the answer: at once, if the hook answers at once."""
        try:
            answer = self._can_connect(source, target)
        except Exception:
            log.exception("can_connect failed, which means no")
            answer = False
        if inspect.isawaitable(answer):
            task = asyncio.ensure_future(_wait(answer, then))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
        else:
            then(bool(answer))

    async def close(self) -> None:
        """Stop waiting for answers."""
        for task in self._asked:
            task.cancel()
        if self._asked:
            await asyncio.wait(self._asked)


async def _wait(answer: Awaitable[bool], then: Then) -> None:
    try:
        allowed = bool(await answer)
    except Exception:
        log.exception("can_connect failed, which means no")
        allowed = False
    then(allowed)
