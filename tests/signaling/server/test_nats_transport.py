import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from synopticon_rtc.signaling.server.nats_transport import NatsTransport, _Connection

LINES = [b"PING", b"PONG", b"+OK", b'INFO {"server_id":"x"}', b"-ERR 'Unknown Protocol Operation'", b"MSGS"]
subjects = st.from_regex(r"\A[a-z0-9_%-]{1,9}(\.[a-z0-9_%-]{1,9}){0,3}\Z")
payloads = st.binary(max_size=80) | st.sampled_from([b"", b"\r\n", b"MSG a 1 3\r\nabc\r\n", b"PING\r\n"])
items = st.lists(st.sampled_from(LINES) | st.tuples(subjects, payloads), max_size=12)


def nothing() -> None:
    """Be told that the connection is lost."""


@given(items, st.data())
def test_messages_are_taken_out_wherever_the_stream_is_cut(
    items: list[bytes | tuple[str, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(
        item + b"\r\n"
        if isinstance(item, bytes)
        else b"MSG %b 7 %d\r\n%b\r\n" % (item[0].encode(), len(item[1]), item[1])
        for item in items
    )
    messages: list[tuple[str, bytes]] = []

    async def receive() -> bytes:
        connection = _Connection(lambda subject, payload: messages.append((subject, payload)), nothing)
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=9).map(sorted))
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            connection.data_received(stream[start:end])
        connection.connection_lost(None)
        return await connection.lines.read()

    lines = asyncio.run(receive())
    assert messages == [item for item in items if isinstance(item, tuple)]
    assert lines == b"".join(item + b"\r\n" for item in items if isinstance(item, bytes))


async def test_replies_and_headers_that_nobody_here_sends_do_no_harm() -> None:
    messages: list[tuple[str, bytes]] = []
    connection = _Connection(lambda subject, payload: messages.append((subject, payload)), nothing)
    connection.data_received(
        b"MSG a.b 1 reply.to 2\r\nhi\r\nHMSG a.b 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\nMSG a.b 1 0\r\n\r\n"
    )
    assert messages == [("a.b", b"hi"), ("a.b", b"")]


async def test_a_large_message_in_many_pieces_is_put_together_once() -> None:
    messages: list[bytes] = []
    connection = _Connection(lambda _, payload: messages.append(payload), nothing)
    payload = bytes(range(256)) * 2**16  # 16 MiB
    stream = b"MSG a 1 %d\r\n%b\r\nPING\r\n" % (len(payload), payload)
    for start in range(0, len(stream), 2**14):
        connection.data_received(stream[start : start + 2**14])
    assert messages == [payload]
    assert await connection.lines.readline() == b"PING\r\n"


async def test_nats_py_has_a_place_for_a_transport_and_takes_one_that_is_there() -> None:
    assert Client()._transport is None
    assert bool(NatsTransport(lambda _, __: None, nothing)) is True


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
async def test_a_connection_that_is_lost_is_told_at_once_and_to_nats_py_as_well(error: Exception | None) -> None:
    told: list[str] = []
    connection = _Connection(lambda _, __: None, lambda: told.append("lost"))
    connection.connection_lost(error)
    assert told == ["lost"]
    if error is None:
        assert connection.lines.at_eof()
    else:
        with pytest.raises(ConnectionResetError):
            await connection.lines.read()
