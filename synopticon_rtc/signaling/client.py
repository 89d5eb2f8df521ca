"""A session with a signaling server that outlives its connections."""

import asyncio
import contextlib
import copy
import logging
import random
import secrets
import ssl as ssl_module
import time
from collections import deque
from collections.abc import Generator
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode

from synopticon_rtc.basics.text import check_text
from synopticon_rtc.errors import InvalidMessage, SignalingError
from synopticon_rtc.signaling.entry import Refusal, Token, authorization, held_by, read_address, read_refusal
from synopticon_rtc.signaling.messages import (
    AnyMessage,
    Configure,
    Configured,
    Connected,
    Draining,
    Error,
    Ice,
    Message,
    Ping,
    Pong,
    Relayed,
    Requirements,
    decode,
    encode,
    one_line,
)
from synopticon_rtc.signaling.route import Trouble, explain, find_proxy
from synopticon_rtc.signaling.session import Signaling

logger = logging.getLogger(__name__)
# websockets tells every header, the token too.
_library_log = logging.getLogger(f"{__name__}.websockets")
_library_log.setLevel(logging.WARNING)

KEEPALIVE = 5.0  # seconds between signs of life, for both idle clocks of the published servers
SILENCE = 12.0  # seconds without the echo of one after which the session is deaf or the server gone
WELCOME_WITHIN = 10.0  # seconds
SLOWEST_RETRY = 4.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 4.0  # seconds of silence once the server found us too fast
LONGEST_TTL = 1e9  # seconds; who says more means for ever
REFRESH_AT = 0.75  # of the time for which credentials hold, fresh ones are asked for
RENEW_WITHIN = 60.0  # seconds in which a token that is too old, or too new for the server's clock, is asked for again
COMPLAINTS = 100  # different ones of messages that are none, which are told
OWN_SESSIONS = 16  # that are known as ours after they ended here
UNTIMELY = ("token_expired", "token_immature")
UNAUTHORIZED, FORBIDDEN = 401, 403  # HTTP (RFC 9110)


def _retry_delays() -> Generator[float]:
    """Exponential backoff with jitter, in seconds."""
    delay = 0.2
    while True:
        yield delay * random.uniform(0.5, 1)  # noqa: S311 - spreads clients, keeps no secret
        delay = min(2 * delay, SLOWEST_RETRY)


def _is_secure(address: str) -> bool:
    return address.startswith(("wss:", "https:"))


class _Connection(ClientConnection):
    async def close(self, code: CloseCode | int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        # websockets 17 aborts a lost transport here, on which asyncio fails where the server had left data unread.
        if not self.connection_lost_waiter.done():
            await super().close(code, reason)


class SignalingClient(Signaling):
    """Keeps a session with a Synopticon signaling server, reconnecting whenever it is lost.

    Several :class:`~synopticon_rtc.Broadcaster` and :class:`~synopticon_rtc.Receiver` objects may share one client;
    each enters it as an async context manager, and the last to leave closes it. Messages sent while there is no session
    are dropped: the handshake repeats what matters.

    Args:
        url: Address of the server, for example ``ws://localhost:8081/ws``. A ``room`` and a ``token`` in its query are
            used as if they were given by themselves.
        room: The room of the server to meet in; empty for that of all who name none, or the one of the token.
        token: What the server wants to see of those that it lets in. A function (it may be a coroutine function) is
            called before each connection, so that an expired token can be replaced: one that the server finds expired,
            or not good yet, is asked for again for a minute. Without a function, the client gives up when the token has
            expired.
        ssl: Which certificates of ``wss://`` servers to trust; by default those that the system trusts, and those of
            the file that the environment variable ``SSL_CERT_FILE`` names.

    Servers on other machines are asked by the proxy that the environment names (``HTTPS_PROXY``, ``NO_PROXY``).

    Raises:
        InvalidURL: ``url`` is no ``ws://`` or ``wss://`` address.
        ValueError: ``room`` is no text that UTF-8 can write.
        TypeError: ``room`` is no text, ``token`` neither one nor a function, or ``ssl`` no context.
    """

    def __init__(
        self, url: str, *, room: str = "", token: Token | None = None, ssl: ssl_module.SSLContext | None = None
    ) -> None:
        _check(room, token, ssl)
        address, inside, self._login = read_address(url, room)
        self._token = token or inside
        self._holder = secrets.token_urlsafe(12)  # of an invitation, if the token is one
        self._ssl = ssl
        self._set_up(address)

    def _set_up(self, address: str) -> None:
        """Become what a client is that nobody has."""
        super().__init__(address)
        self._complained: set[str] = set()
        self._sessions: deque[str] = deque(maxlen=OWN_SESSIONS)

    def meets(self, other: Signaling) -> bool:
        """Whether both are for the same room, as far as that can be told without asking the server."""
        same = isinstance(other, SignalingClient) and self._token == other._token  # noqa: SLF001 - as below
        return same and self.url == other.url

    def another(self) -> Self:
        """Return one more client, with a session of its own, of the same server, room and token."""
        client = copy.copy(self)
        client._set_up(self.url)  # noqa: SLF001 - as above
        return client

    def _forget(self) -> None:
        super()._forget()
        self._refused_first = self._refused_last = float("-inf")  # of the refusals in a row, on the loop's clock
        self._missed = False
        self._met = False
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._stale_at = float("inf")  # the credentials of the ICE servers, on the same
        self._resume_at = float("-inf")  # sending, on the same
        self._pause = FIRST_PAUSE

    def configure(self) -> None:
        """Tell the server who listens here, and what they want to be told."""
        all_of = [listener.requirements for listener in self._listeners]
        requirements = Requirements(
            role=tuple(dict.fromkeys(role for one in all_of for role in one.role)),
            tell=tuple(dict.fromkeys(what for one in all_of for what in one.tell)),
            name=next((one.name for one in all_of if one.name), ""),
        )
        self.send(Configure(requirements=requirements))

    def send(self, message: Message) -> None:
        """Send a message, or drop it while there is no session."""
        if self.session is not None:
            self._outgoing.put_nowait(encode(message))

    async def flush(self) -> None:
        """Wait until what was sent is on its way, at most a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._outgoing.join()

    async def _stay_connected(self) -> None:
        """Connect, and connect again, until the server refuses for good: then raise why."""
        delays = _retry_delays()
        while True:
            begun = time.monotonic()
            proxy = find_proxy(self.url)
            try:
                connection = await self._connect(proxy)
            except SignalingError:
                raise
            except Exception as error:  # noqa: BLE001 - raised again where it is final
                self._not_there(error, proxy)
            else:
                self._refused_last = float("-inf")
                try:
                    await self._converse(connection)
                except (ConnectionClosed, TimeoutError) as error:
                    if self.session is None:
                        self._try_again(explain(error, self.url, proxy))
                    else:
                        self._interrupted(error)
                    if time.monotonic() - begun > SLOWEST_RETRY:  # not thrown out as soon as it was welcome
                        delays = _retry_delays()
                finally:
                    await connection.close()
            await asyncio.sleep(next(delays))

    async def _connect(self, proxy: str | None) -> ClientConnection:
        tls: dict[str, Any] = {}
        names = [name for name, address in (("ssl", self.url), ("proxy_ssl", proxy or "")) if _is_secure(address)]
        if names:
            if self._ssl is None:
                self._ssl = await asyncio.to_thread(ssl_module.create_default_context)  # reads certificates for 30 ms
            tls = dict.fromkeys(names, self._ssl)
        return await connect(
            held_by(self.url, self._holder) if self._token else self.url,
            additional_headers=await authorization(self._token, self._login),
            compression=None,
            proxy=proxy,
            ping_interval=None,
            close_timeout=1,
            max_size=16 * 2**20,
            logger=_library_log,
            create_connection=_Connection,
            **tls,
        )

    def _not_there(self, error: Exception, proxy: str | None) -> None:
        """Note why a connection attempt failed; raise it where another one will fail as well."""
        trouble = explain(error, self.url, proxy)
        final = trouble.final and not self._met  # what worked once will work again: somebody is at it
        if isinstance(error, InvalidStatus) and error.response.status_code in (UNAUTHORIZED, FORBIDDEN):
            final = not self._may_be_renewed(read_refusal(error.response))
        if final:
            raise SignalingError(f"{self.url} {trouble.verdict}: {trouble.reason}") from error
        self._try_again(trouble)

    def _may_be_renewed(self, refusal: Refusal | None) -> bool:
        """Whether another token may do, or the same one a little later."""
        if not callable(self._token):
            return False
        now = asyncio.get_running_loop().time()
        last, self._refused_last = self._refused_last, now
        if now > last + RENEW_WITHIN:  # a server that was away meanwhile has nothing to do with the last time
            self._refused_first = now
            return True
        return refusal is not None and refusal.error in UNTIMELY and now < self._refused_first + RENEW_WITHIN

    def _try_again(self, trouble: Trouble) -> None:
        level = logging.INFO if self._missed else logging.WARNING
        logger.log(level, "signaling server %s %s (%s), trying again", self.url, trouble.verdict, trouble.reason)
        self._missed = True
        self._change(None, trouble.reason)

    def _interrupted(self, error: Exception) -> None:
        self._settled.clear()
        self._outgoing = asyncio.Queue()
        self._change(None, one_line(str(error)) or "no sign of life")
        logger.warning("signaling interrupted (%s), reconnecting to %s", self.reason, self.url)

    async def _converse(self, connection: ClientConnection) -> None:
        """Run one connection until it ends; always raises."""
        async with asyncio.timeout(WELCOME_WITHIN):
            while not isinstance(welcome := self._decode(await connection.recv()), Connected | Configured):
                pass
        session = welcome.session_id
        self.ice_servers, self._stale_at = None, float("inf")
        self._take_ice_servers(welcome)
        self._missed = False
        self._met = True
        self._sessions.append(session)
        self._begin(session)
        heard = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(connection))
                tasks.create_task(self._keep_alive(session, heard))
                while True:
                    data = await connection.recv()
                    message = self._decode(data)
                    if isinstance(message, Relayed) and message.source_session == session:
                        heard.set()
                    elif isinstance(message, Configured):
                        self._take_ice_servers(message)
                    elif message is not None and not isinstance(message, Pong):
                        self._dispatch(message)
        except* (ConnectionClosed, TimeoutError) as group:
            raise group.exceptions[0] from None

    async def _write(self, connection: ClientConnection) -> None:
        outgoing = self._outgoing
        while True:
            text = await outgoing.get()
            try:
                if (pause := self._resume_at - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(pause)
                await connection.send(text)
            finally:
                outgoing.task_done()

    async def _keep_alive(self, session: str, heard: asyncio.Event) -> None:
        """Feed both idle clocks, and notice a session that has gone deaf by the missing echo."""
        while True:
            heard.clear()
            self.send(Ping(timestamp=time.time_ns() // 1_000_000))
            self.send(Ice(target_session=session))
            if asyncio.get_running_loop().time() >= self._stale_at:
                self.configure()
            async with asyncio.timeout(SILENCE - KEEPALIVE):
                await heard.wait()
            await asyncio.sleep(KEEPALIVE)

    def _take_ice_servers(self, message: Connected | Configured) -> None:
        if message.ice_servers is not None:
            self.ice_servers = message.ice_servers
            ttl = message.ice_servers_ttl
            lasts = REFRESH_AT * ttl if isinstance(ttl, int | float) and 0 < ttl < LONGEST_TTL else float("inf")
            self._stale_at = asyncio.get_running_loop().time() + lasts

    def _dispatch(self, message: AnyMessage) -> None:
        match message:
            case Error(error_code="rate_limited", error=text):
                logger.warning("signaling server: %s", one_line(text))
                self._hold_back()
            case Error(error_code="name_taken", error=text, target_session=other):
                if other not in self._sessions:  # else it is ourselves, before signaling was lost
                    logger.warning("signaling server: %s", one_line(text))
            case Error(error=text):
                logger.info("signaling server: %s", one_line(text))
            case Draining(seconds=seconds):
                logger.info("signaling server: it ends in %s s", one_line(str(seconds)))
            case _:
                pass
        self._hand_round(message)

    def _hold_back(self) -> None:
        """Send nothing for a while, longer each time that the server says so again soon after."""
        now = asyncio.get_running_loop().time()
        if now >= self._resume_at:
            again = now < self._resume_at + LONGEST_PAUSE
            self._pause = min(2 * self._pause, LONGEST_PAUSE) if again else FIRST_PAUSE
            self._resume_at = now + self._pause

    def _decode(self, data: str | bytes) -> AnyMessage | None:
        try:
            return decode(data)
        except InvalidMessage as error:
            complaint = one_line(str(error.__cause__ or error))
            new = complaint not in self._complained and len(self._complained) < COMPLAINTS
            if new:
                self._complained.add(complaint)
            logger.log(logging.WARNING if new else logging.DEBUG, "%s", error)
            return None


def _check(room: object, token: object, ssl: object) -> None:
    """Refuse what no client can use."""
    check_text("room", room)
    if not (token is None or isinstance(token, str) or callable(token)):
        raise TypeError(f"token must be a text or a function that returns one, not {type(token).__name__}")
    if not isinstance(ssl, ssl_module.SSLContext | None):
        raise TypeError(f"ssl must be a context, like ssl.create_default_context(cafile='ca.pem'), not {ssl!r:.100}")


def as_client(signaling: object) -> Signaling:
    """Return a client for an address, and a client as it is.

    Raises:
        TypeError: It is neither.
        InvalidURL: It is no address of a signaling server.
    """
    if isinstance(signaling, Signaling):
        return signaling
    if isinstance(signaling, str):
        return SignalingClient(signaling)
    what = signaling.__name__ if isinstance(signaling, type) else repr(signaling)
    raise TypeError(f"signaling must be an address like ws://localhost:8081/ws or a SignalingClient, not {what:.100}")
