"""The signaling server: sessions that pass each other messages, and the viewer over HTTP on the same port."""

import asyncio
import contextlib
import errno
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

from websockets.frames import CloseCode

from synopticon_rtc.basics.life import entered_before, not_open
from synopticon_rtc.basics.seldom import Seldom
from synopticon_rtc.errors import PortInUse, SignalingError
from synopticon_rtc.signaling.addresses import PATH, is_loopback, seen_by_others, write_address
from synopticon_rtc.signaling.server.access import CanConnect, roles_meet
from synopticon_rtc.signaling.server.backplane import Backplane
from synopticon_rtc.signaling.server.connection import Connection, Listener
from synopticon_rtc.signaling.server.door import Call, Door
from synopticon_rtc.signaling.server.endpoints import Endpoints, Ingest
from synopticon_rtc.signaling.server.gate import Gate
from synopticon_rtc.signaling.server.http import (
    Head,
    Proxies,
    Refused,
    Request,
    Response,
    check_upgrade,
    lead_to_tls,
)
from synopticon_rtc.signaling.server.hub import Hub
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.invitations import HOLDER_LENGTH
from synopticon_rtc.signaling.server.limits import FULL_EVERY, LINE_EVERY, Limits
from synopticon_rtc.signaling.server.operations import Operations
from synopticon_rtc.signaling.server.session import Session
from synopticon_rtc.signaling.server.site import WEB, Site
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys

WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # told from, not bound to

log = logging.getLogger("synopticon_rtc.signaling.server")


class SignalingServer:
    """A signaling server for Synopticon's pages and peers, at ``/ws``, with the viewer at ``/``.

    Any message feeds a session's idle clock, and an open session is never left out of the relay.

        async with SignalingServer(port=0) as server:
            print(server.url, server.viewer)
            await server.serve_forever()

    Where others than this machine can reach it, it wants TLS, or a proxy in front that has it, and tokens.

    Args:
        host: Address or name to listen on.
        port: TCP port; 0 takes a free one.
        limits: What sessions may do.
        on_session: Called with each session when it is open, and again when it is closed (it then has a ``reason``);
            where it raises, that is logged, and nothing else changes.
        tokens: What clients' tokens are checked with; None lets in clients without.
        can_connect: Asked whether one session may connect to another, for the first message of a pair and for each
            discovery; by default roles decide.
        origins: Pages that may connect, beside those of the server's own origin: ``https://example.org``, ``*`` for
            all, ``null`` for files.
        tls: Certificate and key.
        proxies: Addresses of reverse proxies, whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
        ice_servers: STUN and TURN servers to name to clients.
        backplane: What joins this server with others; None leaves it alone.
        metrics_public: Whether everybody may read ``/metrics``, and not this machine alone.
        insecure: Do without TLS and tokens where others can reach the server.
        ingest: What takes streams that are published by WHIP, and sends them on; None takes none.

    Attributes:
        host: As asked for.
        port: The real port, once it listens.

    Raises:
        PortInUse: On entering, something else listens there.
        SignalingError: On entering, the server cannot listen there for another reason, or would be insecure there.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8081,
        *,
        limits: Limits | None = None,
        on_session: Callable[[Session], object] | None = None,
        tokens: TokenKeys | None = None,
        can_connect: CanConnect = roles_meet,
        origins: Collection[str] = (),
        tls: ssl.SSLContext | None = None,
        proxies: Sequence[str] = (),
        ice_servers: TurnServers | None = None,
        backplane: Backplane | None = None,
        metrics_public: bool = False,
        insecure: bool = False,
        ingest: Ingest | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self._insecure = insecure
        self._tls = tls
        self._proxies = Proxies(proxies)
        self._gate = Gate(tokens, origins, loopback=is_loopback(host) and not proxies)
        self._site = Site(WEB)
        self._hub = Hub(self.limits, can_connect, ice_servers, backplane, on_session or (lambda _: None))
        self._endpoints = Endpoints(self._hub, self._gate, ingest, ice_servers)
        self._operations = Operations(self._hub, public=metrics_public)
        self._server = Door(
            lambda call: Connection(self._answer, call, self.limits, self._hub.faults),
            self.limits,
            tls,
            self._proxies.__contains__,
        )
        self._refused_lines = Seldom(LINE_EVERY)
        self._origin_lines = Seldom(FULL_EVERY)
        self._watch: asyncio.Task[None]
        self._stack: contextlib.AsyncExitStack
        self._entered = False

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The open sessions, by id."""
        return self._hub.sessions

    @property
    def url(self) -> str:
        """The address of the signaling, as clients on this machine reach it."""
        return self._at("ws", WILDCARDS.get(self.host, self.host)) + PATH

    @property
    def public_url(self) -> str:
        """The address of the signaling, as clients reach it, on other machines too if the server is for them."""
        return self._at("ws", seen_by_others(self.host)) + PATH

    @property
    def viewer(self) -> str:
        """The address of the viewer page, as browsers reach it, on other machines too if the server is for them."""
        return self._at("http", seen_by_others(self.host)) + "/"

    @property
    def uptime(self) -> float:
        """Seconds since the server was made."""
        return self._hub.uptime

    @property
    def total_sessions(self) -> int:
        """All sessions so far."""
        return self._hub.counts.sessions

    @property
    def relayed(self) -> int:
        """Messages passed on so far."""
        return self._hub.counts.relayed

    async def __aenter__(self) -> Self:
        if self._entered:
            raise entered_before(self)
        self._entered = True
        where = write_address(self.host, self.port)
        self._refuse_to_be_insecure(where)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._hub.cluster)
            try:
                self.port = await self._server.open(self.host, self.port)
            except (OSError, OverflowError, UnicodeError) as error:
                if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                    raise PortInUse(f"{where} is in use: stop what listens there, or choose another port") from error
                raise SignalingError(f"cannot listen on {where}: {error}; choose another host or port") from error
            stack.push_async_callback(self._stop)
            self._watch = asyncio.create_task(self._end_idle_sessions())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _stop(self) -> None:
        self._watch.cancel()
        self._server.close()
        await self._endpoints.close()
        self._hub.end_all(CloseCode.GOING_AWAY, "")
        try:
            async with asyncio.timeout(self.limits.close):
                await self._server.wait_closed()
        except TimeoutError:
            pass  # clients that do not answer the close, and browsers' spare connections that never asked for anything
        finally:
            self._server.cut()
            await self._server.wait_closed()
            await self._hub.close()

    async def serve_forever(self) -> None:
        """Serve until cancelled. Raises :class:`RuntimeError` if it was not entered."""
        if not self._entered:
            raise not_open(self)
        await self._server.wait_closed()

    async def drain(self, seconds: float) -> None:
        """Take no new sessions, and close the open ones with 1012 after so many seconds."""
        if not self._entered:
            raise not_open(self)
        log.info("draining: %d sessions have %g s", len(self.sessions), seconds)
        await self._hub.drain(seconds)

    def _at(self, scheme: str, host: str) -> str:
        if not self.port:  # which one it is, is known once it listens
            raise not_open(self)
        secured = "s" if self._tls else ""
        return f"{scheme}{secured}://{write_address(host, self.port)}"

    def _refuse_to_be_insecure(self, where: str) -> None:
        if self._insecure or is_loopback(self.host):
            return
        missing = {
            "TLS (or a proxy that has it)": self._tls or self._proxies,
            "tokens": self._gate.keys,
        }
        if lacking := " and ".join(what for what, there in missing.items() if not there):
            raise SignalingError(
                f"cannot listen on {where} without {lacking}, as others than this machine can reach it there: "
                "set them up (--tls-self makes a certificate, --token-secret-file names the secret of tokens, and "
                "broadcast and receive make one with --invite), listen on 127.0.0.1, or ask for an insecure server "
                "(insecure=True, --insecure)"
            )

    def _answer(self, head: Head, body: bytes, call: Call) -> Listener | Response | Awaitable[Response]:
        request = self._proxies.read(head, call.host, secure=call.secure, body=body)
        if self._tls and not (call.secure or request.secure):  # a proxy may have TLS in front, and none behind it
            return lead_to_tls(head)
        if self._endpoints.covers(request):
            return self._endpoints.answer(request, self._check)
        if request.path != PATH:
            return self._operations.respond(request) or self._site.respond(request)
        claims, holder = self._check(request)
        # Only now, as pages cannot read why an upgrade is turned down, and ask for it without one.
        check_upgrade(request)
        port = call.port if request.address == call.host else None
        listener = self._hub.admit(claims, request.address, port, holder)
        if isinstance(listener, Session):
            call.admit()
        return listener

    def _check(self, request: Request) -> tuple[Claims, str]:
        try:
            claims = self._gate.admit(request, draining=self._hub.draining)
            holder = request.query.get("holder", "")[:HOLDER_LENGTH]
            self._hub.invitations.check(claims.invitation, claims.room or "", holder)
        except Refused as refused:
            self._hub.counts.refused[refused.code] += 1
            if refused.code == "wrong_origin" and self._origin_lines.take() is not None:
                log.warning("%s", refused.message)  # whoever runs the server can mend it, and sees no browser's console
            if (more := self._refused_lines.take()) is not None:
                fields = {"address": request.address, "code": refused.code} | ({"more": more} if more else {})
                log.info(
                    "request from %s refused: %s",
                    request.address,
                    refused.code,
                    extra={"event": "request_refused", "fields": fields},
                )
            raise
        else:
            return claims, holder

    async def _end_idle_sessions(self) -> None:
        while True:
            await asyncio.sleep(min(self.limits.idle, self.limits.first) / 4)
            self._hub.faults.call(self._hub.end_idle)
