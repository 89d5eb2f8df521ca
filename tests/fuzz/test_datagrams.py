"""Datagrams at the socket of a connection that is up: DTLS, STUN, and anything else, from the peer's address."""

import asyncio
from collections.abc import Callable

import pytest
from aioice import stun
from fuzzing import Fuzzer
from rtc_attacks import attacked, check, still_talk
from rtc_helpers import Peer
from waiting import turns

pytestmark = pytest.mark.fuzz


async def handshake() -> list[bytes]:
    """The datagrams of two peers that connect, talk and part."""
    sent: list[bytes] = []
    async with Peer() as one, Peer() as two:
        one.connection.add_channel("faces")
        offer = await one.connection.offer()
        answer = await two.connection.answer(offer)
        for peer in one, two:
            connection = peer.connection._ice
            assert connection is not None
            for protocol in connection._protocols:
                sort = protocol.sort  # type: ignore[attr-defined]

                def keep(data: bytes, addr: tuple[str, int], sort: Callable[..., None] = sort) -> None:
                    sent.append(bytes(data))
                    sort(data, addr)

                protocol.sort = keep  # type: ignore[attr-defined]
        await one.connection.set_answer(answer)
        await one.until_state("connected")
        await two.until_state("connected")
        await asyncio.sleep(0.2)
    return sent


@pytest.mark.parametrize("what", ["DTLS", "STUN"])
async def test_datagrams_from_the_address_of_the_peer(what: str, fuzz: Callable[[str, str], Fuzzer]) -> None:
    corpus = [data for data in await handshake() if data[:1] and (data[0] < 4) == (what == "STUN")]
    async with attacked() as (attacker, victim):
        connection = victim.connection._ice
        assert connection is not None
        pair = connection.selected_pair
        assert pair is not None

        async def feed(data: bytes) -> None:
            pair.protocol.datagram_received(data, pair.remote_addr)
            await turns()

        await fuzz(f"{what} from the peer's address", "datagrams").run(corpus, feed)
        await still_talk(attacker, victim)


async def test_checks_with_the_right_password(fuzz: Callable[[str, str], Fuzzer]) -> None:
    async with attacked() as (attacker, victim):
        connection = victim.connection._ice
        assert connection is not None
        key = connection.local_password.encode()
        corpus = [bytes(check(victim, attacker.peer)), bytes(check(victim, attacker.peer, **{"USE-CANDIDATE": None}))]

        def sign(data: bytes) -> bytes:
            """Bend what is inside, and sign it as the peer would."""
            body = data[20:-32]
            body = body[: len(body) // 4 * 4]
            head = data[:2] + (len(body) + 24).to_bytes(2, "big") + data[4:20]
            return head + body + b"\0\x08\0\x14" + stun.message_integrity(head + body + bytes(24), key)

        def feed(data: bytes) -> None:
            if len(data) > 60:
                connection._protocols[0].datagram_received(sign(data), ("192.0.2.1", 1 + data[-1]))

        await fuzz("STUN, signed", "datagrams").run(corpus, feed)
        await still_talk(attacker, victim)


async def test_datagrams_from_anywhere(fuzz: Callable[[str, str], Fuzzer]) -> None:
    corpus = await handshake()
    async with attacked() as (attacker, victim):
        connection = victim.connection._ice
        assert connection is not None

        def feed(data: bytes) -> None:
            connection._protocols[0].datagram_received(data, ("192.0.2.1", 9))

        await fuzz("datagrams from anywhere", "datagrams").run(corpus, feed)
        await still_talk(attacker, victim)
