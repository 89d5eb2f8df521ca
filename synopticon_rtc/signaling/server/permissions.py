"""Asks an access hook, and waits for those that take their time."""

import asyncio
import inspect
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.signaling.server.access import CanConnect, Participant
from synopticon_rtc.signaling.server.session import Peer

FAILED = "can_connect failed, which means no"

Then = Callable[[bool], object]
Pair = tuple[str, str]


@dataclass(eq=False)
class _Question:
    source: Peer
    target: Peer
    asked: tuple[Participant, Participant]  # as they were when it was asked
    then: dict[str, Then]
    answer: "asyncio.Future[bool]"
    ours: bool  # the answer, to cancel: a hook may keep a future of its own, for others too
    answered: "Callable[[_Question], None]"

    def done(self, _: "asyncio.Future[bool]") -> None:
        self.answered(self)

    @property
    def pair(self) -> Pair:
        return self.asked[0].session, self.asked[1].session


class Permissions:
    """Asks who may connect to whom: one question at a time for a pair, however many want to know.

    Args:
        can_connect: The hook. An error in it means no.
        faults: What counts and logs that error.
    """

    def __init__(self, can_connect: CanConnect, faults: Faults) -> None:
        self._can_connect = can_connect
        self._asked: dict[Pair, _Question] = {}
        self._faults = faults
        self._theirs: weakref.WeakSet[asyncio.Future[bool]] = weakref.WeakSet()  # futures of hooks, to the end

    def ask(self, source: Peer, target: Peer, why: str, then: Then) -> None:
        """Call ``then`` with the answer: at once, if the hook answers at once.

        It takes the place of another one for the same pair and reason. Where more is known of one of the two when the
        answer comes than when it was asked for, the hook is asked again.
        """
        if question := self._asked.get((source.who.session, target.who.session)):
            question.then[why] = then
            return
        try:
            answer = self._can_connect(source.who, target.who)
        except Exception as error:  # noqa: BLE001 - it is noted, and means no
            self._faults.note(FAILED, error=error)
            answer = False
        if inspect.isawaitable(answer):
            self._wait(source, target, {why: then}, answer)
        else:
            then(bool(answer))

    def forget(self, session: str) -> None:
        """Wait for nothing that concerns a session which is gone."""
        for pair in [pair for pair in self._asked if session in pair]:
            question = self._asked.pop(pair)
            if question.ours:
                question.answer.cancel()
            else:
                question.answer.remove_done_callback(question.done)

    async def close(self) -> None:
        """Stop waiting for answers."""
        answers = {question.answer for question in self._asked.values()} | set(self._theirs)
        self._asked.clear()
        for answer in answers:
            answer.cancel()
        if answers:
            await asyncio.wait(answers)

    def _wait(self, source: Peer, target: Peer, then: dict[str, Then], answer: Awaitable[bool]) -> None:
        future = asyncio.ensure_future(answer)
        ours = future is not answer
        question = _Question(source, target, (source.who, target.who), then, future, ours, self._answered)
        self._asked[question.pair] = question
        future.add_done_callback(question.done)
        if not ours:
            self._theirs.add(future)

    def _answered(self, question: _Question) -> None:
        answer = question.answer
        # Cancelled by us, it is not waited for any more; by itself, it means no.
        failure = None if answer.cancelled() else answer.exception()
        if failure is not None:
            self._faults.note(FAILED, error=failure)
        if self._asked.get(question.pair) is not question:
            return
        del self._asked[question.pair]
        allowed = not answer.cancelled() and failure is None and bool(answer.result())
        changed = (question.source.who, question.target.who) != question.asked
        for why, then in question.then.items():
            if changed:
                self.ask(question.source, question.target, why, then)
            else:
                then(allowed)
