"""What a malicious server, or a stranger through any, may send: nothing but ours is raised, and all is bounded."""

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve

from synopticon_rtc.basics.text import WORDS
from synopticon_rtc.errors import InvalidMessage
from synopticon_rtc.signaling import broadcaster_handshake
from synopticon_rtc.signaling.actions import Action, Fail, Notify, Send
from synopticon_rtc.signaling.broadcaster_handshake import JOINING, BroadcasterHandshake
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.handshake import KNOWN, LINK_CANDIDATES, Handshake
from synopticon_rtc.signaling.messages import LARGEST, AnyMessage, Offer, Requirements, decode, encode
from synopticon_rtc.signaling.receiver_handshake import ReceiverHandshake

OURS = {"control": ["control/1"], "ice": ["more"]}
KINDS = (
    *("webrtc_seek_broadcaster", "request_offer", "webrtc_offer", "webrtc_answer", "webrtc_ice", "connected"),
    *("configured", "configure", "peer_left", "broadcasters", "broadcaster_available", "broadcaster_gone"),
    *("draining", "ping", "pong", "status", "error", "news", "", None, 3),
)
KEYS = (
    *("sourceSession", "targetSession", "session", "sessionId", "deviceId", "name", "accept", "want", "unwanted"),
    *("sdp", "candidate", "more", "bye", "reason", "error", "errorCode", "role", "seconds", "broadcasters"),
    *("iceServers", "iceServersTtl", "timestamp", "server", "tells", "requirements"),
)
SOME = {"candidate": "candidate:1 1 udp 1 192.0.2.1 5 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 2**63, 10**400, -(10**30)])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["ws_1", "ws_2", "ws_us", "cam", "a\nb\x1b[2J", "x" * 1_000, "rate_limited", "not_allowed"])
    | st.sampled_from(["target_not_found", "receive", "broadcast"])
    | st.sampled_from([SOME, {"type": "offer", "sdp": "v=0\no=- 1 2 IN\na=ice-ufrag:x\n"}, OURS, [SOME] * 300])
    | st.sampled_from([{"type": "answer", "sdp": ""}, [{"session": "ws_1"}], [{"session": "ws_2", "name": 3}]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
hostile = st.builds(
    lambda kind, fields: json.dumps({"type": kind} | fields),
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(KEYS), values, max_size=6),
)


def handshakes() -> tuple[Handshake, Handshake]:
    return (
        BroadcasterHandshake(name="cam", accept=OURS, timestamp=lambda: 0),
        ReceiverHandshake(accept=OURS, timestamp=lambda: 0),
    )


def read(text: str) -> AnyMessage | None:
    """Read a message, or be told in one short line why it is none."""
    complaint = ""
    try:
        return decode(text)
    except InvalidMessage as error:
        complaint = str(error)
    assert complaint.isprintable()
    assert len(complaint) < 2 * WORDS
    return None


def check(action: Action) -> None:
    match action:
        case Send(message):
            decode(encode(message))
        case Notify(_, _, reason) | Fail(reason):
            assert len(reason) < WORDS + 100
            assert reason.isprintable()
        case _:
            pass


@given(st.lists(hostile, max_size=30))
@example(['{"type":"webrtc_ice","sourceSession":' + "[" * 100_000])
@example([json.dumps({"type": "request_offer", "sourceSession": "x" * 10_000})])
@example([json.dumps({"type": "error", "error": "é" * LARGEST})])
def test_no_message_breaks_a_handshake(texts: list[str]) -> None:
    for handshake in handshakes():
        handshake.opened("ws_us", 0)
        for now, text in enumerate(texts):
            message = read(text)
            if message is None:
                continue
            actions = handshake.received(message, now) or handshake.unclaimed(message)
            for link in list(handshake.links):
                actions += handshake.described(link, "v=0", now)
            for action in [*actions, *handshake.tick(now)]:
                check(action)
            assert len(handshake.links) <= JOINING
            assert all(link.taken <= LINK_CANDIDATES for link in handshake.links.values())
            assert not isinstance(handshake, ReceiverHandshake) or len(handshake._present or {}) <= KNOWN


@pytest.mark.parametrize("session", ["x" * 200, "ws_1\nERROR something else", "ws_1 ", "\x1b[2J"])
def test_a_session_is_a_short_word(session: str) -> None:
    with pytest.raises(InvalidMessage):
        decode(json.dumps({"type": "request_offer", "sourceSession": session}))


class Listener:
    """Takes part with a handshake, and does nothing that it says."""

    def __init__(self, handshake: Handshake) -> None:
        self.handshake = handshake
        self.requirements: Requirements = handshake.requirements
        self.heard = asyncio.Event()

    def opened(self, session: str) -> None:
        self.handshake.opened(session, 0)

    def received(self, message: AnyMessage) -> bool:
        if isinstance(message, Offer) and message.name == "the last":
            self.heard.set()
        return bool(self.handshake.received(message, 0))

    def unclaimed(self, message: AnyMessage) -> bool:
        return bool(self.handshake.unclaimed(message))

    def failed(self, error: Exception) -> None:
        raise AssertionError(error)


def absurd(chance: random.Random) -> str:
    def value(depth: int = 0) -> Any:
        simple = [None, True, -1, 10**400, 1e308, "", "x" * 5_000, "a\nb\x1b[2J", "ws_1", "ws_2", "rate", SOME, OURS]
        if depth < 2 and chance.random() < 0.3:
            return [value(depth + 1) for _ in range(chance.randrange(4))]
        return chance.choice(simple)

    fields = {key: value() for key in chance.sample(KEYS, chance.randrange(7))}
    return json.dumps({"type": chance.choice(KINDS)} | fields)


async def test_a_client_outlives_a_malicious_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="synopticon_rtc")
    chance = random.Random(1)  # noqa: S311 - the same each time
    welcome = json.dumps({"type": "connected", "sessionId": "ws_1", "iceServers": 3, "iceServersTtl": 10**400})
    last = {"type": "webrtc_offer", "sourceSession": "ws_9", "name": "the last", "sdp": {"type": "offer", "sdp": ""}}

    async def malicious(connection: ServerConnection) -> None:
        await connection.send(absurd(chance) * 2)
        await connection.send(welcome)
        for _ in range(2_000):
            await connection.send(absurd(chance))
        await connection.send(welcome.replace("ws_1", "ws_other"))
        await connection.send("x" * (LARGEST + 1))
        await connection.send(b"\xff\xfe")
        await connection.send(json.dumps(last))
        await connection.wait_closed()

    async with serve(malicious, "127.0.0.1", 0, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        listeners = [Listener(handshake) for handshake in handshakes()]
        async with SignalingClient(f"ws://127.0.0.1:{port}/ws") as client, asyncio.timeout(30):
            for listener in listeners:
                client.listen(listener)
            await listeners[0].heard.wait()
            assert client.session == "ws_1"
            assert len(client._complained) <= 100
    ours = [record for record in caplog.records if record.name.startswith("synopticon_rtc")]
    assert [record for record in ours if record.levelname == "ERROR"] == []
    assert all("\n" not in record.getMessage() and len(record.getMessage()) < 600 for record in ours)
    assert sum(record.levelname == "WARNING" for record in ours) < 150


def test_thousands_of_made_up_receivers_cost_so_many_links_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcaster_handshake, "JOINING", 5)
    handshake, _ = handshakes()
    handshake.opened("ws_us", 0)
    for number in range(10_000):
        handshake.received(decode(json.dumps({"type": "request_offer", "sourceSession": f"ws_{number}"})), number / 1e3)
    assert len(handshake.links) == 5
