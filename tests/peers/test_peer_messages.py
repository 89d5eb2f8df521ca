"""Messages of applications, between real peer connections over a network in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from struct import pack

import pytest
from rtc_helpers import Peer, join
from turned import elapse, turned
from wires import Host

from synopticon_rtc.errors import ConnectionLost
from synopticon_rtc.peers.fragments import MAX_LATEST, MAX_MESSAGE, QUEUE, UNREAD, WINDOW, Outgoing
from synopticon_rtc.peers.messages import LATEST, MAX_NAMES, PROTOCOL, Message, MessageHub, Messages
from synopticon_rtc.rtc import Channel


class End:
    """One end of a connection, with its hub."""

    def __init__(self, hub: MessageHub, other: str) -> None:
        self.hub = hub
        self.channels: list[Channel] = []
        self.peer = Peer(on_channel=self._adopt)
        self.messages: Messages = hub.join(self.peer.connection, other)
        self.others: list[Channel] = []

    def _adopt(self, channel: Channel) -> None:
        self.channels.append(channel)
        if not self.messages.adopt(channel):
            self.others.append(channel)

    def cut(self, other: "End", *, up: bool = False) -> None:
        here, there = self.peer.connection._network, other.peer.connection._network
        assert isinstance(here, Host)
        assert isinstance(there, Host)
        here.network.cut(here, there, up=up)


@contextlib.asynccontextmanager
async def connected(hub: MessageHub, session: str = "two", channel: str = "control") -> AsyncIterator[tuple[End, End]]:
    """Connect an end of a hub with one of a hub of its own."""
    one, two = End(hub, session), End(MessageHub(), "one")
    async with one.peer, two.peer:
        one.peer.connection.add_channel(channel)
        await join(one.peer, two.peer)
        await two.peer.until(lambda: two.others)
        yield one, two
        for end in (one, two):
            end.messages.close()


async def take(hub: MessageHub, name: str, count: int) -> list[Message]:
    """Read some messages."""
    messages = hub.messages(name)
    async with asyncio.timeout(60):
        return [await anext(messages) for _ in range(count)]


def waiting(end: End, name: str) -> int:
    """Count the bytes that wait to be sent."""
    out = end.messages._lines[name, False].out
    assert isinstance(out, Outgoing)
    return out.size


def stranger(end: End, name: str, protocol: str = PROTOCOL) -> Channel:
    """Open a channel from an end, past its own messages."""
    return end.peer.connection.add_channel(name, protocol=protocol)


@turned
async def test_text_and_bytes_come_both_ways_in_order() -> None:
    async with connected(MessageHub()) as (one, two):
        sent: list[bytes | str] = ["words", b"bytes", "", b"", "ü", bytes(range(256)) * 100]
        for data in sent:
            await one.messages.send("notes", data)
            await two.messages.send("notes", data)
        for end in (one, two):
            assert [message.data for message in await take(end.hub, "notes", len(sent))] == sent


@turned
async def test_a_message_says_from_whom_it_is_and_when_it_came() -> None:
    async with connected(MessageHub()) as (one, two):
        await two.messages.send("chat", "hello")
        (message,) = await take(one.hub, "chat", 1)
        assert (message.session, message.channel, message.data) == ("two", "chat", "hello")
        await two.messages.send("chat", "again")
        await elapse(1)
        later = await take(one.hub, "chat", 1)
        assert 0 < later[0].received - message.received < 1


@turned
async def test_one_channel_serves_both_ways() -> None:
    async with connected(MessageHub()) as (one, two):
        await one.messages.send("notes", "there")
        await take(two.hub, "notes", 1)
        await two.messages.send("notes", "and back")
        assert [message.data for message in await take(one.hub, "notes", 1)] == ["and back"]
        assert [channel.label for channel in one.channels] == []


@turned
async def test_where_both_open_a_name_at_once_each_message_comes_once() -> None:
    async with connected(MessageHub()) as (one, two):
        for number in range(50):
            await asyncio.gather(one.messages.send("notes", f"{number}"), two.messages.send("notes", f"{number}"))
        for end in (one, two):
            came = [message.data for message in await take(end.hub, "notes", 50)]
            assert came == [f"{number}" for number in range(50)]
            await elapse(1)
            assert not end.hub._inboxes["notes"].entries
        assert len(one.channels) == len(two.channels) - 1 == 1


@turned
async def test_the_largest_message_comes_and_a_larger_one_is_refused() -> None:
    async with connected(MessageHub()) as (one, two):
        sending = asyncio.create_task(one.messages.send("file", bytes(MAX_MESSAGE)))
        (message,) = await take(two.hub, "file", 1)
        await sending
        assert message.data == bytes(MAX_MESSAGE)
        with pytest.raises(ValueError, match="1048577 bytes is larger than 1048576: send it in parts"):
            await one.messages.send("file", bytes(MAX_MESSAGE + 1))
        with pytest.raises(ValueError, match="larger than 16384"):
            await one.messages.send("file", "x" * (MAX_LATEST + 1), latest=True)


@pytest.mark.parametrize("name", ["", "x" * 65, "ü" * 33, None, "\ud800"])
@turned
async def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|surrogates"):
        await MessageHub().send(name, "words")


@turned
async def test_what_is_neither_text_nor_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match=r"bytes or a str, not \{'a': 1\}"):
        await MessageHub().send("notes", {"a": 1})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# A consumer that does not read


@turned
async def test_what_nobody_reads_holds_up_its_sender_and_nothing_is_lost() -> None:
    async with connected(MessageHub()) as (one, two):
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < 600:
                await one.messages.send("notes", sent.to_bytes(2) * 500)
                sent += 1

        flooding = asyncio.create_task(flood())
        await elapse(60)
        assert UNREAD + QUEUE - 3000 < sent * 1128 < UNREAD + QUEUE + 3000
        came = await take(two.hub, "notes", 600)
        await flooding
        assert [message.data for message in came] == [number.to_bytes(2) * 500 for number in range(600)]


@turned
async def test_a_slow_consumer_has_a_mebibyte_waiting_and_other_names_go_on() -> None:
    async with connected(MessageHub()) as (one, two):
        two.hub.messages("slow")

        async def flood() -> None:
            while True:
                await one.messages.send("slow", bytes(10_000))

        flooding = asyncio.create_task(flood())
        await elapse(60)
        unread = sum(entry.octets for entry in two.hub._inboxes["slow"].entries)
        assert WINDOW - 11_000 < unread <= WINDOW
        await one.messages.send("other", "words")
        assert [message.data for message in await take(two.hub, "other", 1)] == ["words"]
        flooding.cancel()


@turned
async def test_a_send_that_is_cancelled_while_it_waits_sends_nothing() -> None:
    async with connected(MessageHub()) as (one, two):
        while one.messages.offer("notes", bytes(50_000)):
            pass
        sending = [asyncio.create_task(one.messages.send("notes", each * 50_000)) for each in (b"c", b"s")]
        await elapse(1)
        sending[0].cancel()
        messages = two.hub.messages("notes")
        while (message := await anext(messages)).data != b"s" * 50_000:
            assert message.data == bytes(50_000)
        assert sending[1].done()


@turned
async def test_flush_waits_until_the_other_end_has_all() -> None:
    async with connected(MessageHub()) as (one, two):
        reading = two.hub.messages("notes")
        await one.messages.send("notes", bytes(200_000))
        await one.messages.flush()
        async with asyncio.timeout(0.001):
            assert (await anext(reading)).data == bytes(200_000)


@turned
async def test_the_last_words_arrive_where_they_are_waited_for_and_a_peer_that_reads_nothing_costs_a_time() -> None:
    hub, loop = MessageHub(), asyncio.get_running_loop()
    async with connected(hub, "b") as (_, b), connected(hub, "c"):
        begun, reading = loop.time(), b.hub.messages("chat")
        await hub.send("chat", "bye")
        await hub.flush(1.0)
        assert 0 < loop.time() - begun < 0.5
        await hub.send("unread", bytes(UNREAD), to="c")
        await hub.flush(1.0)
        assert 1 <= loop.time() - begun < 1.6
    assert (await anext(reading)).data == "bye"
    await hub.flush(1.0)


# Only the newest


@turned
async def test_of_the_newest_kind_a_slow_consumer_gets_the_newest() -> None:
    async with connected(MessageHub()) as (one, two):
        for number in range(20):
            await one.messages.send("pose", f"{number}", latest=True)
            await elapse(0.05)
        messages = two.hub.messages("pose")
        assert (await anext(messages)).data == "19"
        await one.messages.send("pose", "20", latest=True)
        assert (await anext(messages)).data == "20"
        assert [channel.protocol for channel in two.channels] == ["", LATEST]


@turned
async def test_of_the_newest_kind_a_slow_link_gets_the_newest_and_sending_never_waits() -> None:
    async with connected(MessageHub()) as (one, two):
        await one.messages.send("pose", "0", latest=True)
        await elapse(0.1)
        one.cut(two)
        for number in range(1, 300):
            await one.messages.send("pose", f"{number}".ljust(5000), latest=True)
        assert one.messages.replaced > 290
        one.cut(two, up=True)
        messages = two.hub.messages("pose")
        assert (await anext(messages)).data == "0"
        async with asyncio.timeout(3):
            while not str((await anext(messages)).data).startswith("299"):
                pass


# Many peers


@turned
async def test_to_all_reaches_all_and_to_one_reaches_one() -> None:
    hub = MessageHub()
    async with connected(hub, "b") as (_, b), connected(hub, "c") as (_, c):
        assert hub.sessions == ("b", "c")
        assert await hub.send("notes", "for all") == frozenset()
        await hub.send("notes", "for c", to="c")
        assert [message.data for message in await take(b.hub, "notes", 1)] == ["for all"]
        assert [message.data for message in await take(c.hub, "notes", 2)] == ["for all", "for c"]


@turned
async def test_to_one_who_has_come_again_goes_over_the_new_connection() -> None:
    hub = MessageHub()
    async with connected(hub, "b"), connected(hub, "b") as (_, again):
        await hub.send("notes", "words", to="b")
        assert [message.data for message in await take(again.hub, "notes", 1)] == ["words"]


@turned
async def test_messages_of_all_come_together() -> None:
    hub = MessageHub()
    async with connected(hub, "b") as (_, b), connected(hub, "c") as (_, c):
        await b.messages.send("notes", "1")
        await c.messages.send("notes", "2")
        assert {(message.session, message.data) for message in await take(hub, "notes", 2)} == {("b", "1"), ("c", "2")}


@turned
async def test_a_peer_that_does_not_read_costs_itself() -> None:
    hub = MessageHub()
    async with connected(hub, "quick") as (_, quick), connected(hub, "slow") as (slow, _):
        missed = 0
        reading = asyncio.create_task(take(quick.hub, "notes", 1000))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(1000):
            missing = await hub.send("notes", number.to_bytes(2) * 1000)
            assert missing <= {"slow"}
            missed += len(missing)
        assert [message.data for message in await reading] == [number.to_bytes(2) * 1000 for number in range(1000)]
        assert loop.time() - begun < 5
        assert missed == slow.messages.missed > 800
        assert waiting(slow, "notes") <= QUEUE


@turned
async def test_to_one_who_is_not_there_is_an_error_and_to_all_of_none_is_none() -> None:
    with pytest.raises(ConnectionLost, match="nobody is not connected"):
        await MessageHub().send("notes", "words", to="nobody")
    assert await MessageHub().send("notes", "words") == frozenset()


# The end


@turned
async def test_the_end_of_the_connection_ends_what_waits() -> None:
    hub = MessageHub()
    async with connected(hub) as (one, _):
        while one.messages.offer("notes", bytes(50_000)):
            pass
        sending = [
            asyncio.create_task(one.messages.send("notes", bytes(50_000))),
            asyncio.create_task(one.messages.flush()),
        ]
        to_all = asyncio.create_task(hub.send("notes", bytes(50_000)))
        await elapse(0.1)
        one.messages.close()
        for each in sending:
            with pytest.raises(ConnectionLost, match="closed"):
                await each
        assert await to_all == frozenset()
        with pytest.raises(ConnectionLost):
            await one.messages.send("notes", "words")
        one.messages.close()


@turned
async def test_an_iteration_ends_with_the_hub_after_what_has_come() -> None:
    async with connected(MessageHub()) as (one, two):
        messages = two.hub.messages("notes")
        await one.messages.send("notes", "last words")
        await one.messages.flush()
        two.hub.close()
        assert [message.data async for message in messages] == ["last words"]
        assert two.hub.sessions == ()


@turned
async def test_what_a_peer_leaves_unread_is_bounded() -> None:
    hub = MessageHub()
    reading = hub.messages("read")
    for _ in range(4):
        async with connected(hub) as (_, two):
            await two.messages.send("unread", bytes(10_000))
            await two.messages.send("read", bytes(700_000))
            await two.messages.flush()
    assert set(hub._inboxes) == {"read"}
    assert sum(entry.octets for entry in hub._inboxes["read"].entries) <= WINDOW
    assert hub.dropped == 4 + 3
    hub.close()
    assert len([message async for message in reading]) == 1


# Strangers


@turned
async def test_names_without_end_are_bounded_and_ours_are_not_used_up_by_them() -> None:
    async with connected(MessageHub()) as (one, two):
        channels = [stranger(two, f"name {number}") for number in range(MAX_NAMES + 10)]
        await elapse(1)
        assert sum(channel.is_open for channel in channels) == MAX_NAMES == len(one.messages._lines)
        await one.messages.send("notes", "words")
        assert [message.data for message in await take(two.hub, "notes", 1)] == ["words"]
        for number in range(MAX_NAMES - 1):
            await one.messages.send(f"mine {number}", "words")
        with pytest.raises(ValueError, match="'one more' would be one name too many"):
            await one.messages.send("one more", "words")


@turned
async def test_channels_of_others_are_left_alone() -> None:
    async with connected(MessageHub()) as (one, two):
        stranger(two, "words", "something else")
        await one.peer.until(lambda: one.others)
        assert not one.messages._lines


@pytest.mark.parametrize(
    ("protocol", "frames"),
    [
        (PROTOCOL, [bytes(1000)] * 20),
        (PROTOCOL, [b"\xff"]),
        (PROTOCOL, ["no JSON"]),
        (PROTOCOL, ['{"type":"limit","octets":-1}']),
        (LATEST, [b"short"]),
        (LATEST, [pack("!BLB", 0, 1, index) + bytes(1000) for index in range(20)]),
    ],
    ids=["too much", "flags", "text", "limit", "latest, short", "latest, too much"],
)
@turned
async def test_a_channel_on_which_rules_are_broken_is_closed_and_the_rest_goes_on(
    protocol: str, frames: list[bytes | str]
) -> None:
    async with connected(MessageHub()) as (one, two):
        channel = stranger(two, "notes", protocol)
        await two.peer.until(lambda: channel.is_open)
        closed: list[bool] = []
        channel.on_close = lambda: closed.append(True)
        for frame in frames:
            channel.send(frame)
        await two.peer.until(lambda: closed)
        assert not one.messages._lines
        await two.messages.send("chat", "words")
        assert [message.data for message in await take(one.hub, "chat", 1)] == ["words"]


@turned
async def test_a_name_that_the_peer_has_closed_tells_those_who_wait_and_opens_again() -> None:
    async with connected(MessageHub()) as (one, two):
        while one.messages.offer("notes", bytes(50_000)):
            pass
        sending = asyncio.create_task(one.messages.send("notes", bytes(50_000)))
        await elapse(0.1)
        two.channels[-1].close()
        with pytest.raises(ConnectionLost, match="the channel 'notes' was closed"):
            await sending
        await elapse(0.5)
        await one.messages.send("notes", "words")
        assert [message.data for message in await take(two.hub, "notes", 1)] == ["words"]
