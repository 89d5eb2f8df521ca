"""Finding a way from peer to peer, and noticing that it is gone."""

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aioice import stun
from aioice.ice import ICE_COMPLETED, CandidatePair
from rtc_helpers import Clip, Peer, Tap, join, watching
from rtc_network import Turn, coturn, relay, silence
from turned import elapse, turned
from waiting import turns

from synopticon_rtc.errors import InvalidSDP, NoCandidates
from synopticon_rtc.rtc import IceServer, ice, network, servers
from synopticon_rtc.rtc.network import LocalNetwork, host_addresses


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """A socket that is left open warns when it is collected, and a warning is an error here."""
    yield
    gc.collect()


@pytest.fixture
async def turn(tmp_path: Path) -> AsyncIterator[Turn]:
    async with coturn(tmp_path) as turn:
        yield turn


def candidates_in(sdp: str) -> list[str]:
    return re.findall(r"a=(candidate:[^\r]*)", sdp)


def without_candidates(sdp: str) -> str:
    return re.sub(r"a=(candidate:.*|end-of-candidates)\r\n", "", sdp)


def types(peer: Peer) -> list[str]:
    """The types of the candidates that followed the description."""
    return [candidate["candidate"].split()[7] for candidate in peer.candidates if candidate is not None]


async def talk(sender: Peer, receiver: Peer) -> None:
    """Pass a message on a new connection."""
    channel = sender.connection.add_channel("faces")
    got: list[bytes | str] = []
    await join(sender, receiver)
    await receiver.until(lambda: receiver.channels)
    receiver.channels[0].on_message = got.append
    await sender.until(lambda: channel.is_open)
    channel.send(b"through")
    await receiver.until(lambda: got == [b"through"])


# Candidates


async def test_without_servers_all_candidates_are_in_the_description() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        answer = await receiver.connection.answer(offer)
        for text in offer, answer:
            assert candidates_in(text)
            assert "a=end-of-candidates\r\n" in text
        await sender.until(lambda: sender.candidates == [None])


@turned
async def test_candidates_may_all_come_later() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        answer = await receiver.connection.answer(without_candidates(offer))
        await sender.connection.set_answer(without_candidates(answer))
        await elapse(0.05)
        assert sender.connection.state == "connecting"
        for candidate in candidates_in(answer):
            await sender.connection.add_candidate(candidate, "0", 0)
        await sender.until_state("connected")
        await receiver.until_state("connected")


async def test_candidates_may_come_before_the_description() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        for candidate in candidates_in(offer):
            await receiver.connection.add_candidate(candidate, None, 0)
        await receiver.connection.add_candidate(None)
        answer = await receiver.connection.answer(without_candidates(offer))
        await sender.connection.set_answer(without_candidates(answer))
        await sender.until_state("connected")


async def test_candidates_of_any_kind_are_taken_quietly(caplog: pytest.LogCaptureFixture) -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        peer = receiver.connection
        await peer.answer(without_candidates(offer))
        began = time.monotonic()
        await peer.add_candidate("candidate:1 1 tcp 1 192.0.2.7 9 typ host tcptype active", "0", 0)
        await peer.add_candidate("candidate:1 1 UDP 2113937151 127.0.0.1 9 typ host", "0", 0)
        await peer.add_candidate("candidate:1 1 udp 1 0871ba70-73c9-4b3a-a8ce-9a57b81c3668.local 9 typ host", "0", 0)
        await peer.add_candidate("candidate:1 1 udp 1 127.0.0.1 10 typ host", "another", 7)
        with pytest.raises(InvalidSDP):
            await peer.add_candidate("garbage", "0", 0)
        await peer.add_candidate("", "0", 0)
        await peer.add_candidate(None)
        assert time.monotonic() - began < 0.5  # a name is looked up for a second
        connection = peer._ice
        assert connection is not None
        assert [candidate.port for candidate in connection.remote_candidates] == [9]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_flood_of_candidates_is_bounded() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        await receiver.connection.answer(await sender.connection.offer())
        for port in range(1, 1000):
            await receiver.connection.add_candidate(f"candidate:1 1 udp 1 127.0.0.1 {port} typ host", "0", 0)
        connection = receiver.connection._ice
        assert connection is not None
        assert len(connection.remote_candidates) <= ice.MAX_REMOTE_CANDIDATES


async def test_a_flood_of_names_is_bounded() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        await receiver.connection.answer(await sender.connection.offer())
        for number in range(1000):
            await receiver.connection.add_candidate(f"candidate:1 1 udp 1 n{number}.local 9 typ host", "0", 0)
        connection = receiver.connection._ice
        assert connection is not None
        assert len(connection._tasks) <= ice.MAX_REMOTE_CANDIDATES


async def test_a_name_is_looked_up_by_mdns() -> None:
    name, address = "7c2a9f46-9b0c-4d8e-8f37-2e8f1c5d9a60.local", ""
    async with Peer() as sender, Peer() as receiver, mdns_host() as publish:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        address = candidates_in(offer)[0].split()[4]
        await publish(name, address)
        hidden = offer.replace(f" {address} ", f" {name} ")
        began = time.monotonic()
        answer = await receiver.connection.answer(hidden)
        assert time.monotonic() - began < 0.5
        connection = receiver.connection._ice
        assert connection is not None
        await receiver.until(lambda: any(candidate.host == name for candidate in connection.remote_candidates))
        await sender.connection.set_answer(answer)
        await sender.until_state("connected")


@contextlib.asynccontextmanager
async def mdns_host() -> AsyncIterator[Any]:
    """Give names to addresses, as a browser on this machine does."""
    from aioice import mdns  # noqa: PLC0415 - only here

    protocol = await mdns.create_mdns_protocol()
    try:
        await protocol.publish("probe-synopticon.local", "127.0.0.1")
        asking = await mdns.create_mdns_protocol()
        try:
            if await asking.resolve("probe-synopticon.local", timeout=0.5) is None:
                pytest.skip("no multicast on this machine")
        finally:
            await asking.close()
        yield protocol.publish
    except OSError as error:
        pytest.skip(f"no multicast on this machine: {error}")
    finally:
        await protocol.close()


# Speed


async def test_addresses_that_reach_nothing_do_not_delay_a_join() -> None:
    with silence() as (host, port):
        dead = "".join(f"a=candidate:{n} 1 udp {2**31 - n} {host} {port} typ host\r\n" for n in range(20))
        # One socket swallows all; each candidate needs an address of its own.
        dead = re.sub(r"(a=candidate:(\d+) .*) 127\.0\.0\.1 ", r"\1 127.0.1.\2 ", dead)
        async with Peer() as sender, Peer() as receiver:
            sender.connection.add_channel("faces")
            await join(
                sender,
                receiver,
                offer=lambda sdp: sdp.replace("a=candidate", f"{dead}a=candidate", 1),
                answer=lambda sdp: sdp.replace("a=candidate", f"{dead}a=candidate", 1),
            )
            connection = receiver.connection._ice
            assert connection is not None
            assert len(connection.remote_candidates) > 20


async def joining_takes(**options: Any) -> float:
    async with Peer(**options) as sender, Peer(**options) as receiver:
        sender.connection.add_channel("faces")
        began = time.monotonic()
        await join(sender, receiver)
        return time.monotonic() - began


async def test_servers_that_do_not_answer_do_not_delay_a_join(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = asyncio.Event()
    release = threading.Event()
    look_up = socket.getaddrinfo

    def hang(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "hangs.test":
            asyncio.run_coroutine_threadsafe(noted(), loop)
            release.wait(10)
            raise OSError("at last")
        return look_up(host, *arguments, **options)

    async def noted() -> None:
        stuck.set()

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with silence() as (host, port), socket.socket() as full:
        full.bind(("127.0.0.1", 0))  # a TCP port that nobody listens on
        silent = (
            IceServer(f"stun:{host}:{port}"),
            IceServer(f"turn:{host}:{port}", "user", "secret"),
            IceServer(f"turn:127.0.0.1:{full.getsockname()[1]}?transport=tcp", "user", "secret"),
            IceServer("stun:hangs.test"),
            IceServer("turn:hangs.test?transport=tcp", "user", "secret"),
        )
        await joining_takes()
        plain = min([await joining_takes() for _ in range(3)])
        served = min([await joining_takes(ice_servers=silent) for _ in range(3)])
        assert stuck.is_set()
    release.set()
    assert served < plain + 0.1


# Servers


async def test_what_servers_tell_follows_the_description(turn: Turn) -> None:
    asked = (turn.turn("udp"), turn.turn("tcp"), turn.stun)
    async with Peer(ice_servers=asked) as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        assert {candidate.split()[7] for candidate in candidates_in(offer)} == {"host"}
        assert "end-of-candidates" not in offer
        assert "a=ice-options:trickle\r\n" in offer
        await sender.until(lambda: sender.candidates[-1:] == [None])
        # The server sees the host's own addresses: no candidate of its own (RFC 8445 section 5.1.3).
        assert types(sender) == ["relay", "relay"]
        first = sender.candidates[0]
        assert first is not None
        assert set(first) == {"candidate", "sdpMid", "sdpMLineIndex", "usernameFragment"}
        assert (first["sdpMid"], first["sdpMLineIndex"]) == ("0", 0)
        assert f"a=ice-ufrag:{first['usernameFragment']}" in offer
        answer = await receiver.connection.answer(offer)
        await sender.connection.set_answer(answer)
        await sender.until_state("connected")
        assert sender.connection.stats().local_candidate == "host"


async def test_nothing_in_an_offer_tells_of_what_is_behind_an_announced_address(turn: Turn) -> None:
    mine = [address for address in host_addresses() if not address.startswith("127.") and ":" not in address][:1]
    if not mine:
        pytest.skip("this machine has no address but loopback")
    asked = (turn.stun, turn.turn("udp"))
    async with Peer(ice_servers=asked, network=LocalNetwork(announce=["203.0.113.5"], interfaces=[mine[0]])) as sender:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        await sender.until(lambda: sender.candidates[-1:] == [None])
        told = [candidate["candidate"] for candidate in sender.candidates if candidate is not None]
    assert mine[0] not in offer
    assert "203.0.113.5" in offer
    assert not [one for one in told if f" {mine[0]} " in one]


class StunServer(asyncio.DatagramProtocol):
    """Says of everybody that he comes from an address."""

    def __init__(self, seen: str) -> None:
        self.seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        asked = stun.parse_message(data)
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=asked.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = self.seen, addr[1]
        self.transport.sendto(bytes(answer), addr)  # type: ignore[attr-defined]


SEEN = {"127.0.0.1": "203.0.113.9", "::1": "2001:db8::9"}


@pytest.mark.parametrize("there", [("127.0.0.1", "::1"), ("127.0.0.1",), ("::1",)], ids="+".join)
async def test_a_stun_server_is_asked_at_each_family_of_addresses(
    there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    transports = []
    port = 0
    for host in there:
        transport, _ = await loop.create_datagram_endpoint(lambda host=host: StunServer(SEEN[host]), (host, port))  # type: ignore[misc]
        port = transport.get_extra_info("sockname")[1]
        transports.append(transport)

    def found(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(None, None, 0, "", (host, port)) for host in SEEN]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(ice, "STUN_TIMEOUT", 0.5)
    options = LocalNetwork(interfaces=list(SEEN))
    async with Peer(ice_servers=(IceServer(f"stun:both.test:{port}"),), network=options) as sender:
        sender.connection.add_channel("faces")
        await sender.connection.offer()
        await sender.until(lambda: None in sender.candidates)
        told = {candidate["candidate"].split()[4] for candidate in sender.candidates if candidate is not None}
    assert told == {SEEN[host] for host in there}
    assert not caplog.records
    for transport in transports:
        transport.close()
    await turns()


async def test_peers_meet_at_the_address_that_a_stun_server_saw(turn: Turn) -> None:
    async with relay() as nat:
        host, port = await nat.door(("127.0.0.1", turn.port))
        asked = (IceServer(f"stun:{host}:{port}"),)
        async with Peer(ice_servers=asked) as sender, Peer() as receiver:
            sender.connection.add_channel("faces")
            sender.other = receiver
            offer = await sender.connection.offer()
            answer = await receiver.connection.answer(without_candidates(offer))
            await sender.connection.set_answer(without_candidates(answer))
            await sender.until_state("connected")
            await receiver.until_state("connected")
            assert set(types(sender)) == {"srflx"}
            assert sender.candidates[0] is not None
            assert f" {nat.public[1]} typ srflx raddr" in sender.candidates[0]["candidate"]
            assert receiver.connection.stats().remote_candidate == "srflx"


@pytest.mark.parametrize("kind", ["udp", "tcp", "tls"])
async def test_a_call_through_relays_alone(turn: Turn, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(turn.certificate))
    clip = Clip()
    options: dict[str, Any] = {"ice_servers": (turn.turn(kind), turn.stun), "relay_only": True}
    async with Peer(**options) as sender, Peer(**options) as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        offer = await sender.connection.offer()
        assert [candidate.split()[7] for candidate in candidates_in(offer)] == ["relay"]
        assert "raddr 0.0.0.0 rport 9" in offer
        sender.other, receiver.other = receiver, sender
        await sender.connection.set_answer(await receiver.connection.answer(offer))
        await sender.until(lambda: clip.stream.viewers)
        sent = await clip.play(10)
        await receiver.until(lambda: receiver.frames[-1].rtp_timestamp == sent[-1])
        assert [frame.rtp_timestamp for frame in receiver.frames] == sent
        for peer in sender, receiver:
            stats = peer.connection.stats()
            assert (stats.local_candidate, stats.remote_candidate) == ("relay", "relay")
        began = time.monotonic()
        await sender.connection.close()
        assert time.monotonic() - began < 1


async def test_a_relay_is_used_where_nothing_else_works(turn: Turn) -> None:
    async with Peer(ice_servers=(turn.turn("udp"),)) as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        sender.other = receiver
        answer = await receiver.connection.answer(without_candidates(await sender.connection.offer()))
        # Of the sender the receiver knows the relay alone; of the receiver the sender knows nothing.
        await sender.connection.set_answer(without_candidates(answer))
        connection = receiver.connection._ice
        assert connection is not None
        await receiver.until(
            lambda: any(pair.state is CandidatePair.State.IN_PROGRESS for pair in connection._check_list)
        )
        for candidate in candidates_in(answer):
            await sender.connection.add_candidate(candidate, "0", 0)
        await sender.until_state("connected")


async def test_a_server_that_refuses_is_named_once(turn: Turn, caplog: pytest.LogCaptureFixture) -> None:
    wrong = turn.turn("udp", credential="wrong")
    async with Peer(ice_servers=(wrong,)) as sender, Peer() as receiver:
        await talk(sender, receiver)
        await sender.until(lambda: sender.candidates == [None])
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.message.startswith(f"ICE server {wrong.url} is of no use")
    assert "401" in record.message
    assert "wrong" not in record.message


async def test_a_certificate_that_cannot_be_checked_is_refused(turn: Turn, caplog: pytest.LogCaptureFixture) -> None:
    async with Peer(ice_servers=(turn.turn("tls"),)) as sender:
        sender.connection.add_channel("faces")
        await sender.connection.offer()
        await sender.until(lambda: sender.candidates == [None])
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


async def test_no_relay_where_only_relays_may_be_used_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice, "SERVER_TIMEOUT", 0.1)
    with silence() as (host, port):
        for asked in ((), (IceServer(f"turn:{host}:{port}", "user", "secret"),)):
            async with Peer(ice_servers=asked, relay_only=True) as sender:
                sender.connection.add_channel("faces")
                with pytest.raises(NoCandidates, match="no TURN server"):
                    await sender.connection.offer()


async def test_a_turn_server_that_is_gone_does_not_hold_up_closing(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = contextlib.AsyncExitStack()
        turn = await server.enter_async_context(coturn(tmp_path))
        sender = await stack.enter_async_context(Peer(ice_servers=(turn.turn("udp"), turn.turn("udp"))))
        sender.connection.add_channel("faces")
        await sender.connection.offer()
        await sender.until(lambda: sender.candidates[-1:] == [None])
        await server.aclose()
        began = time.monotonic()
        await sender.connection.close()
        assert time.monotonic() - began < 2 * servers.RELEASE_TIMEOUT


async def test_a_loopback_candidate_of_the_peer_is_reached_from_loopback() -> None:
    async with relay() as way, Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        offer = await sender.connection.offer()
        answer = await receiver.connection.answer(without_candidates(offer))
        host, port = candidates_in(answer)[0].split()[4:6]
        way.inside = (host, int(port))
        await sender.connection.set_answer(without_candidates(answer))
        public = f"candidate:1 1 udp 2113937151 {way.public[0]} {way.public[1]} typ host"
        await sender.connection.add_candidate(public, "0", 0)
        await sender.until_state("connected")
        assert types(sender) == ["host"]
        assert sender.candidates[-1] is None or " 127.0.0.1 " in sender.candidates[-1]["candidate"]


# Loss of the way


@turned
async def test_a_way_that_does_not_work_fails() -> None:
    async with Peer() as sender, Peer() as receiver:
        sender.connection.add_channel("faces")
        dead = "a=candidate:1 1 udp 1 192.0.2.99 9 typ host\r\na=end-of-candidates\r\na=setup"
        answer = await receiver.connection.answer(
            re.sub("a=setup", dead, without_candidates(await sender.connection.offer()))
        )
        begun = asyncio.get_running_loop().time()
        await sender.connection.set_answer(re.sub("a=setup", dead, without_candidates(answer)))
        await sender.until_state("failed", 2 * ice.CONNECT_TIMEOUT)
        await receiver.until_state("failed", ice.CONNECT_TIMEOUT)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(ice.CONNECT_TIMEOUT, abs=0.1)


PEER = """
import asyncio, sys
from synopticon_rtc.rtc import PeerConnection
async def main():
    peer = PeerConnection(on_video=lambda track: None)
    offer = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
    answer = (await peer.answer(offer.decode())).encode()
    sys.stdout.buffer.write(b"%d\\n" % len(answer) + answer)
    sys.stdout.flush()
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_peer_killed_without_goodbye_is_noticed() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PEER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    clip = Clip()
    try:
        async with Peer() as sender:
            sender.connection.add_video(lambda _: clip.stream)
            offer = (await sender.connection.offer()).encode()
            process.stdin.write(b"%d\n" % len(offer) + offer)
            answer = await process.stdout.readexactly(int(await process.stdout.readline()))
            await sender.connection.set_answer(answer.decode())
            await sender.until(lambda: clip.stream.viewers)
            await clip.play(20)
            process.send_signal(signal.SIGKILL)
            began = time.monotonic()
            playing = asyncio.create_task(clip.play(1000, interval=0.03))
            await sender.until_state("failed", seconds=6)
            playing.cancel()
            assert 2 < time.monotonic() - began < 5
            await sender.until(lambda: clip.stream.viewers == 0)
            assert sender.states == ["connecting", "connected", "failed"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process.stdin.close()


@turned
async def test_loss_alone_is_not_taken_for_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice, "CONSENT_INTERVAL", 0.05)
    clip = Clip()
    async with watching(clip) as (sender, receiver):
        counts = {sender: 0, receiver: 0}

        def third(peer: Peer) -> Any:
            def drop(_: bytes) -> bool:
                counts[peer] += 1
                return counts[peer] % 3 == 0

            return drop

        Tap(sender, third(sender))
        Tap(receiver, third(receiver))
        await clip.play(60, interval=0.1)
        assert sender.connection.state == receiver.connection.state == "connected"


@pytest.mark.parametrize("deaf", [True, False], ids=["and nothing else is heard", "though it is heard"])
@turned
async def test_a_peer_that_answers_no_checks_is_given_up(deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 - a parameter
    monkeypatch.setattr(ice, "CONSENT_INTERVAL", 0.1)
    monkeypatch.setattr(ice, "CONSENT_LIMIT", 20)
    clip, loop = Clip(), asyncio.get_running_loop()
    async with watching(clip) as (sender, receiver):

        def is_response(data: bytes) -> bool:
            return deaf or data[:2] == b"\x01\x01"

        Tap(sender, is_response)
        began = loop.time()
        playing = asyncio.create_task(clip.play(1000, interval=0.05))
        await receiver.until_state("failed")
        assert (loop.time() - began > 1.4) == (not deaf)
        playing.cancel()


@turned
async def test_a_peer_can_be_asked_whether_it_is_there() -> None:
    clip, loop = Clip(), asyncio.get_running_loop()
    async with watching(clip) as (sender, receiver):
        assert await sender.connection.answers()
        counts = itertools.count()
        Tap(receiver, lambda data: data[:2] == b"\x01\x01" and next(counts) < 2)  # answers get lost, not all of them
        assert await sender.connection.answers()
        Tap(receiver, lambda _: True)
        await clip.play(2)  # what was on its way is none either
        began = loop.time()
        assert not await sender.connection.answers()
        assert 0.5 < loop.time() - began < 1
    assert not await sender.connection.answers()
    async with Peer() as alone:
        assert not await alone.connection.answers()


LOOPBACK = """
import asyncio
from synopticon_rtc.rtc import PeerConnection
async def main():
    connected = asyncio.Event()
    a, b = PeerConnection(on_state=lambda state: state == "connected" and connected.set()), PeerConnection()
    channel = a.add_channel("faces")
    offer = await a.offer()
    await a.set_answer(await b.answer(offer))
    await asyncio.wait_for(connected.wait(), 5)
    await a.close(); await b.close()
    print(" ".join(line.split()[4] for line in offer.splitlines() if line.startswith("a=candidate")))
asyncio.run(main())
"""


async def test_a_host_with_loopback_alone_connects() -> None:
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("a network namespace takes root, unshare and ip")
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" -c "$1"', sys.executable, LOOPBACK),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert "127.0.0.1" in output.decode().split()


async def test_loopback_is_offered_only_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "get_host_addresses", lambda **_: ["192.0.2.1"])
    assert network.host_addresses() == ["192.0.2.1"]
    monkeypatch.setattr(network, "get_host_addresses", lambda **_: [])
    assert network.host_addresses() == ["127.0.0.1", "::1"]


async def test_a_pair_that_is_found_while_closing_is_not_watched() -> None:
    connection = ice.IceConnection(
        ice_controlling=True,
        local_username="user",
        local_password="password" * 3,
        servers=(),
        relay_only=False,
        on_lost=lambda: None,
        network=network.LocalNetwork(),
    )
    connection.remote_username, connection.remote_password = "user", "password"
    connection._check_list_done = True
    connection._check_list_state.put_nowait(ICE_COMPLETED)
    closing = connection._start_closing()
    await turns()
    with pytest.raises(ConnectionError):
        await connection.connect()
    await closing
    assert connection._query_consent_task is None


async def test_nothing_is_sent_by_a_way_that_closes() -> None:
    clip = Clip()
    async with watching(clip) as (sender, _):
        connection = sender.connection._ice
        assert connection is not None
        closing = connection._start_closing()  # as where the peer is lost: what sends is told later
        while not closing.done():
            connection.send_now(b"a report")
            await turns()
        assert connection.route is None
