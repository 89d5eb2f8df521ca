"""Carries out a handshake: between a signaling client and peer connections."""

import asyncio
import dataclasses
import errno
import functools
import itertools
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.text import NAME, WORDS, visible
from synopticon_rtc.errors import InvalidIceServer, SignalingError, SynopticonError
from synopticon_rtc.rtc import IceServer, PeerConnection
from synopticon_rtc.signaling.actions import (
    Action,
    AddCandidate,
    ApplyAnswer,
    Ask,
    Check,
    Close,
    CreateAnswer,
    CreateOffer,
    Fail,
    Notify,
    Send,
    Withdraw,
)
from synopticon_rtc.signaling.handshake import Handshake
from synopticon_rtc.signaling.messages import AnyMessage, Candidate, Discovery, Offer, Relayed, Requirements
from synopticon_rtc.signaling.session import Signaling
from synopticon_rtc.tracing import Signal, State, Trace

logger = logging.getLogger(__name__)

CLOSE_WITHIN = 5.0  # seconds for the last goodbyes; a connection that needs longer is left to itself
CLOSING = 64  # connections that are closing, while which nobody can have another one opened
_PASSWORD = re.compile(r"^(a=ice-pwd:)[^\r\n]*", re.MULTILINE)
ICE_SERVERS = 16  # that a signaling server may name; each is asked at every connection


class _NamedServer(msgspec.Struct):
    """A server as W3C's RTCIceServer describes it (WebRTC 4.2.2)."""

    urls: str | list[str]
    username: str | None = None
    credential: str | None = None


def _usable(named: object) -> Iterator[IceServer]:
    """Read what a signaling server names, and leave out what cannot be used, like ``stuns:`` addresses."""
    try:
        servers = msgspec.convert(named, list[_NamedServer]) if named is not None else []
    except msgspec.ValidationError as error:
        logger.warning("the ICE servers that the signaling server names are not used: %s", error)
        return
    urls = ((url, server) for server in servers for url in _urls(server))
    for url, server in itertools.islice(urls, ICE_SERVERS):
        try:
            yield IceServer(url, server.username, server.credential)
        except InvalidIceServer as error:
            logger.warning("an ICE server that the signaling server names is not used: %s", error)


def _urls(server: _NamedServer) -> list[str]:
    return [server.urls] if isinstance(server.urls, str) else server.urls


def _without_secrets(message: Relayed) -> dict[str, Any]:
    """Return a message as it goes over the wire, but for the password with which ICE signs its checks."""
    told: dict[str, Any] = msgspec.to_builtins(message, enc_hook=str)
    if isinstance(sdp := told.get("sdp"), dict):
        sdp["sdp"] = _PASSWORD.sub(r"\1...", str(sdp.get("sdp", "")))
    return told


def _shortage(error: OSError) -> str:
    advice = ": raise the limit (ulimit -n, LimitNOFILE=)" if error.errno in {errno.EMFILE, errno.ENFILE} else ""
    return f"{error.strerror or error}{advice}"


@dataclass(slots=True, eq=False)
class _Peer:
    """A peer connection, and the steps that are taken on it in order."""

    session: str
    connection: PeerConnection
    steps: asyncio.Queue[Callable[[], Awaitable[None]]] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    told: bool = False  # that a candidate of its cannot be used: it may have any number of them


class Negotiator:
    """Drives one handshake: feeds it messages, time and the news of peer connections, and does what it says.

    Every link has a task of its own, so a peer that is slow holds up nobody else.

    Args:
        client: Where messages come from and go to.
        handshake: What decides.
        open_peer: Makes the peer connection that an action asks for; where it fails, nothing is to be closed.
        close_peer: Told that the peer connection of a link is closing.
        notify: Told of every change of state.
        failed: Told that signaling is gone for good.
        admit: Asked whether a receiver may watch, where the handshake wants to know.
        choose: Gives the media sections of an offer to receive, None for the first video alone.
        trace: Where all of it is written down.
        faults: What counts errors that nobody foresaw.

    Attributes:
        handshake: What decides.
    """

    def __init__(
        self,
        client: Signaling,
        handshake: Handshake,
        *,
        open_peer: Callable[[CreateOffer | CreateAnswer], PeerConnection],
        close_peer: Callable[[int], None],
        notify: Callable[[Notify], None],
        failed: Callable[[SignalingError], None],
        admit: Callable[[Ask], Awaitable[bool]] | None = None,
        choose: Callable[[Offer], Collection[str] | None] = lambda _: None,
        trace: Trace | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.handshake = handshake
        self._failed = failed
        self._client = client
        self._open_peer = open_peer
        self._close_peer = close_peer
        self._notify = notify
        self._admit = admit
        self._choose = choose
        self._trace = trace or Trace(None, "")
        self._faults = faults or Faults()
        self._named: object = None  # what the signaling server said of ICE servers, and what of it can be used
        self._ice_servers: tuple[IceServer, ...] = ()
        self._peers: dict[int, _Peer] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._asking: dict[str, asyncio.Task[bool]] = {}  # by the session of who waits to be admitted
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._trace.watch(self._write_figures)
        await self._client.__aenter__()
        self._client.listen(self)
        return self

    async def __aexit__(self, *exception: object) -> None:
        try:
            self._client.leave(self)
            asking = set(self._asking.values())
            self.perform(self.handshake.stop("closed"))
            await self._client.flush()
            await self._wait_closed(asking)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await self._client.__aexit__(*exception)

    async def _wait_closed(self, asking: set[asyncio.Task[bool]]) -> None:
        closing: set[asyncio.Task[Any]] = self._closing | asking
        if not closing:
            return
        _, late = await asyncio.wait(closing, timeout=CLOSE_WITHIN)
        for task in late:
            self._faults.warn(logger, "%s takes more than %g s: it is left to itself", task.get_name(), CLOSE_WITHIN)

    @property
    def requirements(self) -> Requirements:
        """What the signaling server is told of us."""
        return self.handshake.requirements

    def ice_servers(self) -> tuple[IceServer, ...]:
        """The STUN and TURN servers that the signaling server names."""
        if self._named is not self._client.ice_servers:
            self._named = self._client.ice_servers
            self._ice_servers = tuple(_usable(self._named))
        return self._ice_servers

    # What the signaling client tells

    def opened(self, session: str) -> None:
        """Signaling is (again) there and gave us this session."""
        self.perform(self.handshake.opened(session, self._loop.time()))

    def received(self, message: AnyMessage) -> bool:
        """Take a message; False leaves it to others."""
        if isinstance(message, Discovery | Offer) and len(self._closing) >= CLOSING:
            return True  # somebody opens and closes connections as fast as they can
        actions = self.handshake.received(message, self._loop.time())
        if actions and isinstance(message, Relayed):
            self._write_signal(message, message.source_session, sent=False)
        self.perform(actions)
        return bool(actions)

    def unclaimed(self, message: AnyMessage) -> bool:
        """Let go of what nobody took."""
        actions = self.handshake.unclaimed(message)
        self.perform(actions)
        return bool(actions)

    def failed(self, error: SignalingError) -> None:
        """Signaling is gone for good."""
        self._failed(error)

    # What peer connections tell

    def changed(self, link: int, state: str) -> None:
        """The peer connection of a link changed its state."""
        if state == "connected":
            self.perform(self.handshake.connected(link))
        elif state == "failed":
            peer = self._peers.get(link)
            self.lost(link, (peer and peer.connection.failure) or "the connection failed")
        elif state == "closed":
            self.lost(link, "the connection was closed by the other side")

    def reached(self, link: int) -> None:
        """The peer has our description: datagrams pass both ways."""
        self.handshake.reached(link)
        self._arm()

    def lost(self, link: int, reason: str) -> None:
        """The peer connection of a link is of no use any more."""
        self.perform(self.handshake.lost(link, reason, self._loop.time()))

    def gathered(self, link: int, candidate: Candidate | None) -> None:
        """A local candidate came after the description was sent."""
        self.perform(self.handshake.gathered(link, candidate, self._loop.time()))

    def do(self, link: int, step: Callable[[], Awaitable[None]]) -> None:
        """Take one more step on the peer connection of a link, after those that wait; an error of it ends the link."""
        if peer := self._peers.get(link):
            peer.steps.put_nowait(step)

    def perform(self, actions: list[Action]) -> None:
        """Do what the handshake says."""
        try:
            self._carry_out(actions)
        finally:
            self._arm()

    # Within

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(message):
                    self._send(message)
                case CreateOffer(link) | CreateAnswer(link):
                    if reason := self._open(action):
                        self.lost(link, reason)
                case ApplyAnswer(link) | AddCandidate(link) | Check(link):
                    if peer := self._peers.get(link):  # else it could not be opened
                        peer.steps.put_nowait(functools.partial(self._step, peer, action))
                case Close(link):
                    self._close(link)
                case Notify():
                    self._tell(action)
                case Fail() | Ask() | Withdraw():
                    self._turn_to_application(action)

    def _turn_to_application(self, action: Fail | Ask | Withdraw) -> None:
        match action:
            case Fail(reason):
                self.failed(SignalingError(reason))
            case Ask(session):
                self._asking[session] = task = asyncio.create_task(self._ask(action), name=f"admitting {session}")
                task.add_done_callback(functools.partial(self._answered, session))
            case Withdraw(session):
                self._asking.pop(session).cancel()

    async def _ask(self, action: Ask) -> bool:
        return self._admit is not None and bool(await self._admit(action))

    def _answered(self, session: str, task: asyncio.Task[bool]) -> None:
        """Take what the application says of a receiver; one that it fails at is not admitted."""
        error = None if task.cancelled() else task.exception()
        if self._asking.get(session) is not task:
            return
        del self._asking[session]
        if error is not None:
            self._faults.note("peer %s is not admitted", visible(session, NAME), error=error)
        admitted = not task.cancelled() and error is None and task.result()
        self.perform(self.handshake.judged(session, self._loop.time(), admitted=admitted))

    def _tell(self, change: Notify) -> None:
        reason, session = visible(change.reason, WORDS), change.session  # some are others' words
        logger.info("%s%s: %s", f"peer {visible(session, NAME)} " if session else "", change.state, reason)
        self._trace.write(State(state=change.state, reason=reason), session)
        self._notify(dataclasses.replace(change, reason=reason))

    def _send(self, message: Relayed) -> None:
        self._write_signal(message, str(message.target_session or ""), sent=True)
        self._client.send(message)

    def _write_signal(self, message: Relayed, peer: str, *, sent: bool) -> None:
        if self._trace.is_on:  # else descriptions would be read once more for nothing
            self._trace.write(Signal(sent=sent, message=_without_secrets(message)), peer)

    def _write_figures(self) -> None:
        for peer in self._peers.values():
            peer.connection.write_figures()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self.handshake.next_tick()
        self._timer = None if due == float("inf") else self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.perform(self.handshake.tick(self._loop.time()))
        except Exception:  # noqa: BLE001 - it is noted, and whatever comes next sets the clock again
            self._faults.note("what was due of a handshake failed")

    def _open(self, action: CreateOffer | CreateAnswer) -> str:
        """Open a peer connection; where that fails, return why: whatever it is, it ends this link alone."""
        try:
            connection = self._open_peer(action)
        except SynopticonError as error:
            return str(error)
        except Exception:  # noqa: BLE001 - it is noted, and this peer told
            self._faults.note("peer %s could not be connected to", visible(action.session, NAME))
            return "an error of ours, see the log"
        peer = _Peer(action.session, connection)
        self._peers[action.link] = peer
        peer.steps.put_nowait(functools.partial(self._describe, action, peer.connection))
        peer.task = asyncio.create_task(self._work(action.link, peer), name=f"peer {action.session}")
        return ""

    async def _describe(self, action: CreateOffer | CreateAnswer, connection: PeerConnection) -> None:
        match action:
            case CreateOffer():
                sdp = await connection.offer()
            case CreateAnswer(asked=offer):
                sdp = await connection.answer(offer.sdp.sdp, self._choose(offer), whole=offer.is_whole)
                if offer.refuses("ice"):
                    sdp = await connection.complete(sdp)
        self.perform(self.handshake.described(action.link, sdp, self._loop.time()))

    async def _step(self, peer: _Peer, action: ApplyAnswer | AddCandidate | Check) -> None:
        match action:
            case ApplyAnswer(sdp=sdp):
                await peer.connection.set_answer(sdp)
            case AddCandidate(candidate=candidate):
                await self._add_candidate(peer, candidate)
            case Check(link, reason):
                if not await peer.connection.answers():
                    self.lost(link, reason)

    async def _add_candidate(self, peer: _Peer, candidate: Candidate | None) -> None:
        try:
            if candidate is None:
                await peer.connection.add_candidate(None, None, None)
            else:
                text, mid, index = candidate.candidate, candidate.sdp_mid, candidate.sdp_m_line_index
                await peer.connection.add_candidate(text, mid, index)
        except SynopticonError as error:
            if peer.told:
                logger.debug("peer %s: %s", visible(peer.session, NAME), error)
            else:
                self._faults.warn(logger, "peer %s: %s", visible(peer.session, NAME), error)
            peer.told = True

    async def _work(self, link: int, peer: _Peer) -> None:
        try:
            while True:
                step = await peer.steps.get()
                await step()
        except SynopticonError as error:
            self._faults.warn(logger, "peer %s: %s", visible(peer.session, NAME), error)
            self.lost(link, str(error))
        except OSError as error:  # what the system has no more of, as of open files
            reason = _shortage(error)
            self._faults.warn(logger, "peer %s: %s", visible(peer.session, NAME), reason)
            self.lost(link, reason)
        except Exception:  # noqa: BLE001 - it is noted, and this peer ends
            self._faults.note("the connection to peer %s ends", visible(peer.session, NAME))
            self.lost(link, "an error of ours, see the log")

    def _close(self, link: int) -> None:
        peer = self._peers.pop(link, None)
        if peer is not None:
            closing = asyncio.create_task(self._finish(peer), name=f"closing {peer.session}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._close_peer(link)

    async def _finish(self, peer: _Peer) -> None:
        if peer.task is not None:
            peer.task.cancel()
            await asyncio.wait([peer.task])
            peer.task = None  # its error holds the peer
        try:
            await peer.connection.close()
        except Exception:  # noqa: BLE001 - it is noted; what is left of it ends with the process
            self._faults.note("peer %s could not be closed", visible(peer.session, NAME))
