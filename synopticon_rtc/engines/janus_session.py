"""A session with a Janus server over WebSocket: requests with their replies, handles with their news, signs of life."""

import asyncio
import contextlib
import itertools
import logging
import ssl as ssl_module
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.signaling.messages import LARGEST, Candidate, Ice, SessionDescription
from synopticon_rtc.signaling.route import find_proxy

PROTOCOL = Subprotocol("janus-protocol")
REPLY_WITHIN = 5.0  # seconds
KEEPALIVE = 10.0  # seconds between signs of life; a session without any ends after 60 s, if not configured otherwise
OPEN_WITHIN = 3.0  # seconds for a WebSocket
FLUSH_WITHIN = 0.5  # seconds

logger = logging.getLogger(__name__)
# websockets tells every message, the token too.
_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.WARNING)

T = TypeVar("T")


class JanusError(SynopticonError):
    """Janus, or its plugin, does not do what it was asked for.

    Attributes:
        code: Why: of ``apierror.h`` from 400 on, of the VideoRoom from 421 to 499.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{words} ({code})")
        self.code = code


class _Error(msgspec.Struct):
    code: int = 0
    reason: str = ""


class _PluginData(msgspec.Struct):
    data: dict[str, Any] = {}


class _Created(msgspec.Struct):
    id: int = 0


class Event(msgspec.Struct):
    """What Janus says of itself, or in reply.

    Attributes:
        janus: What it is: ``event``, ``success``, ``error``, ``ack``, ``webrtcup``, ``hangup``, ``slowlink``, ...
        transaction: That of the request which it replies to.
        sender: The handle that it is about.
        data: The id of what was created.
        plugindata: What the plugin says, which holds ``error_code`` and ``error`` where it refuses something.
        jsep: A session description.
        error: Why Janus refuses a request.
        reason: Why a connection was hung up.
        candidate: A candidate of Janus's, or that there are no more.
        lost: How many packets it lost.
    """

    janus: str
    transaction: str = ""
    sender: int = 0
    data: _Created | None = None
    plugindata: _PluginData | None = None
    jsep: SessionDescription | None = None
    error: _Error | None = None
    reason: str = ""
    candidate: dict[str, Any] = {}
    lost: int = 0

    def ice(self, source: str) -> Ice:
        """Return the candidate as a message from somebody.

        Raises:
            JanusError: It is none.
        """
        ended = "candidate" not in self.candidate
        return Ice(source_session=source, candidate=None if ended else _read(self.candidate, Candidate))

    def read(self, kind: type[T]) -> T:
        """Read what the plugin says.

        Raises:
            JanusError: It is of another version.
        """
        return _read(self.body, kind)

    @property
    def body(self) -> dict[str, Any]:
        """What the plugin says."""
        return {} if self.plugindata is None else self.plugindata.data


def _read(said: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise JanusError(0, f"it says what we do not understand: {error}") from error


_decoder = msgspec.json.Decoder(Event)


class Handle:
    """What stands for us in a plugin: one connection at most.

    Args:
        session: In which it is.
        number: Of the handle.
    """

    def __init__(self, session: "JanusSession", number: int) -> None:
        self._session = session
        self.number = number

    async def request(self, body: dict[str, Any], jsep: SessionDescription | None = None) -> Event:
        """Ask the plugin for something, and return what it says.

        Raises:
            JanusError: It does not do it.
            TimeoutError: There is no reply.
        """
        described = {} if jsep is None else {"jsep": {"type": jsep.type, "sdp": jsep.sdp}}
        return await self._session.request("message", body=body, handle=self.number, **described)

    def hang_up(self) -> None:
        """End the connection, or what there is of it, so that there may be another."""
        self._session.tell("hangup", handle=self.number)

    def trickle(self, message: Ice) -> None:
        """Tell Janus of candidates of ours."""
        if message.candidate is not None:
            self._session.tell("trickle", handle=self.number, candidates=[message.candidate, *message.more])

    def detach(self) -> None:
        """Let go of the handle, and of its connection."""
        self._session.forget(self.number)
        self._session.tell("detach", handle=self.number)


class JanusSession:
    """What is said over one WebSocket to Janus. :func:`open_session` makes it.

    Args:
        connection: The WebSocket.
        secrets: What goes with each request: ``token`` and ``apisecret``.
        faults: What counts errors that nobody foresaw.
    """

    def __init__(self, connection: ClientConnection, secrets: dict[str, str], faults: Faults) -> None:
        self._connection = connection
        self._always: dict[str, Any] = dict(secrets)
        self._faults = faults
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Event]] = {}
        self._handles: dict[int, Callable[[Event], None]] = {}
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()

    async def attach(self, plugin: str, told: Callable[[Event], None]) -> Handle:
        """Make a handle.

        Args:
            plugin: Its plugin.
            told: Called with what comes of it that is no reply.
        """
        event = await self.request("attach", plugin=plugin)
        number = event.data.id if event.data else 0
        self._handles[number] = told
        return Handle(self, number)

    def forget(self, handle: int) -> None:
        """Tell nobody any more what becomes of a handle."""
        self._handles.pop(handle, None)

    async def request(self, what: str, *, handle: int | None = None, **fields: Any) -> Event:  # noqa: ANN401 - JSON
        """Ask for something, and return the reply.

        Raises:
            JanusError: It is refused.
            TimeoutError: There is no reply.
        """
        reply: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        transaction = self.tell(what, handle=handle, **fields)
        self._waiting[transaction] = reply
        try:
            async with asyncio.timeout(REPLY_WITHIN):
                event = await reply
        except TimeoutError:
            raise TimeoutError(f"it does not reply to {what!r} within {REPLY_WITHIN:g} s") from None
        finally:
            del self._waiting[transaction]
        if event.error is not None:
            raise JanusError(event.error.code, event.error.reason)
        if isinstance(code := event.body.get("error_code"), int):
            raise JanusError(code, str(event.body.get("error", "")))
        return event

    def tell(self, what: str, *, handle: int | None = None, **fields: Any) -> str:  # noqa: ANN401 - JSON
        """Send a request, and return the transaction by which the reply will be known."""
        about = {} if handle is None else {"handle_id": handle}
        transaction = f"{what}-{next(self._numbers)}"
        message = {"janus": what, "transaction": transaction} | self._always | about | fields
        self._outgoing.put_nowait(msgspec.json.encode(message).decode())
        return transaction

    async def flush(self) -> None:
        """Wait until what was told is on its way, at most a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_WITHIN):
                await self._outgoing.join()

    async def begin(self) -> None:
        """Create the session."""
        created = await self.request("create")
        self._always["session_id"] = created.data.id if created.data else 0

    async def write(self) -> None:
        """Write what is told, until the WebSocket is lost."""
        while True:
            text = await self._outgoing.get()
            try:
                await self._connection.send(text)
            finally:
                self._outgoing.task_done()

    async def read(self) -> None:
        """Hand round what comes, until the WebSocket is lost, or Janus ends the session."""
        while True:
            text = await self._connection.recv()
            try:
                event = _decoder.decode(text)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                continue  # of another version
            if event.janus == "timeout" and not event.sender:
                raise ConnectionError("it has ended the session")
            self._faults.call(self._take, event)

    def _take(self, event: Event) -> None:
        waiting = self._waiting.get(event.transaction)
        if waiting is None:
            if told := self._handles.get(event.sender):
                try:
                    told(event)
                except JanusError as error:
                    logger.debug("%s", error)
        elif (event.janus != "ack" or event.transaction.startswith("keepalive")) and not waiting.done():
            waiting.set_result(event)

    async def keep_alive(self) -> None:
        """Give signs of life, and find out where there are none of Janus's."""
        while True:
            await asyncio.sleep(KEEPALIVE)
            await self.request("keepalive")


@contextlib.asynccontextmanager
async def open_session(
    url: str, secrets: dict[str, str], ssl: ssl_module.SSLContext | None, faults: Faults
) -> AsyncIterator[JanusSession]:
    """Have a session for as long as this is entered; who is in it is cancelled when it is lost.

    Args:
        url: Of the WebSocket.
        secrets: What goes with each request: ``token`` and ``apisecret``.
        ssl: Which certificates to trust.
        faults: What counts errors that nobody foresaw.

    Raises:
        JanusError: Janus lets nobody in.
        Exception: Nobody is there, or the session was lost: what websockets raises, ``TimeoutError`` or
            ``ConnectionError``.
    """
    tls: dict[str, Any] = {"ssl": ssl} if ssl is not None and url.startswith("wss:") else {}
    async with connect(
        url,
        subprotocols=[PROTOCOL],
        compression=None,
        proxy=find_proxy(url),
        open_timeout=OPEN_WITHIN,
        close_timeout=1,
        ping_interval=None,
        max_size=LARGEST,
        logger=_library_log,
        **tls,
    ) as connection:
        session = JanusSession(connection, secrets, faults)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(work()) for work in (session.read, session.write)]
                await session.begin()
                running.append(tasks.create_task(session.keep_alive()))
                try:
                    yield session
                finally:
                    if not any(task.done() for task in running):  # else it is lost
                        session.tell("destroy")
                        await session.flush()
                    for task in running:
                        task.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
