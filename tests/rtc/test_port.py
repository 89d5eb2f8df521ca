"""Connections that share one UDP port."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st
from rtc_helpers import Clip, Peer, join
from test_network import free_range
from waiting import turns

from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.rtc.port import username_mark

ADDRESS = "127.0.0.1"


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """A socket that is left open warns when it is collected, and a warning is an error here."""
    yield
    gc.collect()


@pytest.fixture
def network() -> LocalNetwork:
    (port, _) = free_range(1)
    return LocalNetwork(udp_ports=(port, port), interfaces=[ADDRESS])


class Call:
    """A sender on the shared port, and its receiver elsewhere; messages go both ways."""

    def __init__(self, network: LocalNetwork) -> None:
        self.sender, self.receiver = Peer(network=network), Peer()
        self.channel = self.sender.connection.add_channel("faces")
        self.there: list[bytes | str] = []
        self.back: list[bytes | str] = []
        self.channel.on_message = self.back.append

    async def begin(self) -> None:
        await join(self.sender, self.receiver)
        await self.receiver.until(lambda: self.receiver.channels)
        self.receiver.channels[0].on_message = self.there.append
        await self.sender.until(lambda: self.channel.is_open)

    async def talk(self, word: bytes) -> None:
        """Say a word each way, and wait until both have come."""
        self.channel.send(b"to " + word)
        self.receiver.channels[0].send(b"from " + word)
        await self.receiver.until(lambda: self.there[-1:] == [b"to " + word])
        await self.sender.until(lambda: self.back[-1:] == [b"from " + word])


@contextlib.asynccontextmanager
async def calls(network: LocalNetwork, count: int) -> AsyncIterator[list[Call]]:
    async with contextlib.AsyncExitStack() as stack:
        made = [Call(network) for _ in range(count)]
        for call in made:
            await stack.enter_async_context(call.sender)
            await stack.enter_async_context(call.receiver)
        async with asyncio.TaskGroup() as group:  # all at once
            for call in made:
                group.create_task(call.begin())
        yield made


def is_free(network: LocalNetwork) -> bool:
    assert network.udp_ports is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ADDRESS, network.udp_ports[0]))
        except OSError:
            return False
    return True


async def test_each_connection_gets_what_is_for_it(network: LocalNetwork) -> None:
    async with calls(network, 3) as made:
        for number, call in enumerate(made):
            await call.talk(b"%d" % number)
        assert [call.there for call in made] == [[b"to 0"], [b"to 1"], [b"to 2"]]
        assert [call.back for call in made] == [[b"from 0"], [b"from 1"], [b"from 2"]]


async def test_others_go_on_when_one_ends(network: LocalNetwork) -> None:
    async with calls(network, 3) as (one, two, three):
        await two.sender.connection.close()
        for call in (one, three):
            await call.talk(b"still here")


async def test_the_port_is_closed_behind_the_last_and_opened_for_the_next(network: LocalNetwork) -> None:
    for _ in range(2):
        async with calls(network, 2) as made:
            assert not is_free(network)
            await made[1].talk(b"again")
            for call in made:
                await call.sender.connection.close()
            async with Peer(network=network) as late:  # while the socket still closes
                late.connection.add_channel("faces")
                assert f" {ADDRESS} {network.udp_ports[0]} typ host" in await late.connection.offer()  # type: ignore[index]
    await turns()
    assert is_free(network)


async def test_the_port_is_opened_again_while_a_connection_breaks_off_that_sends(network: LocalNetwork) -> None:
    clip = Clip()
    async with Peer(network=network) as sender, Peer() as receiver:
        sender.connection.add_video(lambda _: clip.stream)
        await join(sender, receiver)
        clip._request()
        await clip.play(2)
        await receiver.until(lambda: receiver.frames)
        ice, port = sender.connection._ice, network._shared[ADDRESS]
        assert ice is not None
        ice._start_closing()  # as when the peer is not heard any more
        while not port.is_closing:  # the very turn of the event loop counts
            await turns()
        async with Peer(network=network) as late:
            late.connection.add_channel("faces")
            assert "typ host" in await late.connection.offer()


async def test_video_flows_to_all_of_them(network: LocalNetwork) -> None:
    clips = Clip(), Clip()
    receivers = []
    async with contextlib.AsyncExitStack() as stack:
        for clip in clips:
            sender = await stack.enter_async_context(Peer(network=network))
            receivers.append(receiver := await stack.enter_async_context(Peer()))
            sender.connection.add_video(lambda _, clip=clip: clip.stream)  # type: ignore[misc]
            await join(sender, receiver)
        for clip, receiver in zip(clips, receivers, strict=True):
            clip._request()
            await clip.play(5)
            await receiver.until(lambda receiver=receiver: len(receiver.frames) >= 5)  # type: ignore[misc]


async def test_what_strangers_send_is_nobodys(network: LocalNetwork) -> None:
    async with calls(network, 2) as made:
        assert network.udp_ports is not None
        at = ADDRESS, network.udp_ports[0]
        ice = made[0].sender.connection._ice
        assert ice is not None
        check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        check.attributes |= {"USERNAME": f"{ice.local_username}:them", "PRIORITY": 1}
        unsigned = bytes(check)
        check.add_message_integrity(b"guessed")
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((ADDRESS, 0))
            stranger.setblocking(False)
            for datagram in (b"", b"\x80" + bytes(40), b"\x17" + bytes(40), unsigned, bytes(check), unsigned[:23]):
                await loop.sock_sendto(stranger, datagram, at)
            for number, call in enumerate(made):
                await call.talk(b"%d" % number)
            with pytest.raises(BlockingIOError):
                stranger.recv(1)
            assert stranger.getsockname() not in network._shared[ADDRESS]._owners


async def test_a_receiver_that_comes_back_at_the_same_address_is_heard(network: LocalNetwork) -> None:
    (port, _) = free_range(1)
    theirs = LocalNetwork(udp_ports=(port, port), interfaces=[ADDRESS])
    async with contextlib.AsyncExitStack() as stack:
        for word in (b"first", b"again"):  # while the broadcaster still holds the first for alive
            call = Call(network)
            call.receiver = Peer(network=theirs)
            await stack.enter_async_context(call.sender)
            await stack.enter_async_context(call.receiver)
            await call.begin()
            await call.talk(word)


async def test_a_peer_that_forges_the_address_of_another_takes_nothing_from_it(network: LocalNetwork) -> None:
    async with calls(network, 2) as (victim, forger):
        ours, theirs = forger.sender.connection._ice, forger.receiver.connection._ice
        attacked = victim.sender.connection._ice
        assert ours is not None
        assert theirs is not None
        assert theirs.selected_pair is not None
        assert attacked is not None
        assert attacked.selected_pair is not None
        check = theirs.build_request(theirs.selected_pair, nominate=False)
        check.add_message_integrity(ours.local_password.encode())

        async def forge(address: tuple[str, int]) -> None:
            while True:
                network._shared[ADDRESS].datagram_received(bytes(check), address)
                await asyncio.sleep(0.005)

        forging = asyncio.create_task(forge(attacked.selected_pair.remote_addr))
        try:
            await victim.talk(b"still heard")
            await forger.talk(b"so is it")
        finally:
            forging.cancel()


async def test_a_port_that_another_program_has_is_named(network: LocalNetwork) -> None:
    assert network.udp_ports is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((ADDRESS, network.udp_ports[0]))
        with pytest.raises(OSError, match="Address already in use") as caught:
            await network.open(ADDRESS, None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert "is taken by another program" in network.explain(caught.value, ADDRESS)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_looked_through_for_a_user_name(data: bytes) -> None:
    assert username_mark(data) == b"" or data[20:].find(username_mark(data)) >= 0


@given(
    st.from_regex(r"[A-Za-z0-9+/]{4,40}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9+/]{4,40}", fullmatch=True),
    st.booleans(),
)
def test_a_check_names_whom_it_is_for(own: str, peer: str, first: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    if not first:
        check.attributes["PRIORITY"] = 1
    check.attributes["USERNAME"] = f"{own}:{peer}"
    check.add_message_integrity(b"secret")
    assert username_mark(bytes(check)) == f"{own}:".encode()
