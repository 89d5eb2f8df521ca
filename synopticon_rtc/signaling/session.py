"""What stands between our peers and those that they find: a session, those who listen, and a life of its own."""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Protocol, Self

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.life import not_open
from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.errors import SignalingError, SynopticonError
from synopticon_rtc.signaling.calls import Calls
from synopticon_rtc.signaling.messages import AnyMessage, Broadcasters, Message, Relayed, Requirements, one_line

logger = logging.getLogger(__name__)


class Listener(Protocol):
    """Someone who takes part in signaling on a :class:`SignalingClient`."""

    @property
    def requirements(self) -> Requirements:
        """What the server is told of it; where that changes, :meth:`Signaling.configure` tells it anew."""
        ...

    def opened(self, session: str, /) -> None:
        """Signaling is (again) there and gave us this session."""

    def received(self, message: AnyMessage) -> bool:
        """Take a message; False leaves it to the next listener."""
        ...

    def unclaimed(self, message: AnyMessage) -> bool:
        """No listener took this message; True if it is dealt with now."""
        ...

    def failed(self, error: SignalingError) -> None:
        """Signaling is gone for good."""


class Signaling(ABC):
    """Keeps a session by which peers find each other, and hands messages to those who listen.

    Several :class:`~synopticon_rtc.Broadcaster` and :class:`~synopticon_rtc.Receiver` objects may share one; each
    enters it as an async context manager, and the last to leave closes it.

    Args:
        url: The address of what it keeps a session with, without what shall not be seen in logs.

    Attributes:
        url: As it was given.
        session: By which others know us; None while there is no session.
        ice_servers: What was said of STUN and TURN servers last, unchecked.
        claimed: The broadcasters that receivers on this client are linked with.
        calls: How often receivers on this client may ask all in the room at once.
        reason: Why there is no session, if there is none.
        failure: Why it is not tried again, where we are refused for good.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.session: str | None
        self.ice_servers: Any
        self.claimed: set[str] = set()
        self.calls = Calls()
        self.reason: str
        self.failure: SignalingError | None
        self._callbacks: list[Callable[[], object]] = []
        self._listeners: list[Listener] = []
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._faults = Faults()
        self._forget()

    def _forget(self) -> None:
        """Become what it is that was never entered."""
        self.session = None
        self.ice_servers = None
        self.reason = "not connected yet"
        self.failure = None

    @abstractmethod
    async def _stay_connected(self) -> None:
        """Keep a session, and get another one when it is lost, until we are refused for good: then raise why."""

    @abstractmethod
    def configure(self) -> None:
        """Take note of who listens here, and what they want to be told."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send a message, or drop it while there is no session."""

    def meets(self, other: "Signaling") -> bool:
        """Whether both are for the same room, as far as that can be told without asking anybody."""
        return self is other

    def another(self) -> "Signaling":
        """Return one more like it, with a session of its own.

        Raises:
            SynopticonError: There can be one alone.
        """
        raise SynopticonError(f"there is one session with {self.url} alone")

    @abstractmethod
    async def flush(self) -> None:
        """Wait until what was sent is on its way, at most a moment."""

    async def __aenter__(self) -> Self:
        """Connect, if nobody is in it yet.

        Raises:
            RuntimeError: It is in use in another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._users and self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(f"this {type(self).__name__} is in use in another event loop: make one for each")
            self._users, self._task, self._listeners = 0, None, []  # that loop ended, and all in it
            self._forget()
        if not self._users:
            self._loop, self._settled = loop, asyncio.Event()
        self._users += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"signaling {self.url}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        task = self._task
        if self._users == 0 and task is not None:
            self._task = None
            self._forget()
            self._settled.set()  # whoever waits, waits in vain
            self._settled.clear()
            task.cancel()
            await asyncio.wait([task])

    def listen(self, listener: Listener) -> None:
        """Add a listener; it is told at once of a session that is already there."""
        self._listeners.append(listener)
        with self._surviving("a new listener"):
            if self.failure is not None:
                listener.failed(self.failure)
            elif self.session is not None:
                self.configure()
                listener.opened(self.session)

    def leave(self, listener: Listener) -> None:
        """Remove a listener."""
        self._listeners.remove(listener)
        self.configure()

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call ``callback`` whenever :attr:`session` or :attr:`reason` has changed; returns what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def wait_open(self) -> str:
        """Wait for a session and return its id.

        Raises:
            SignalingError: The server refuses for good, or everybody has left the client.
            RuntimeError: Nobody has entered the client.
        """
        if not self._users:
            raise not_open(self)
        while self.session is None:
            if self.failure is not None:
                raise self.failure
            await self._settled.wait()
            if not self._users:
                raise SignalingError(f"the client of {self.url} was left before there was a session")
        return self.session

    @property
    def faults(self) -> int:
        """Errors so far that nobody foresaw, of this package or a listener; each cost a message, and is in the log."""
        return self._faults.count

    async def _run(self) -> None:
        try:
            await self._stay_connected()
        except SignalingError as error:
            self._give_up(error)
        except Exception:  # noqa: BLE001 - it is noted, and told to every listener
            self._faults.note("signaling with %s ends", self.url)
            self._give_up(SignalingError(f"signaling with {self.url} ended by an error of ours, see the log"))

    def _begin(self, session: str) -> None:
        """Tell everybody that there is a session (again)."""
        self._change(session, self.reason)
        self._settled.set()
        self.calls.told = False
        logger.info("signaling: session %s at %s", visible(session, NAME), self.url)
        self.configure()
        for listener in list(self._listeners):
            with self._surviving("a new session"):
                listener.opened(session)

    def _change(self, session: str | None, reason: str) -> None:
        changed = (session, reason) != (self.session, self.reason)
        self.session, self.reason = session, reason
        for callback in list(self._callbacks) if changed else ():
            with self._surviving("a change of signaling"):
                callback()

    def _give_up(self, error: SignalingError) -> None:
        self.failure = error
        self._change(None, one_line(str(error)))
        self._settled.set()
        for listener in list(self._listeners):
            with self._surviving("the end of signaling"):
                listener.failed(error)

    def _hand_round(self, message: AnyMessage) -> None:
        """Give a message to the listeners: what is for one alone to the first that takes it."""
        listeners = list(self._listeners)
        if isinstance(message, Broadcasters):
            self.calls.told = True
        if not isinstance(message, Relayed):
            for listener in listeners:
                with self._surviving(type(message).__name__):
                    listener.received(message)
            return
        if not any(self._takes(listener.received, message) for listener in listeners):
            any(self._takes(listener.unclaimed, message) for listener in listeners)

    def _takes(self, receive: Callable[[AnyMessage], bool], message: AnyMessage) -> bool:
        with self._surviving(type(message).__name__):
            return receive(message)
        return False

    @contextlib.contextmanager
    def _surviving(self, what: str) -> Generator[None]:
        """Keep signaling alive for everybody else if a listener fails at something: that is a bug, so say where."""
        try:
            yield
        except Exception:  # noqa: BLE001 - it is noted, and others may do better
            self._faults.note("%s could not be handled", what)
