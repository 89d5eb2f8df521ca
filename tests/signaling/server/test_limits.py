"""Every limit, and that who stays within it never feels it."""

import asyncio
import json
from typing import Any

import pytest
from bare_client import Client, joined, until_open
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from synopticon_rtc.signaling.server.limits import Budget, Limits
from synopticon_rtc.signaling.server.server import SignalingServer


def write(client: Client, *payloads: bytes, opcode: Opcode = Opcode.TEXT) -> None:
    """Write messages in one segment."""
    client.websocket.transport.write(b"".join(Frame(opcode, payload).serialize(mask=True) for payload in payloads))


def ping(number: int) -> bytes:
    return json.dumps({"type": "ping", "timestamp": number}).encode()


class Bucket:
    """A token bucket as textbooks have it."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.size, self.tokens, self.then = rate, rate * burst, rate * burst, now

    def has(self, now: float, cost: float) -> bool:
        self.tokens = min(self.size, self.tokens + (now - self.then) * self.rate)
        self.then = now
        return cost <= self.tokens + 1e-6 * self.size


# In whole numbers, so that rounding decides nothing: a message costs 1/8 s, a byte 1/64 s.
steps = st.lists(st.tuples(st.integers(0, 40).map(lambda n: n / 8), st.integers(0, 150)), max_size=60)


@given(steps=steps)
def test_a_budget_is_two_token_buckets(steps: list[tuple[float, int]]) -> None:
    limits = Limits(messages=8, bytes=64, burst=2)
    budget, now = Budget(limits), 1000.0
    messages, size = (Bucket(rate, limits.burst, now) for rate in (limits.messages, limits.bytes))
    for wait, cost in steps:
        now += wait
        taken = budget.take(now, cost)
        assert taken == (messages.has(now, 1) & size.has(now, cost))
        if taken:
            messages.tokens -= 1
            size.tokens -= cost


@pytest.mark.parametrize("limit", ["sessions", "messages", "idle", "close"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_that_is_none_is_one_clear_error(limit: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Limits\.{limit} is {value}: give more than 0"):
        Limits(**{limit: value})


@pytest.mark.parametrize(
    ("limits", "query", "reason"),
    [
        ({"sessions": 2}, "?room=b", "Server overloaded"),
        ({"room_sessions": 2}, "?room=a", "Room full"),
        ({"address_sessions": 2}, "?room=b", "Too many sessions from this address"),
    ],
)
async def test_one_session_too_many_is_closed_until_another_leaves(
    limits: dict[str, Any], query: str, reason: str
) -> None:
    async with SignalingServer(port=0, limits=Limits(**limits)) as server, joined(server, query="?room=a"):
        async with joined(server, query="?room=a"), connect(f"{server.url}{query}") as websocket:
            assert await Client(websocket, {"sessionId": ""}).closed() == (1013, reason)
        await until_open(server, 1)
        async with joined(server, query=query) as [client]:
            assert await client.next_is_pong()


async def test_other_rooms_and_addresses_have_limits_of_their_own() -> None:
    limits = Limits(room_sessions=1, address_sessions=1)
    async with SignalingServer(port=0, limits=limits, proxies=["127.0.0.1"]) as server:
        headers = [{"X-Forwarded-For": f"192.0.2.{n}"} for n in range(2)]
        async with (
            joined(server, query="?room=a", additional_headers=headers[0]),
            joined(server, query="?room=b", additional_headers=headers[1]) as [client],
        ):
            assert await client.next_is_pong()


def from_(address: str) -> dict[str, Any]:
    """Options of a client that comes through a proxy."""
    return {"additional_headers": {"X-Forwarded-For": address}}


async def refused(server: SignalingServer, **options: Any) -> tuple[int | None, str | None]:
    async with connect(server.url, **options) as websocket:
        return await Client(websocket, {"sessionId": ""}).closed()


async def test_sessions_of_one_ipv6_network_are_counted_together() -> None:
    async with SignalingServer(port=0, limits=Limits(address_sessions=2), proxies=["127.0.0.1"]) as server:
        full = (1013, "Too many sessions from this address")
        async with joined(server, **from_("2001:db8::1")), joined(server, **from_("[2001:db8::2]:99")):
            assert await refused(server, **from_("2001:db8::ffff:3")) == full
            async with joined(server, **from_("2001:db8:0:1::1")) as [client]:
                assert await client.next_is_pong()


async def test_one_address_has_its_share_and_leaves_the_rest_to_others() -> None:
    async with (
        SignalingServer(port=0, limits=Limits(sessions=6), proxies=["127.0.0.1"]) as server,
        joined(server, 3, **from_("192.0.2.1")),
    ):
        assert await refused(server, **from_("192.0.2.1")) == (1013, "Too many sessions from this address")
        async with joined(server, 3, **from_("192.0.2.2")) as clients:
            assert [await client.next_is_pong() for client in clients] == 3 * [True]
            assert await refused(server, **from_("192.0.2.3")) == (1013, "Server overloaded")


async def test_this_machine_may_have_all_sessions_until_others_come() -> None:
    async with (
        SignalingServer(port=0, limits=Limits(sessions=4), proxies=["127.0.0.1"]) as server,
        joined(server, 4) as local,
    ):
        assert await refused(server) == (1013, "Server overloaded")
        async with joined(server, 2, **from_("192.0.2.1")) as others:
            assert [await client.next_is_pong() for client in [*local[:2], *others]] == 4 * [True]
            assert [await client.closed() for client in local[2:]] == 2 * [(1013, "Server overloaded")]
            assert await refused(server, **from_("192.0.2.2")) == (1013, "Server overloaded")


async def test_messages_over_the_rate_are_dropped_and_ten_of_them_close() -> None:
    async with SignalingServer(port=0, limits=Limits(messages=1, burst=20)) as server, joined(server, 2) as clients:
        client, other = clients
        write(client, *map(ping, range(25)))
        for number in range(20):
            assert (await client.receive())["clientTimestamp"] == number
        write(client, *map(ping, range(25)))
        assert await client.closed() == (1008, "Too many messages")
        assert await other.next_is_pong()


async def test_a_session_that_pauses_may_go_on() -> None:
    async with SignalingServer(port=0, limits=Limits(messages=10, burst=0.45)) as server, joined(server) as [client]:
        write(client, *map(ping, range(6)))
        assert [(await client.receive())["clientTimestamp"] for _ in range(4)] == [0, 1, 2, 3]
        await asyncio.sleep(0.3)
        write(client, ping(7))
        assert (await client.receive())["clientTimestamp"] == 7


async def test_bytes_have_a_rate_of_their_own() -> None:
    limits = Limits(bytes=1000, burst=10, errors=1)
    async with SignalingServer(port=0, limits=limits) as server, joined(server, 2) as [client, other]:
        await client.send({"type": "ping", "timestamp": "x" * 9_900})
        assert (await client.receive())["type"] == "pong"
        await client.send({"type": "ping", "timestamp": "x" * 200})
        assert await client.closed() == (1008, "Too many messages")
        assert await other.next_is_pong()


async def test_a_message_for_everybody_counts_for_each() -> None:
    async with SignalingServer(port=0, limits=Limits(messages=1, burst=20)) as server, joined(server, 4) as clients:
        sender, *others = clients
        write(sender, *[b'{"type":"webrtc_offer"}'] * 6)
        for _ in range(6):
            for other in others:
                assert (await other.receive())["sourceSession"] == sender.session
        write(sender, b'{"type":"webrtc_offer"}', *map(ping, range(3)))
        assert (await sender.receive())["type"] == "pong"
        for other in others:
            assert await other.next_is_pong()


async def test_pings_of_websockets_are_messages_too() -> None:
    limits = Limits(messages=1, burst=20, errors=1)
    async with SignalingServer(port=0, limits=limits) as server, joined(server) as [client]:
        for _ in range(19):
            await (await client.websocket.ping())
        write(client, b"", b"", b"", opcode=Opcode.PING)
        assert await client.closed() == (1008, "Too many messages")


async def test_pings_of_websockets_that_are_never_read_end_the_session() -> None:
    limits = Limits(messages=1e9, bytes=1e9, buffered_bytes=2**14, close=0.1)
    async with SignalingServer(port=0, limits=limits) as server, joined(server, 2) as [flood, other]:
        flood.websocket.transport.pause_reading()
        while flood.session in server.sessions:
            write(flood, *[b"x" * 125] * 1000, opcode=Opcode.PING)
            assert await other.next_is_pong()
        flood.websocket.transport.abort()


async def test_a_message_in_fragments_counts_as_a_whole() -> None:
    async with SignalingServer(port=0, limits=Limits(message_bytes=100)) as server, joined(server) as [client]:
        await client.websocket.send(['{"type":"pi', 'ng","times', 'tamp":1}'])
        assert (await client.receive())["clientTimestamp"] == 1
        await client.websocket.send([b'{"type":"pi', b'ng","times', b'tamp":2}'])
        assert (await client.receive())["clientTimestamp"] == 2
        await client.websocket.send(["x" * 60, "x" * 60])
        assert await client.closed() == (1009, "Message too big")


def frame(first_byte: int, payload: bytes = b"{}") -> bytes:
    return bytes((first_byte, 0x80 | len(payload), 0, 0, 0, 0)) + payload  # a mask of zeros changes nothing


@pytest.mark.parametrize("kind", [0x8A, 0x00], ids=["pongs", "parts"])
async def test_frames_that_are_no_messages_count_as_messages(kind: int) -> None:
    limits = Limits(messages=1, burst=20, errors=3)
    async with SignalingServer(port=0, limits=limits) as server, joined(server, 2) as [client, other]:
        client.websocket.transport.write(frame(0x01) * (kind == 0x00) + 30 * frame(kind))
        assert await client.closed() == (1008, "Too many messages")
        assert await other.next_is_pong()


@pytest.mark.parametrize(
    "frames",
    [
        [frame(0x80)],
        [frame(0x01), frame(0x81)],
        [frame(0xC1)],
        [frame(0x01), frame(0xA0)],
        [frame(0x92)],
        [frame(0x83)],
        [frame(0x09)],
    ],
    ids=["no beginning", "two beginnings", "compressed", "reserved", "reserved too", "no kind", "a ping in parts"],
)
async def test_frames_that_make_no_message_close_the_session(frames: list[bytes]) -> None:
    async with SignalingServer(port=0) as server, joined(server, 2) as [client, other]:
        client.websocket.transport.write(b"".join(frames))
        assert (await client.closed())[0] == 1002
        assert await other.next_is_pong()


async def test_a_session_that_never_says_anything_is_closed() -> None:
    async with SignalingServer(port=0, limits=Limits(first=0.2)) as server, joined(server, 2) as [silent, other]:
        assert await other.next_is_pong()
        assert await silent.closed() == (1000, "No message came")
        assert await other.next_is_pong()


async def test_who_asks_for_nothing_is_cut() -> None:
    async with SignalingServer(port=0, limits=Limits(handshake=0.1)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /ws HTTP/1.1\r\n")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
