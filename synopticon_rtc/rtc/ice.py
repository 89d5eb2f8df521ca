"""ICE (RFC 8445) that publishes host candidates at once, slower ones later, and notices a dead peer in seconds."""

import asyncio
import contextlib
import copy
import ipaddress
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, cast

from aioice import Candidate, Connection, TransportPolicy, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import (
    ICE_COMPLETED,
    CandidatePair,
    StunProtocol,
    get_or_create_mdns_protocol,
)
from aioice.mdns import MDnsProtocol, is_mdns_hostname

from synopticon_rtc.basics import clock
from synopticon_rtc.rtc import seams
from synopticon_rtc.rtc.network import LOOPBACK, LocalNetwork, host_addresses
from synopticon_rtc.rtc.sdp import is_reachable
from synopticon_rtc.rtc.servers import MAX_ADDRESSES, IceServer, addresses_of, reflexive_candidate, relayed_protocol
from synopticon_rtc.rtc.sorting import SortingProtocol
from synopticon_rtc.tracing import Note, Pair, ignore

logger = logging.getLogger(__name__)

CHECK_BURST = 10
"""Checks that go out together; those after them keep the distance of RFC 8445 section 14.2."""
CHECK_INTERVAL = 0.005
CONNECT_TIMEOUT = 15.0
CONSENT_INTERVAL = 1.0
SILENCE_LIMIT = 3
"""Checks in a row without an answer and without anything else heard, after which the peer is taken for dead."""
CONSENT_LIMIT = 30
"""Checks in a row without an answer after which sending must stop, whatever else is heard (RFC 7675 section 5.1)."""
ANSWER_CHECKS = 4
ANSWER_INTERVAL = 0.15
"""Where there is reason to think that the peer is gone, so many checks go out, so many seconds apart."""
MAX_REMOTE_CANDIDATES = 64
SERVER_TIMEOUT = 5.0
STUN_TIMEOUT = 4.0
GATHER_WITHIN = 2.0
"""For what goes into a description after which nothing more can be told; who asks for it by HTTP waits meanwhile."""
NO_ANSWER = TimeoutError, OSError, stun.TransactionError, ValueError, KeyError
"""What comes of asking a server that is not there, or is none."""
MAX_PROVEN = 128
"""Addresses from which a peer may send, in the life of a connection."""
MAX_NAMES = 16
"""Candidates with a name that are looked up for a peer; each is a question to everybody on the local network."""
LARGEST_MDNS = 1500
MAX_PAIRS = 100
"""Pairs that are checked (RFC 8445 section 6.1.2.5)."""
MAX_SWITCHES = 8
"""How often the peer may have us change roles; each time checks begin anew."""
MAX_WAITING = 1024
"""Datagrams that wait while nobody reads them: twice what is taken in one turn of the event loop."""
MAX_WAITING_BYTES = 2**20
SETTLING = 1.0
"""Seconds after a pair is chosen in which the peer may still choose another; then the other sockets are closed."""


class DatagramTransport(Protocol):
    """What asyncio's datagram transports can do, and its base class does not say."""

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send a datagram, or queue it where the system does not take it."""

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes queued."""
        ...


class MdnsResolver(MDnsProtocol):
    """aioice's, which anybody on the network may send to: it listens while it asks, and survives what comes."""

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Take an answer."""
        if self.queries and len(data) <= LARGEST_MDNS:
            with contextlib.suppress(Exception):  # dnspython's errors are many, and aioice expects one kind of them
                super().datagram_received(data, addr)


class IceConnection(Connection):
    """The ICE connection of one peer.

    Host candidates are all that :meth:`gather_candidates` waits for. What servers have to say is asked by
    :meth:`trickle`, each in its own task; with ``relay_only`` there are no host candidates, so
    :meth:`gather_candidates` waits for the first TURN server that answers.
    """

    def __init__(
        self,
        *,
        ice_controlling: bool,
        local_username: str,
        local_password: str,
        servers: Sequence[IceServer],
        relay_only: bool,
        on_lost: Callable[[], None],
        network: LocalNetwork,
        note: Note = ignore,
    ) -> None:
        super().__init__(
            ice_controlling=ice_controlling,
            local_username=local_username,
            local_password=local_password,
            transport_policy=TransportPolicy.RELAY if relay_only else TransportPolicy.ALL,
        )
        self.username_mark = f"{local_username}:".encode()
        """What every check of the peer has in it (RFC 8445 section 7.2.2)."""
        self._servers = servers
        self._relay_only = relay_only
        self._on_lost = on_lost
        self._network = network
        self._note = note
        self._settled = False
        self.trouble = ""
        """Why there is no candidate of an address of ours, in words."""
        self._on_candidate: Callable[[Candidate | None], None] | None = None
        self._gathering: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self.came = 0
        """Datagrams of the peer, of any kind."""
        self._proven: set[tuple[str, int]] = set()
        self._waiting = 0
        self._switches = 0
        self._names: set[str] = set()
        self._mine: frozenset[str] | None = None
        self._elsewhere = False
        self._loopbacks: set[str] = set()
        self._routed: CandidatePair | None = None
        self._route: tuple[DatagramTransport, tuple[str, int]] | None = None
        self.rtt: float | None = None
        """Round-trip time in seconds, as the last check of consent took."""

    @property
    def selected_pair(self) -> CandidatePair | None:
        """The pair that carries the data, None while there is none."""
        return self._nominated.get(1)

    @property
    def route(self) -> tuple[DatagramTransport, tuple[str, int]] | None:
        """What to send datagrams with, and where to, always the same one; None while there is no selected pair.

        There is none once it closes: asyncio's transports fail where something is sent by them then.
        """
        pair = self.selected_pair
        if pair is None or self._closing:
            return None
        transport = cast("DatagramTransport", pair.protocol.transport)
        if self._route is None or pair is not self._routed or transport is not self._route[0]:
            self._routed, self._route = pair, (transport, pair.remote_addr)
        return self._route

    def send_now(self, data: bytes) -> None:
        """Send a datagram without waiting; it is dropped while there is no way."""
        route = self.route
        if route is not None:
            transport, address = route
            transport.sendto(data, address)

    # Gathering

    async def gather_candidates(self) -> None:
        """Gather what must be in the session description."""
        if self._local_candidates_start:
            return
        self._local_candidates_start = True
        if self._relay_only:
            first = asyncio.Event()
            self._start_gathering(first)
            await first.wait()
        else:
            try:
                addresses = self._network.addresses()
            except OSError as error:  # asking takes a descriptor
                addresses, self.trouble = [], self._network.explain(error, "any address")
            for address in addresses:
                self._local_candidates += await self._bind(address)
        self._local_candidates_end = True

    def trickle(self, on_candidate: Callable[[Candidate | None], None]) -> None:
        """Ask the servers in the background; ``on_candidate`` gets each further candidate, and None after the last."""
        self._on_candidate = on_candidate
        if self._gathering is None:
            self._start_gathering(asyncio.Event())
        elif self._gathering.done():  # with relay_only, all may have answered before there was anybody to tell
            self._spawn(self._tell_end())

    async def gathered(self) -> list[Candidate]:
        """Wait until servers have answered, a moment at most, and return the candidates that there are."""
        if self._gathering is not None:
            await asyncio.wait([self._gathering], timeout=GATHER_WITHIN)
        return self.local_candidates

    async def _tell_end(self) -> None:
        self._publish(None)

    def _start_gathering(self, first: asyncio.Event) -> None:
        self._gathering = self._spawn(self._ask_servers(first))

    async def _ask_servers(self, first: asyncio.Event) -> None:
        """Ask every server at once; ``first`` is set at the first relayed candidate, and at the end."""
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    for question in self._questions(server, first):
                        group.create_task(self._ask(server, question))
        finally:
            first.set()
        self._publish(None)

    def _questions(self, server: IceServer, first: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        if server.turn:
            return [self._relay(server, first)]
        return [] if self._relay_only else [self._reflect(server)]

    async def _ask(self, server: IceServer, question: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(SERVER_TIMEOUT):
                await question
        except TimeoutError:
            logger.warning("ICE server %s does not answer", server.url)
        except NO_ANSWER as error:
            logger.warning("ICE server %s is of no use: %s", server.url, error)

    async def _reflect(self, server: IceServer) -> None:
        """Ask a STUN server from each address of ours, at all of its own that are of the same family.

        That it does not answer at some is no news: many have an address of IPv6 that leads nowhere.
        """
        families: dict[int, list[tuple[str, int]]] = {4: [], 6: []}
        for address in await addresses_of(server.host, server.port):
            families[_family(address[0])].append(address)
        questions = [
            self._reflect_at(protocol, address)
            for protocol in self._protocols
            for address in families[_family(protocol.local_candidate.host)][:MAX_ADDRESSES]
        ]
        if not questions:
            raise ValueError("none of our addresses is of the family of its own")
        errors = [error for error in await asyncio.gather(*questions) if error is not None]
        if len(errors) == len(questions):
            raise errors[0]

    async def _reflect_at(self, protocol: StunProtocol, address: tuple[str, int]) -> Exception | None:
        try:
            async with asyncio.timeout(STUN_TIMEOUT):
                candidate = await reflexive_candidate(protocol, address)
        except NO_ANSWER as error:
            return error
        own = protocol.transport.get_extra_info("sockname")[:2]  # not told where another address is announced
        known = {own, *((c.host, c.port) for c in self._local_candidates)}
        if (candidate.host, candidate.port) not in known:
            self._local_candidates.append(candidate)
            self._publish(candidate)
        return None

    async def _relay(self, server: IceServer, first: asyncio.Event) -> None:
        hide = self._relay_only or bool(self._network.announce)
        protocol = await relayed_protocol(server, lambda: SortingProtocol(self), hide_address=hide)
        if self._settled:
            protocol.transport.close()
            return
        self._protocols.append(protocol)
        self._add_local_candidate(protocol.local_candidate)
        first.set()

    async def _bind_loopback(self, address: str) -> None:
        for candidate in (await self._bind(address))[:1]:
            self._add_local_candidate(candidate)

    async def _bind(self, address: str) -> list[Candidate]:
        """Open a socket at an address, and return the candidates that others are told of it."""
        try:
            protocol = await self._network.open(address, self)
        except OSError as error:
            self.trouble = self._network.explain(error, address)
            logger.debug("%s", self.trouble)
            return []
        if self._closing or self._settled:
            protocol.transport.close()
            return []
        host, port = protocol.transport.get_extra_info("sockname")[:2]
        candidates = [_host_candidate(at, port) for at in self._network.told(host)]
        protocol.local_candidate = candidates[0]
        self._protocols.append(protocol)
        return candidates

    def _add_local_candidate(self, candidate: Candidate) -> None:
        self._local_candidates.append(candidate)
        for remote_candidate in self._remote_candidates:
            self._pair_remote_candidate(remote_candidate)
        self.sort_check_list()
        self._wake.set()
        self._publish(candidate)

    def _publish(self, candidate: Candidate | None) -> None:
        if self._on_candidate is not None:
            self._on_candidate(candidate)

    # Checks

    async def add_remote_candidate(self, remote_candidate: Candidate | None) -> None:
        """Add a candidate of the peer; a name is looked up by mDNS in the background.

        None, the end of candidates, changes nothing: checks go on until the time is up (RFC 8863), as the peer's own
        may still show us an address of it.
        """
        if remote_candidate is None or self._closing:
            return
        if not is_mdns_hostname(remote_candidate.host):
            await super().add_remote_candidate(remote_candidate)
            return
        known = remote_candidate.host in self._names or len(self._names) >= MAX_NAMES
        if not known and not self._relay_only:
            self._names.add(remote_candidate.host)
            self._spawn(self._look_up(remote_candidate))

    async def _look_up(self, candidate: Candidate) -> None:
        try:
            protocol = await get_or_create_mdns_protocol(self)
            protocol.__class__ = MdnsResolver  # aioice makes it itself, and takes no other
            address = await protocol.resolve(candidate.host)
            if address is not None:
                self._add_remote_candidate(copy.copy(candidate), address)
        except OSError as error:
            logger.debug("%s cannot be looked up: %s", candidate.host, error)

    def _add_remote_candidate(self, remote_candidate: Candidate, network_host: str) -> None:
        if len(self._remote_candidates) >= MAX_REMOTE_CANDIDATES or not self._is_there(remote_candidate, network_host):
            return
        super()._add_remote_candidate(remote_candidate, network_host)
        self._wake.set()
        # Not every system sends to its loopback address from another one.
        if network_host in LOOPBACK and not self._relay_only and network_host not in self._loopbacks:
            self._loopbacks.add(network_host)
            if network_host not in self._own_hosts() and not self._network.interfaces:
                self._spawn(self._bind_loopback(network_host))

    def _is_there(self, candidate: Candidate, host: str) -> bool:
        """Whether a peer can be where its candidate says.

        At a loopback address it cannot if it has another machine's address: that loopback is not ours. A relay has one
        of its own.
        """
        if not is_reachable(host):
            return False
        address = ipaddress.ip_address(host)
        if address.is_loopback:
            return self._relay_only or not self._elsewhere or host in self._own_hosts()
        if candidate.type == "host" and not address.is_link_local and host not in self._own_hosts():
            self._elsewhere = True
            self._forget_loopback()
        return True

    def _own_hosts(self) -> frozenset[str]:
        if self._mine is None:
            self._mine = frozenset(host_addresses())
        return self._mine

    def _forget_loopback(self) -> None:
        """Take back what was believed of a peer that turns out to be on another machine; what answered stays."""
        if self._relay_only or not self._own_hosts().isdisjoint(LOOPBACK):
            return
        for pair in [pair for pair in self._check_list if self._is_unproven_loopback(pair.remote_candidate)]:
            if pair.task is not None:
                pair.task.cancel()
            self._check_list.remove(pair)
        self._remote_candidates = [c for c in self._remote_candidates if not self._is_unproven_loopback(c)]

    def _is_unproven_loopback(self, candidate: Candidate) -> bool:
        address = seams.network_address(candidate)
        return ipaddress.ip_address(address[0]).is_loopback and address not in self._proven

    def sort_check_list(self) -> None:
        """Sort the pairs by priority, and leave out those that are too many (RFC 8445 section 6.1.2.5)."""
        super().sort_check_list()
        untried = (CandidatePair.State.FROZEN, CandidatePair.State.WAITING)
        for pair in self._check_list[MAX_PAIRS:]:
            if pair.task is None and pair.state in untried:
                self._check_list.remove(pair)

    def may_switch_role(self) -> bool:
        """Whether the peer may have us change roles once more; two that both insist would go on for ever."""
        self._switches += 1
        return self._switches <= MAX_SWITCHES

    def check_complete(self, pair: CandidatePair) -> None:
        """Note the outcome of a check."""
        if pair.state is CandidatePair.State.SUCCEEDED:
            self._prove(pair.remote_addr, pair.protocol, answered=True)
        super().check_complete(pair)
        self._tell(pair, "succeeded" if pair.state is CandidatePair.State.SUCCEEDED else "failed")
        self._wake.set()

    def _tell(self, pair: CandidatePair, state: str) -> None:
        self._note(Pair(local=_named(pair.local_candidate), remote=_named(pair.remote_candidate), state=state))

    async def connect(self) -> None:
        """Check pairs until one is nominated.

        aioice sleeps 20 ms after each check; this goes on the moment that a check ends or a candidate comes.

        Raises:
            ConnectionError: No pair works, or none was found in time.
        """
        if self.remote_username is None or self.remote_password is None:
            raise ConnectionError("the peer's ICE user name and password are missing")
        for remote_candidate in self._remote_candidates:
            self._pair_remote_candidate(remote_candidate)
        self.sort_check_list()
        for check in self._early_checks:
            self.check_incoming(*check)
        self._early_checks.clear()
        self._early_checks_done = True

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._check_pairs()
        except TimeoutError as error:
            self._check_list_done = True
            raise ConnectionError("no pair of candidates works") from error
        finally:
            for pair in self._check_list:
                if pair.task is not None:
                    pair.task.cancel()
        if self._check_list_state.get_nowait() != ICE_COMPLETED or self._closing:
            raise ConnectionError("no pair of candidates works")
        if self.selected_pair is not None:
            self._tell(self.selected_pair, "chosen")
        self._query_consent_task = asyncio.create_task(self.query_consent())
        self._spawn(self._settle())

    async def _settle(self) -> None:
        """Close the sockets that were not chosen, once the peer has had time to choose."""
        await asyncio.sleep(SETTLING)
        while not any(isinstance(protocol, SortingProtocol) and protocol.carries for protocol in self._protocols):  # noqa: ASYNC110 - an event would cost something with each datagram
            await asyncio.sleep(SETTLING)
        pair = self.selected_pair
        if pair is None:
            return
        self._settled = True
        # What the peer sends may come over another pair than ours goes.
        used = [p for p in self._protocols if p is pair.protocol or (isinstance(p, SortingProtocol) and p.carries)]
        unused = [protocol for protocol in self._protocols if protocol not in used]
        self._protocols = used
        self._check_list = [other for other in self._check_list if other.protocol in used]
        for protocol in unused:
            protocol.transport.close()

    async def _check_pairs(self) -> None:
        untried = (CandidatePair.State.FROZEN, CandidatePair.State.WAITING)
        while not self._check_list_done:
            self._wake.clear()
            pairs = [pair for pair in self._check_list if pair.task is None and pair.state in untried]
            for pair in pairs[:CHECK_BURST]:
                self.check_start_task(pair)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL if len(pairs) > CHECK_BURST else None):
                    await self._wake.wait()

    # Watching

    def take(self, data: bytes, addr: tuple[str, int]) -> None:
        """Keep a datagram until it is read.

        Only from where the peer has proven itself by a check of its own or an answer to one of ours. Where too much
        waits the newest is dropped, as a network does, so that a flood cannot push out what came before it.
        """
        if addr not in self._proven:
            return
        self.came += 1
        if self._queue.qsize() < MAX_WAITING and self._waiting + len(data) <= MAX_WAITING_BYTES:
            self._waiting += len(data)
            self._queue.put_nowait((data, 1))

    async def recvfrom(self) -> tuple[bytes, int]:
        """Receive the next datagram, and its component."""
        data, component = await super().recvfrom()
        self._waiting -= len(data)
        return data, component

    def request_received(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Answer a check of the peer; what is not signed with our password is nobody's, and gets no answer."""
        if not self._is_check(message):
            return
        if addr not in self._proven and len(self._proven) >= MAX_PROVEN:
            return
        self._prove(addr, protocol, answered=False)
        self.came += 1
        super().request_received(message, addr, protocol)

    def _prove(self, addr: tuple[str, int], protocol: StunProtocol, *, answered: bool) -> None:
        """Note that the peer is at an address, of which it has shown something that is signed with a password."""
        self._proven.add(addr)
        if isinstance(protocol, SortingProtocol):
            protocol.claim(addr, answered=answered)

    def _is_check(self, message: stun.Message) -> bool:
        attributes = message.attributes
        return (
            message.message_method == stun.Method.BINDING
            and "PRIORITY" in attributes
            and self._valid_username(attributes.get("USERNAME", ""))
            and message.check_message_integrity(self.local_password.encode())
        )

    async def query_consent(self) -> None:
        """Check every second that the peer is there and still wants to be sent to (RFC 7675)."""
        loop = asyncio.get_running_loop()
        silent = unanswered = 0
        while silent < SILENCE_LIMIT and unanswered < CONSENT_LIMIT:
            until = loop.time() + CONSENT_INTERVAL
            before = self.came
            if await self._check_consent():
                silent = unanswered = 0
                await asyncio.sleep(until - loop.time())
            else:
                silent = 0 if self.came > before else silent + 1
                unanswered += 1
        self._on_lost()
        self._start_closing()

    async def answers(self) -> bool:
        """Check at once whether the peer is there: False where it says nothing in 0.6 s and two round trips.

        Only an answer counts, as what the peer sent before it went may still be on its way.
        """
        interval = ANSWER_INTERVAL + (self.rtt or 0) / 2
        checks: set[asyncio.Task[bool]] = set()
        try:
            for _ in range(ANSWER_CHECKS):
                checks.add(asyncio.create_task(self._check_consent()))
                done, checks = await asyncio.wait(checks, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
                if any(check.result() for check in done):
                    return True
            return False
        finally:
            for check in checks:
                check.cancel()

    async def _check_consent(self) -> bool:
        pair = self.selected_pair
        if pair is None or self.remote_password is None:  # closed
            return False
        began = clock.monotonic()
        try:
            async with asyncio.timeout(CONSENT_INTERVAL):
                await pair.protocol.request(
                    self.build_request(pair, nominate=False),
                    pair.remote_addr,
                    integrity_key=self.remote_password.encode(),
                    retransmissions=1,
                )
        except (TimeoutError, stun.TransactionError):
            return False
        self.came += 1
        self.rtt = clock.monotonic() - began
        return True

    async def close(self) -> None:
        """Close, and release what TURN servers have allocated; returns within a second."""
        await asyncio.shield(self._start_closing())

    def _start_closing(self) -> asyncio.Task[None]:
        if self._end is None:
            self._end = asyncio.create_task(self._close())
        return self._end

    async def _close(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for protocol in self._protocols:
            protocol.transport.close()  # all at once: super() waits for one after the other
        while not self._queue.empty():  # who reads finds the end, and not first what nobody has read
            self._queue.get_nowait()
        await super().close()
        self._wake.set()
        self._let_go()

    def _let_go(self) -> None:
        """Hold nothing that holds this, so that it is free as soon as nobody else does."""
        for pair in self._check_list:
            pair.task = None  # its error holds the pair
        self._check_list.clear()  # whose sockets hold this
        self._routed = self._route = self._on_candidate = None
        self._on_lost = lambda: None

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _family(host: str) -> int:
    return ipaddress.ip_address(host).version


def _named(candidate: Candidate) -> str:
    host = f"[{candidate.host}]" if ":" in candidate.host else candidate.host
    return f"{candidate.type} {host}:{candidate.port}"


def _host_candidate(host: str, port: int) -> Candidate:
    return Candidate(
        foundation=candidate_foundation("host", "udp", host),
        component=1,
        transport="udp",
        priority=candidate_priority(1, "host"),
        host=host,
        port=port,
        type="host",
    )
