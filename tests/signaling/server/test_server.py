import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from bare_client import Client, fetch, joined, object_of, until_open
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import turns, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from synopticon_rtc.commands.signaling import main
from synopticon_rtc.errors import PortInUse, SignalingError
from synopticon_rtc.signaling.messages import RELAYED
from synopticon_rtc.signaling.server import server as server_module
from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.server import SignalingServer
from synopticon_rtc.signaling.server.session import Session

LOGGER = "synopticon_rtc.signaling.server"


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


# Session


async def test_a_session_is_welcomed_with_its_id(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        assert list(client.welcome) == ["type", "sessionId", "capabilities", "serverVersion", "timestamp"]
        assert client.welcome["type"] == "connected"
        assert re.fullmatch(r"ws_\d{13}_[0-9a-f]{16}", client.session)
        assert isinstance(client.welcome["capabilities"], list)
        assert client.welcome["serverVersion"] == "2.0.0"
        assert abs(client.welcome["timestamp"] - time.time() * 1000) < 5000
        assert list(server.sessions) == [client.session]


async def test_no_compression_and_no_subprotocol(server: SignalingServer) -> None:
    offer = connect(server.url, compression="deflate", subprotocols=["x"])  # type: ignore[list-item]  # a NewType of str
    async with offer as websocket:
        assert websocket.response is not None
        assert "Sec-WebSocket-Extensions" not in websocket.response.headers
        assert websocket.subprotocol is None


async def test_configure_is_answered_with_its_requirements_as_they_came(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        await client.send('{"type":"configure","requirements":{"fps":30.0,"id":12345678901234567890123,"ü":"\\u00fc"}}')
        text = await client.receive_text()
        assert '"requirements":{"fps":30.0,"id":12345678901234567890123,"ü":"\\u00fc"}' in text
        answer = json.loads(text)
        assert list(answer) == ["type", "sessionId", "requirements", "timestamp"]
        assert (answer["type"], answer["sessionId"]) == ("configured", client.session)


async def test_configure_without_requirements_is_answered(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        await client.send({"type": "configure"})
        assert list(await client.receive()) == ["type", "sessionId", "timestamp"]


@pytest.mark.parametrize("timestamp", [1700000000000, 0.5, "then", None])
async def test_ping_is_answered_with_its_timestamp(server: SignalingServer, timestamp: Any) -> None:
    async with joined(server) as [client]:
        await client.send({"type": "ping", "timestamp": timestamp})
        answer = await client.receive()
        assert list(answer) == ["type", "sessionId", "clientTimestamp", "serverTimestamp"]
        assert (answer["type"], answer["sessionId"]) == ("pong", client.session)
        assert answer["clientTimestamp"] == timestamp
        assert abs(answer["serverTimestamp"] - time.time() * 1000) < 5000


async def test_status_tells_of_server_and_session(server: SignalingServer) -> None:
    async with joined(server, 2) as [client, _]:
        await client.send("no json")
        await client.receive()
        await client.send({"type": "status"})
        answer = await client.receive()
        assert list(answer) == ["type", "sessionId", "server", "session", "timestamp"]
        assert 0 <= answer["server"].pop("uptime") < 5
        assert answer["server"] == {"activeConnections": 2, "totalSessions": 2, "pipelines": []}
        assert 0 <= answer["session"].pop("age") < 5
        assert answer["session"] == {"id": client.session, "frameCount": 0, "messageCount": 2, "errors": 1}


# Relay


@pytest.mark.parametrize("kind", sorted(RELAYED))
async def test_a_targeted_message_goes_to_its_target_alone(server: SignalingServer, kind: str) -> None:
    async with joined(server, 3) as [sender, target, other]:
        await sender.send({"type": kind, "targetSession": target.session, "x": 1})
        expected = {"type": kind, "targetSession": target.session, "x": 1, "sourceSession": sender.session}
        assert await target.receive() == expected
        assert await sender.next_is_pong()
        assert await other.next_is_pong()
        assert server.relayed == 1


@pytest.mark.parametrize(
    "target", ["", ',"targetSession":null'] + [f',"targetSession":{x}' for x in ("false", "0", "-0", "0.0", '""')]
)
async def test_without_a_target_a_message_goes_to_all_but_its_sender(server: SignalingServer, target: str) -> None:
    async with joined(server, 3) as [sender, *others]:
        await sender.send('{"type":"request_offer"' + target + "}")
        assert [(await other.receive())["sourceSession"] for other in others] == [sender.session] * 2
        assert await sender.next_is_pong()


async def test_all_other_keys_pass_as_they_came(server: SignalingServer) -> None:
    rest = (
        '"deviceId":"\\u00fc\\/\\ud83d\\ude00ü😀","n":1.0,"big":123456789012345678901234567890,"e":1E400,"neg":-0,'
        '"candidate":{"a":null,"a":[ true , {} ]},"":""'
    )
    async with joined(server, 2) as [sender, target]:
        await sender.send(f'{{ "type" : "webrtc_ice" , "targetSession" : "{target.session}" , {rest} }}')
        assert rest in await target.receive_text()


@pytest.mark.parametrize("target", ['"ws_0_0000000000000000"', "[]", "{}", "[[", "true", "1", "1e999", "9" * 400])
async def test_a_target_that_is_no_session_is_met_with_silence(server: SignalingServer, target: str) -> None:
    async with joined(server, 2) as [sender, other]:
        target = target.replace("[[", "[" * 200 + "]" * 200)
        await sender.send(f'{{"type":"webrtc_ice","targetSession":{target}}}')
        assert await sender.next_is_pong()
        assert await other.next_is_pong()
        assert server.relayed == 0


async def test_a_target_that_is_gone_is_met_with_silence(server: SignalingServer) -> None:
    async with joined(server) as [sender]:
        async with joined(server) as [gone]:
            pass
        await until_open(server, 1)
        await sender.send({"type": "webrtc_ice", "targetSession": gone.session})
        assert await sender.next_is_pong()


async def test_a_message_to_oneself_comes_back(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        await client.send({"type": "webrtc_ice", "targetSession": client.session})
        assert (await client.receive())["sourceSession"] == client.session


async def test_many_messages_in_one_segment_arrive_complete_and_in_order(server: SignalingServer) -> None:
    async with joined(server, 2) as [sender, target]:
        messages = [{"type": "webrtc_ice", "targetSession": target.session, "n": n} for n in range(500)]
        frames = [Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True) for message in messages]
        sender.websocket.transport.write(b"".join(frames))
        assert [(await target.receive())["n"] for _ in messages] == list(range(500))


async def test_messages_sent_just_before_leaving_arrive(server: SignalingServer) -> None:
    async with joined(server) as [target]:
        async with joined(server) as [sender]:
            for n in range(50):
                await sender.send({"type": "webrtc_ice", "targetSession": target.session, "n": n})
        assert [(await target.receive())["n"] for _ in range(50)] == list(range(50))


async def test_a_broadcast_is_written_once_for_all(server: SignalingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered: list[bytes] = []
    deliver = Session.deliver

    def noted(session: Session, message: bytes, source: str = "") -> None:
        delivered.append(message)
        deliver(session, message, source)

    async with joined(server, 6) as [sender, *others]:
        monkeypatch.setattr(Session, "deliver", noted)
        await sender.send({"type": "request_offer"})
        for other in others:
            await other.receive()
    assert len(delivered) == 5
    assert all(message is delivered[0] for message in delivered)


# Errors and limits

MALFORMED = {
    "unknown type": '{"type":"notification"}',
    "no type": "{}",
    "type is no string": '{"type":7}',
    "type is an object": '{"type":{"a":[]}}',
    "type has a lone surrogate": '{"type":"\\ud800"}',
    "not JSON": "hello",
    "empty": "",
    "cut off": '{"type":"ping"',
    "trailing": '{"type":"ping"} {}',
    "array": '[{"type":"ping"}]',
    "string": '"ping"',
    "null": "null",
    "NaN": '{"type":"webrtc_ice","n":NaN}',
    "Infinity": '{"type":"webrtc_ice","n":-Infinity}',
    "lone surrogate": '{"type":"webrtc_ice","n":"\\udc00"}',
    "lone surrogate in a key": '{"type":"webrtc_ice","\\ud800":1}',
    "control character": '{"type":"webrtc_ice","n":"\n\x00"}',
    "deeply nested": '{"type":"webrtc_ice","n":' + "[" * 100_000 + "]" * 100_000 + "}",
    "deeply nested and open": '{"type":"webrtc_ice","n":' + '{"a":' * 100_000,
    "deeply nested target": '{"type":"webrtc_ice","targetSession":' + "[" * 100_000 + "]" * 100_000 + "}",
    "byte order mark": '\ufeff{"type":"ping"}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
async def test_a_malformed_message_is_answered_and_disturbs_nobody(
    server: SignalingServer, text: str, *, binary: bool
) -> None:
    async with joined(server, 2) as [client, other]:
        await client.send(text.encode() if binary else text)
        answer = await client.receive()
        assert list(answer) == ["type", "sessionId", "error", "errorCode", "timestamp"]
        assert (answer["type"], answer["sessionId"]) == ("error", client.session)
        assert answer["errorCode"] == "MESSAGE_HANDLING_ERROR"
        assert len(answer["error"]) < 300
        assert await client.next_is_pong()
        assert await other.next_is_pong()


async def test_an_unknown_type_is_named(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        await client.send({"type": "notification"})
        assert (await client.receive())["error"] == "Unknown message type: notification"


async def test_the_tenth_error_closes_the_session_however_many_messages_were_fine(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        for _ in range(9):
            await client.send("?")
            assert (await client.receive())["type"] == "error"
            assert await client.next_is_pong()
        await client.send("?")
        await client.send({"type": "ping"})
        with pytest.raises(ConnectionClosed):
            await client.receive()
        assert await client.closed() == (1011, "Too many errors")
        await until_open(server, 0)


async def test_a_session_over_the_limit_is_closed_until_another_leaves() -> None:
    async with SignalingServer(port=0, limits=Limits(sessions=2)) as server, joined(server):
        async with joined(server), connect(server.url) as websocket:
            assert await Client(websocket, {"sessionId": ""}).closed() == (1013, "Server overloaded")
        await until_open(server, 1)
        async with joined(server) as [client]:
            assert await client.next_is_pong()


@pytest.mark.parametrize("limits", [Limits(), Limits(message_bytes=16 * 2**20)], ids=["ours", "published"])
async def test_a_message_of_the_limit_passes_and_a_larger_one_closes_its_session(limits: Limits) -> None:
    async with SignalingServer(port=0, limits=limits) as server, joined(server, 2) as [sender, target]:
        head = f'{{"type":"webrtc_ice","targetSession":"{target.session}","x":"'
        text = head + "x" * (limits.message_bytes - len(head) - 2) + '"}'
        await sender.send(text)
        assert len((await target.receive())["x"]) == len(text) - len(head) - 2
        sender.websocket.transport.write(Frame(Opcode.TEXT, text.encode() + b" ").serialize(mask=True)[:64])
        assert (await sender.closed())[0] == 1009
        assert await target.next_is_pong()


def test_the_limits_are_the_published_ones_but_for_large_messages_which_nobody_needs() -> None:
    limits = Limits()
    assert (limits.sessions, limits.message_bytes, limits.errors, limits.idle) == (100, 1024 * 1024, 10, 30)


async def test_a_binary_frame_of_json_is_relayed_as_text(server: SignalingServer) -> None:
    async with joined(server, 2) as [sender, target]:
        await sender.send(json.dumps({"type": "webrtc_ice", "targetSession": target.session}).encode())
        assert (await target.receive())["type"] == "webrtc_ice"


async def test_a_binary_frame_that_is_no_utf8_reaches_nobody(server: SignalingServer) -> None:
    async with joined(server, 2) as [sender, target]:
        await sender.send(b'{"type":"webrtc_ice","x":"\xff"}')
        assert (await sender.receive())["type"] == "error"
        assert await target.next_is_pong()


async def test_a_text_frame_that_is_no_utf8_ends_its_session(server: SignalingServer) -> None:
    async with joined(server, 2) as [sender, target]:
        sender.websocket.transport.write(Frame(Opcode.TEXT, b'{"type":"ping","x":"\xff"}').serialize(mask=True))
        assert (await sender.closed())[0] == 1007
        assert await target.next_is_pong()


async def test_a_silent_session_is_closed() -> None:
    started = time.monotonic()
    async with SignalingServer(port=0, limits=Limits(idle=0.2)) as server, joined(server) as [client]:
        assert await client.closed() == (1000, "Session timeout")
        assert 0.2 <= time.monotonic() - started < 2


@pytest.mark.parametrize("message", [{"type": kind} for kind in ("ping", "configure", "status", "webrtc_ice")], ids=str)
async def test_any_message_keeps_a_session_alive_and_hearing(message: dict[str, Any]) -> None:
    async with SignalingServer(port=0, limits=Limits(idle=0.6)) as server, joined(server) as [client]:
        for _ in range(8):
            await client.send(message)
            await asyncio.sleep(0.1)
        async with joined(server) as [other]:
            await other.send({"type": "request_offer", "targetSession": client.session})
            kinds = [(await client.receive())["type"] for _ in range(9 if message["type"] != "webrtc_ice" else 1)]
            assert kinds[-1] == "request_offer"


async def test_a_session_that_left_without_a_word_is_noticed() -> None:
    async with SignalingServer(port=0, limits=Limits(idle=0.2, close=0.1)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        writer.write(f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n".encode())
        await reader.readuntil(b'"connected"')
        await until_open(server, 1)
        await until_open(server, 0)
        writer.close()


async def test_a_slow_reader_is_let_go_and_holds_up_nobody() -> None:
    limits = Limits(buffered_bytes=2**18, close=0.1)
    async with SignalingServer(port=0, limits=limits) as server, joined(server, 3) as [sender, slow, other]:
        slow.websocket.transport.pause_reading()
        transport = server.sessions[slow.session]._transport.underlying_transport
        owed = 0
        for n in range(100):
            await sender.send({"type": "webrtc_ice", "n": n, "x": "x" * 2**18})
            assert (await other.receive())["n"] == n
            owed = max(owed, transport.get_write_buffer_size())
        await until_open(server, 2)
        assert owed <= 2**18 + 2**18 + 1000
        assert await sender.next_is_pong()
        slow.websocket.transport.abort()


async def test_a_flood_of_pings_that_are_never_read_ends_the_flooding_session() -> None:
    limits = Limits(buffered_bytes=2**16, close=0.1)
    async with SignalingServer(port=0, limits=limits) as server, joined(server, 2) as [flood, other]:
        flood.websocket.transport.pause_reading()
        ping = Frame(Opcode.TEXT, b'{"type":"ping","timestamp":"%s"}' % (b"x" * 50_000)).serialize(mask=True)
        with contextlib.suppress(ConnectionClosed, OSError):
            for _ in range(400):
                flood.websocket.transport.write(ping)
                await flood.websocket.drain()
                assert await other.next_is_pong()
                if flood.session not in server.sessions:
                    break
        await until_open(server, 1)
        flood.websocket.transport.abort()


# Hostile input


def spellings(key: str) -> st.SearchStrategy[str]:
    """A key with any of its characters escaped, in any case of the digits."""
    return st.tuples(*(st.sampled_from([c, f"\\u{ord(c):04x}", f"\\u{ord(c):04X}"]) for c in key)).map("".join)


keys = spellings("sourceSession") | st.sampled_from(["SourceSession", "sourceSession\\u0000", " sourceSession", "x"])
values = st.sampled_from(['"ws_1_forged"', "null", '{"sourceSession":"ws_1_forged"}', '["ws_1_forged"]', '"\\u0077s"'])
members = st.lists(st.builds('"{}":{}'.format, keys, values), max_size=6)


@settings(max_examples=60, deadline=None)
@given(before=members, after=members)
async def test_no_spelling_forges_the_source_session(before: list[str], after: list[str]) -> None:
    async with SignalingServer(port=0) as server, joined(server, 2) as [sender, other]:
        await sender.send("{" + ",".join([*before, '"type":"webrtc_ice"', *after]) + "}")
        pairs = json.loads(await other.receive_text(), object_pairs_hook=list)
        assert [value for name, value in pairs if name == "sourceSession"] == [sender.session]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["type", "targetSession", "sourceSession", "requirements", "timestamp", "sdp"])
kinds = st.sampled_from([*sorted(RELAYED), "ping", "configure", "status", "connected", "error"])
near_messages = st.builds(lambda kind, rest: {"type": kind} | rest, kinds, st.dictionaries(fields, json_values))
inputs = st.binary() | st.text().map(str.encode) | (json_values | near_messages).map(lambda x: json.dumps(x).encode())


@settings(max_examples=40, deadline=None)
@given(data=st.lists(st.tuples(inputs, st.booleans()), max_size=12))
@pytest.mark.long
async def test_no_input_disturbs_others_or_the_server(data: list[tuple[bytes, bool]]) -> None:
    async with SignalingServer(port=0) as server, joined(server, 3) as [hostile, one, two]:
        for payload, text in data:
            opcode = Opcode.TEXT if text else Opcode.BINARY
            hostile.websocket.transport.write(Frame(opcode, payload).serialize(mask=True))
        await hostile.websocket.close()
        await until_open(server, 2)
        await one.send({"type": "webrtc_ice", "targetSession": two.session})
        received = [await two.receive()]
        while received[-1]["sourceSession"] != one.session:
            assert received[-1]["sourceSession"] == hostile.session
            received.append(await two.receive())


@settings(max_examples=40, deadline=None)
@given(data=st.binary() | st.binary().map(lambda tail: b"GET /ws HTTP/1.1\r\n" + tail + b"\r\n\r\n"))
async def test_no_bytes_before_the_handshake_stop_the_server(data: bytes) -> None:
    async with SignalingServer(port=0) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        writer.close()
        async with joined(server) as [client]:
            assert await client.next_is_pong()


# Logging, events, the end


async def test_each_session_is_one_line_at_its_start_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with SignalingServer(port=0) as server:
        async with joined(server) as [client]:
            for _ in range(3):
                await client.send({"type": "a\nforged line"})
                await client.receive()
        await until_open(server, 0)
    lines = [(record.levelname, record.message) for record in caplog.records if record.name == LOGGER]
    assert [level for level, _ in lines] == ["INFO", "WARNING", "INFO"]
    assert re.fullmatch(rf"session {client.session} from 127\.0\.0\.1:\d+ opened", lines[0][1])
    assert client.session in lines[1][1]
    assert "\n" not in lines[1][1]
    assert re.fullmatch(
        rf"session {client.session} from 127\.0\.0\.1:\d+ closed after \d\.\d s: 1000 \(OK\)", lines[2][1]
    )
    assert {record.name for record in caplog.records} == {LOGGER}


async def test_scans_and_broken_connections_leave_no_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    attempts = [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET /ws HTTP/1.1\r\n",
        b"GET /ws HTTP/1.1\r\n\r\n",
        b"GET /ws HTTP/1.1\r\n" + upgrade + b"Sec-WebSocket-Key: ?\r\n\r\n",
        b"GET / HTTP/1.1\r\nIf-None-Match: a\r\nIf-None-Match: b\r\n\r\n",
        b"POST /ws HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
    ]
    async with SignalingServer(port=0) as server:
        for attempt in attempts:
            for abort in (False, True):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(attempt)
                await turns(20)
                if abort:
                    writer.transport.abort()
                writer.close()
        assert caplog.records == []
        async with joined(server, 2) as [dropped, other]:
            dropped.websocket.transport.abort()
            for _ in range(20):
                await other.send({"type": "request_offer"})
            await until_open(server, 1)
    assert {(record.name, record.levelname) for record in caplog.records} == {(LOGGER, "INFO")}
    assert all(record.exc_info is None for record in caplog.records)


async def test_a_client_that_leaves_with_messages_unread_leaves_no_trace_in_the_log(
    server: SignalingServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(server, 2) as [sender, leaving]:
        leaving.websocket.transport.pause_reading()
        transport = server.sessions[leaving.session]._transport.underlying_transport
        while transport.get_write_buffer_size() == 0:
            await sender.send({"type": "webrtc_ice", "targetSession": leaving.session, "x": "x" * 2**18})
            assert await sender.next_is_pong()
        leaving.websocket.transport.write_eof()
        await turns(20)
        leaving.websocket.transport.resume_reading()
        await until_open(server, 1)
    await until_open(server, 0)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_sessions_are_told_of_when_they_open_and_close() -> None:
    told: list[tuple[str, str]] = []
    async with SignalingServer(port=0, on_session=lambda session: told.append((session.id, session.reason))) as server:
        async with joined(server) as [client]:
            assert told == [(client.session, "")]
        await until_open(server, 0)
        assert told[1:] == [(client.session, "1000 (OK)")]
    assert (server.total_sessions, server.relayed) == (1, 0)


async def test_what_the_application_gets_wrong_when_told_of_a_session_holds_nothing_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def told(session: Session) -> None:
        raise LookupError(session.id)

    async with SignalingServer(port=0, on_session=told) as server:
        async with joined(server) as [client]:
            assert await client.next_is_pong()
            draining = asyncio.create_task(server.drain(30))
            await turns()
        async with asyncio.timeout(20):
            await draining
        assert server.sessions == {}
    assert [record.getMessage() for record in caplog.records] == [f"on_session failed at session {client.session}"]


async def test_a_session_can_be_ended_from_outside_even_as_it_opens(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        server.sessions[client.session].end(4000, "enough")
        server.sessions[client.session].end(4001, "too late")
        assert await client.closed() == (4000, "enough")
    async with joined(server) as [client]:
        server.sessions[client.session].end(4000, "é" * 100)
        assert await client.closed() == (4000, "é" * 61)
    refuse = SignalingServer(port=0, on_session=lambda session: session.end(4003, "not you"))
    async with refuse, joined(refuse) as [client]:
        assert await client.closed() == (4003, "not you")


async def test_the_server_ends_fast_whatever_its_clients_do() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with SignalingServer(port=0, limits=Limits(close=0.2)) as server:
            [polite, deaf] = await stack.enter_async_context(joined(server, 2))
            deaf.websocket.transport.pause_reading()
            _, spare = await asyncio.open_connection("127.0.0.1", server.port)
            started = time.monotonic()
        assert time.monotonic() - started < 1  # and not as long as a close may take by default
        assert (await polite.closed())[0] == 1001
        assert server.sessions == {}
        spare.close()
        deaf.websocket.transport.abort()


async def test_an_error_in_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError):
        async with SignalingServer(port=0):
            raise LookupError


# Addresses


async def test_a_port_in_use_is_one_line_with_the_address(server: SignalingServer) -> None:
    with pytest.raises(PortInUse) as caught:
        await SignalingServer(port=server.port).__aenter__()
    assert str(caught.value).startswith(f"127.0.0.1:{server.port} is in use: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70_000), ("not a host", 0), ("a" * 70, 0)])
async def test_an_address_that_cannot_be_had_is_a_signaling_error(host: str, port: int) -> None:
    with pytest.raises(SignalingError, match="cannot listen on") as caught:
        await SignalingServer(host, port).__aenter__()
    assert not isinstance(caught.value, PortInUse)


async def test_a_name_of_several_addresses_has_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def both(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        hosts = ["127.0.0.1", "127.0.0.2"] if host == "localhost" else [host]
        return [info for each in hosts for info in real(each, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    async with SignalingServer("localhost", 0) as server:
        for host in ("127.0.0.1", "127.0.0.2"):
            async with connect(f"ws://{host}:{server.port}/ws") as websocket:
                assert json.loads(await websocket.recv())["type"] == "connected"
        with pytest.raises(PortInUse):
            await SignalingServer("localhost", server.port).__aenter__()


async def until_only(tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until no others are left."""
    await until(lambda: asyncio.all_tasks() == tasks)


@pytest.mark.parametrize("when", range(6))
async def test_a_server_that_is_cancelled_as_it_starts_leaves_nothing(when: int) -> None:
    before = asyncio.all_tasks()
    server = SignalingServer("localhost", 0)
    starting = asyncio.create_task(server.__aenter__())
    await turns(when)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
        await server.__aexit__(None, None, None)
    await until_only(before)


async def test_a_server_that_is_cancelled_as_it_stops_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    server = SignalingServer(port=0)
    await server.__aenter__()
    _, spare = await asyncio.open_connection("127.0.0.1", server.port)
    stopping = asyncio.create_task(server.__aexit__(None, None, None))
    await turns(20)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    spare.close()
    await until_only(before)
    async with SignalingServer(port=server.port) as again:
        assert again.port == server.port


def test_addresses_are_written_as_clients_need_them() -> None:
    assert SignalingServer().url == "ws://127.0.0.1:8081/ws"
    assert SignalingServer().viewer == "http://127.0.0.1:8081/"
    assert SignalingServer("0.0.0.0").url == "ws://127.0.0.1:8081/ws"  # noqa: S104  # nothing is bound
    assert SignalingServer("::", 80).url == "ws://[::1]:80/ws"


def test_the_viewer_of_a_server_for_all_is_where_others_reach_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        address = probe.getsockname()[0]
    assert SignalingServer("0.0.0.0").viewer == f"http://{address}:8081/"  # noqa: S104  # nothing is bound
    assert SignalingServer("").viewer == f"http://{address}:8081/"
    assert SignalingServer("host.test").viewer == "http://host.test:8081/"


# The viewer


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SignalingServer]:
    web = tmp_path / "web"
    (web / "parts").mkdir(parents=True)
    (tmp_path / "secret.html").write_text("secret")
    (web / "index.html").write_text("<!doctype html>", encoding="utf-8")
    for name in ("a.css", "a.js", "parts/a.mjs", "a.json", "a.svg", "a.png", "a.wasm", "a.py", "README", ".env"):
        (web / name).write_bytes(name.encode())
    monkeypatch.setattr(server_module, "WEB", web)
    async with SignalingServer(port=0) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/index", "text/html; charset=utf-8"),
        ("/?room=a", "text/html; charset=utf-8"),
        ("/a.css", "text/css; charset=utf-8"),
        ("/a.js", "text/javascript; charset=utf-8"),
        ("/parts/a.mjs", "text/javascript; charset=utf-8"),
        ("/a%2ejson", "application/json"),
        ("/a.svg", "image/svg+xml"),
        ("/a.png", "image/png"),
        ("/a.wasm", "application/wasm"),
    ],
)
async def test_a_file_of_the_viewer_is_served_with_its_type(
    site: SignalingServer, path: str, content_type: str
) -> None:
    response, body = await fetch(site, path)
    assert response.status == 200
    assert response.headers["Content-Type"] == content_type
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert set(policy[1:]) == {
        "connect-src 'self' ws: wss:",
        "img-src 'self' data: blob:",
        "media-src 'self' blob: mediastream:",
    }
    assert body == (
        b"<!doctype html>" if "html" in content_type else Path(path.replace("%2e", ".")[1:]).as_posix().encode()
    )


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.html",
        "/%2e%2e/secret.html",
        "/..%2fsecret.html",
        "/parts/../../secret.html",
        "/parts/..%5c..%5csecret.html",
        "//etc/passwd",
        "/%00",
        "/%ff",
        "/a.py",
        "/README",
        "/.env",
        "/parts",
        "/parts/",
        "/wsx",
        "/favicon.ico",
        "*",
    ],
)
async def test_all_else_is_not_found(site: SignalingServer, path: str) -> None:
    response, body = await fetch(site, path)
    assert (response.status, body) == (404, b"Not found\n")
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_page_is_asked_for_again_and_sent_only_when_it_changed(site: SignalingServer, tmp_path: Path) -> None:
    first, _ = await fetch(site, "/a.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again, body = await fetch(site, "/a.js", headers={"If-None-Match": f"W/{first.headers['ETag']}"})
    assert (again.status, body) == (304, b"")
    (tmp_path / "web" / "a.js").write_text("upgraded")
    async with SignalingServer(port=0) as upgraded:
        response, body = await fetch(upgraded, "/a.js", headers={"If-None-Match": first.headers["ETag"]})
        assert (response.status, body) == (200, b"upgraded")


async def test_the_signaling_address_asks_for_an_upgrade(site: SignalingServer) -> None:
    response, _ = await fetch(site, "/ws")
    assert (response.status, response.headers["Upgrade"]) == (426, "websocket")


async def test_the_viewer_of_the_package_is_served(server: SignalingServer) -> None:
    response, body = await fetch(server, "/")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"<!doctype html>" in body[:100].lower()


# The command line


@contextlib.contextmanager
def command(*options: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "synopticon_rtc.signaling", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | env,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    return object_of(process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_json_tells_ready_sessions_and_a_summary(number: signal.Signals) -> None:
    with command("--port", "0", "--json", "--drain", "0.2") as process:
        ready = await asyncio.to_thread(line, process)
        assert ready == {"event": "ready", "url": ready["url"], "viewer": ready["viewer"]}
        async with connect(ready["url"]) as websocket:
            session = object_of(str(await websocket.recv()))["sessionId"]
            await websocket.send(json.dumps({"type": "request_offer", "targetSession": session}))
            await websocket.recv()
            opened = await asyncio.to_thread(line, process)
            assert re.fullmatch(r"127\.0\.0\.1:\d+", opened.pop("address"))
            assert opened == {"event": "session", "session": session, "state": "open"}
            started = time.monotonic()
            process.send_signal(number)
            out, err = await asyncio.to_thread(process.communicate, timeout=20)
        assert time.monotonic() - started < 5  # which is what it leaves to sessions without the option
        assert (process.returncode, err) == (0, "")
        *draining, closed, summary = map(json.loads, out.splitlines())
        assert (closed["session"], closed["state"]) == (session, "closed")
        if number == signal.SIGTERM:
            assert draining == [{"event": "draining", "sessions": 1, "seconds": 0.2}]
            assert closed["reason"].startswith("1012")
        else:
            assert draining == []
            assert closed["reason"].startswith("1001")
        assert 0 < summary.pop("uptime") < 60
        assert summary == {"event": "summary", "sessions": 1, "messages": 1}


async def test_people_read_both_addresses_and_with_v_each_step() -> None:
    with command("-v", SYNOPTICON_PORT="0") as process:
        assert process.stdout
        addresses = [await asyncio.to_thread(process.stdout.readline) for _ in range(2)]
        url, viewer = (text.split()[-1] for text in addresses)
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/ws", url)
        assert viewer == url.replace("ws://", "http://").removesuffix("ws")
        async with connect(url) as websocket:
            await websocket.recv()
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.to_thread(process.communicate, timeout=20)
        assert process.returncode == 0
        assert "1 session" in out
        assert [" opened" in err, " closed after " in err, "Traceback" in err] == [True, True, False]


def test_a_port_in_use_ends_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with command("--port", str(port), "--json") as process:
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert re.fullmatch(rf"signaling: 127\.0\.0\.1:{port} is in use: [^\n]+\n", err)


@pytest.mark.parametrize("options", [["--port", "x"], ["--port", "65536"], ["--prot", "1"], ["extra"]])
def test_wrong_usage_ends_with_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(options)
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert re.fullmatch(r"signaling: [^\n]+ Try --help\n", err)


async def test_ctrl_c_is_a_clean_end_when_nobody_reads_its_output_any_more() -> None:
    with command("--port", "0", "--json") as process:
        await asyncio.to_thread(line, process)
        assert process.stdout
        process.stdout.close()
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert process.stderr
        assert process.stderr.read() == ""


@pytest.mark.long
async def test_it_ends_when_nobody_reads_its_output() -> None:
    with command("--port", "0", "--json") as process:
        ready = await asyncio.to_thread(line, process)
        assert process.stdout
        process.stdout.close()
        async with connect(ready["url"]) as websocket:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await websocket.recv()
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert process.stderr
        assert process.stderr.read() == ""
