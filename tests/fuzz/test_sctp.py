"""SCTP packets, into an association that is up."""

from collections.abc import Callable
from struct import pack

import pytest
from fuzzing import Fuzzer, recorded
from rtc_attacks import Attacker, attacked, sctp_of, sealed
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


async def test_packets_on_a_live_association(fuzz: Callable[[str], Fuzzer]) -> None:
    fuzzer = fuzz("SCTP")
    corpus: list[bytes] = []
    deadline = fuzzer.seconds
    while fuzzer.seconds > 0:
        async with attacked() as (attacker, victim):
            corpus = corpus or await record(attacker, victim)
            sctp = sctp_of(victim)

            async def feed(data: bytes, sctp: object = sctp, victim: Peer = victim) -> None:
                association = sctp_of(victim)
                if association.state != "connected":
                    association._set_state(association.State.ESTABLISHED)  # as good as new, and faster
                    association._last_received_tsn = association._last_received_tsn or 1
                if len(data) >= 16 and data[11] % 8:  # else as it is
                    init = data[12] == 1
                    tag = 0 if init else association._local_verification_tag
                    packet = data[:4] + pack("!LL", tag, 0) + data[12:]
                    last = association._last_received_tsn
                    if packet[12] == 0 and last is not None and len(packet) >= 20 and data[10] % 4:
                        ahead = (last + 1 + data[10] % 16) % 2**32
                        packet = packet[:16] + pack("!L", ahead) + packet[20:]
                    data = sealed(packet)
                await association._handle_data(data)

            await fuzzer.run(corpus, feed)
            break
    assert deadline
