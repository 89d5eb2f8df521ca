"""SCTP packets, into an association that is up."""

from collections.abc import Callable
from struct import pack

import pytest
from aiortc import RTCSctpTransport
from fuzzing import Fuzzer, recorded
from rtc_attacks import DATA, INIT, Attacker, attacked, sctp_of, sealed
from rtc_helpers import Peer

pytestmark = pytest.mark.fuzz


async def record(attacker: Attacker, victim: Peer) -> list[bytes]:
    """What two honest peers send: channels opened and closed, messages long and short, lost ones too."""
    async with recorded(sctp_of(victim), "_handle_data") as there, recorded(attacker.sctp, "_handle_data") as here:
        channels = [
            attacker.peer.connection.add_channel(f"c{n}", ordered=n % 2 == 0, max_retransmits=0 if n > 2 else None)
            for n in range(5)
        ]
        await victim.until(lambda: len(victim.channels) == 6)
        for size in (1, 100, 5000, 60_000):
            for channel in channels:
                channel.send(bytes(size))
                channel.send("x" * (size // 10))
            await attacker.peer.until(lambda: all(channel._channel.bufferedAmount == 0 for channel in channels))
        for channel in channels[:3]:
            channel.close()
        await victim.until(lambda: sum(channel.is_open for channel in victim.channels) == 3)
    return [*there, *here]


def aimed(data: bytes, association: RTCSctpTransport) -> bytes:
    """Give a packet the tag and the checksum without which it is dropped, and mostly a number that is due."""
    tag = 0 if data[12] == INIT else association._local_verification_tag
    packet = data[:4] + pack("!LL", tag, 0) + data[12:]
    last = association._last_received_tsn
    if packet[12] == DATA and last is not None and len(packet) >= 20 and data[10] % 4:
        packet = packet[:16] + pack("!L", (last + 1 + data[10] % 16) % 2**32) + packet[20:]
    return sealed(packet)


async def test_packets_on_a_live_association(fuzz: Callable[[str, str], Fuzzer]) -> None:
    async with attacked() as (attacker, victim):
        corpus = await record(attacker, victim)
        association = sctp_of(victim)

        async def feed(data: bytes) -> None:
            if association.state != "connected":  # as good as a new one, and faster
                association._set_state(association.State.ESTABLISHED)
            bent = len(data) >= 16 and data[11] % 8
            await association._handle_data(aimed(data, association) if bent else data)

        await fuzz("SCTP", "sctp").run(corpus, feed)
