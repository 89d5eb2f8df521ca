"""What it takes to run a server: it is asked how it is, started, stopped, and refuses to be open by mistake."""

import asyncio
import datetime as dt
import http.client
import json
import os
import re
import signal
import ssl
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from bare_client import fetch, joined, object_of
from prometheus_client.parser import text_string_to_metric_families
from rtc_network import write_certificate
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from synopticon_rtc.commands.signaling import main, token
from synopticon_rtc.errors import InvalidIceServer, SignalingError
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.nats import NatsBackplane
from synopticon_rtc.signaling.server.secret import read_secret
from synopticon_rtc.signaling.server.server import SignalingServer
from synopticon_rtc.signaling.server.tokens import TokenKeys

SECRET = "a secret of thirty-two bytes....."  # noqa: S105  # of these tests alone
ANYWHERE = "0.0.0.0"  # noqa: S104  # on purpose


@pytest.fixture
async def server() -> AsyncIterator[SignalingServer]:
    async with SignalingServer(port=0) as server:
        yield server


# Health


async def test_a_server_is_alive_and_ready(server: SignalingServer) -> None:
    for path, text in (("/healthz", b"alive\n"), ("/readyz", b"ready\n")):
        response, body = await fetch(server, path)
        assert (response.status, body, response.headers["Cache-Control"]) == (200, text, "no-store")


async def test_a_server_that_drains_is_alive_and_not_ready_and_takes_nobody(server: SignalingServer) -> None:
    async with joined(server) as [client]:
        draining = asyncio.create_task(server.drain(5))
        assert await client.next_is_pong()
        assert (await fetch(server, "/healthz"))[0].status == 200
        response, body = await fetch(server, "/readyz")
        assert (response.status, body) == (503, b"draining\n")
        with pytest.raises(InvalidStatus) as caught:
            await connect(server.url, proxy=None)
        refused = caught.value.response
        assert (refused.status_code, json.loads(bytes(refused.body or b""))["error"]) == (503, "draining")
    await draining


async def test_a_server_that_is_cut_off_from_its_backplane_is_not_ready() -> None:
    async with SignalingServer(port=0, backplane=NatsBackplane("nats://127.0.0.1:1")) as server:
        response, body = await fetch(server, "/readyz")
        assert (response.status, body) == (503, b"cut off from the backplane\n")
        assert (await fetch(server, "/healthz"))[0].status == 200


# Metrics


async def metrics(server: SignalingServer, **labels: str) -> dict[str, float]:
    """Read all metrics, those with labels where they are these."""
    response, body = await fetch(server, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(body.decode())
    samples = [sample for family in families for sample in family.samples]
    return {sample.name: sample.value for sample in samples if labels.items() >= sample.labels.items()}


async def test_metrics_count_what_happens(server: SignalingServer) -> None:
    before = await metrics(server)
    assert before["synopticon_signaling_sessions"] == before["synopticon_signaling_rooms"] == 0
    assert before["process_resident_memory_bytes"] > 0
    async with joined(server, 2) as [receiver, broadcaster], joined(server, query="?room=b"):
        await receiver.send({"type": "webrtc_seek_broadcaster"})
        await broadcaster.receive()
        for one, other, kind in [
            (broadcaster, receiver, "webrtc_offer"),
            (receiver, broadcaster, "webrtc_answer"),
            (receiver, broadcaster, "webrtc_ice"),
            (receiver, broadcaster, "webrtc_ice"),
        ]:
            await one.send({"type": kind, "targetSession": other.session})
            await other.receive()
        await receiver.send("?")
        await receiver.receive()
        await receiver.send({"type": "webrtc_ice", "targetSession": "ws_1_0"})
        assert await receiver.next_is_pong()
        with pytest.raises(InvalidStatus):
            await connect(server.url, origin="http://elsewhere.test", proxy=None)  # type: ignore[arg-type]  # a NewType of str
        now = await metrics(server, le="+Inf")
        assert now["synopticon_signaling_sessions"] == now["synopticon_signaling_sessions_opened_total"] == 3
        assert now["synopticon_signaling_rooms"] == 2
        assert now["synopticon_signaling_relayed_total"] == 5
        assert now["synopticon_signaling_relay_seconds_bucket"] == 5
        assert now["synopticon_signaling_relay_seconds_count"] == 5
        assert 0 < now["synopticon_signaling_relay_seconds_sum"] < 5
        assert now["synopticon_signaling_join_seconds_count"] == 1
        assert 0 < now["synopticon_signaling_join_seconds_sum"] < 5
        kinds = {"webrtc_seek_broadcaster": 1, "webrtc_offer": 1, "webrtc_answer": 1, "webrtc_ice": 3, "invalid": 1}
        for kind, count in kinds.items():
            assert (await metrics(server, type=kind))["synopticon_signaling_messages_total"] == count
        for code in ("target_not_found", "wrong_origin"):
            assert (await metrics(server, code=code))["synopticon_signaling_refused_total"] == 1


async def test_buckets_hold_all_up_to_their_bound(server: SignalingServer) -> None:
    histogram = server._hub.counts.joins
    for seconds in (0.01, 0.025, 0.03, 0.2, 60.0):
        histogram.observe(seconds)
    name = "synopticon_signaling_join_seconds"
    counts = [(await metrics(server, le=bound))[f"{name}_bucket"] for bound in ("0.025", "0.05", "30.0", "+Inf")]
    assert counts == [2, 3, 4, 5]
    assert (await metrics(server))[f"{name}_sum"] == pytest.approx(60.265)


@pytest.mark.parametrize(
    ("options", "forwarded", "status"),
    [
        ({}, "", 200),
        ({}, "192.0.2.1", 403),
        ({"proxies": ["127.0.0.1"]}, "192.0.2.1", 403),
        ({"proxies": ["127.0.0.1"]}, "::1", 200),
        ({"metrics_public": True}, "192.0.2.1", 200),
    ],
)
async def test_metrics_are_for_this_machine_unless_they_are_public(
    options: dict[str, Any], forwarded: str, status: int
) -> None:
    async with SignalingServer(port=0, **options) as server:
        headers = {"x-forwarded-for": forwarded} if forwarded else {}
        response, _ = await fetch(server, "/metrics", headers=headers)
        assert response.status == status


# Refusal to start, TLS


@pytest.mark.parametrize("host", [ANYWHERE, "::", "", "192.0.2.1", "example.org"])
@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({}, r"TLS \(or a proxy that has it\) and tokens"),
        ({"proxies": ["192.0.2.2"]}, "tokens"),
        ({"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "tokens"),
        ({"tokens": TokenKeys(secret=SECRET.encode())}, r"TLS \(or a proxy that has it\)"),
    ],
)
async def test_where_others_can_reach_it_a_server_wants_tls_and_tokens(
    host: str, options: dict[str, Any], lacking: str
) -> None:
    with pytest.raises(SignalingError, match=rf"^cannot listen on \S+ without {lacking}, as others"):
        await SignalingServer(host, 0, **options).__aenter__()


@pytest.mark.parametrize(
    "options",
    [{"insecure": True}, {"tokens": TokenKeys(secret=SECRET.encode()), "proxies": ["192.0.2.2"]}],
    ids=["insecure", "secured"],
)
async def test_a_server_that_is_secured_or_insecure_on_purpose_starts(options: dict[str, Any]) -> None:
    async with SignalingServer(ANYWHERE, 0, **options) as server:
        assert (await fetch(server, "/healthz"))[0].status == 200


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    write_certificate(*files)
    return files


async def test_tls_protects_sessions_and_pages(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with SignalingServer(port=0, tls=context) as server:
        assert (server.url[:6], server.viewer[:8]) == ("wss://", "https://")
        origin = server.viewer.rstrip("/")
        async with joined(server, 2, ssl=trusting, origin=origin) as [one, other]:
            for number in range(200):
                await one.send({"type": "webrtc_ice", "targetSession": other.session, "n": number, "x": "x" * 10_000})
            assert [(await other.receive())["n"] for _ in range(200)] == list(range(200))
            server.sessions[one.session].end(4000, "enough")
            assert await one.closed() == (4000, "enough")

        def page() -> int:
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=5, context=trusting)
            connection.request("GET", "/")
            status = connection.getresponse().status
            connection.close()
            return status

        assert await asyncio.to_thread(page) == 200


async def test_who_comes_without_tls_is_led_to_it_or_told(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with SignalingServer(port=0, tls=context) as server:
        response, body = await fetch(server, "/camera?token=x.y.z")
        assert response.status == 308
        assert response.headers["Location"] == f"https://127.0.0.1:{server.port}/camera?token=x.y.z"
        assert b"https://" in body
        with pytest.raises(InvalidStatus) as caught:
            await connect(server.url.replace("wss:", "ws:"), proxy=None)
        assert caught.value.response.status_code == 403
        assert b"tls_required" in (caught.value.response.body or b"")
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()  # without a word
        await writer.wait_closed()
        assert server.total_sessions == 0


# ICE servers


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stun": ["192.0.2.1"]}, InvalidIceServer, "'192.0.2.1' is no stun: address"),
        ({"stun": ["stun:"]}, InvalidIceServer, "'stun:' is no stun: address"),
        ({"turn": ["stun:192.0.2.1"], "secret": b"s"}, InvalidIceServer, "'stun:192.0.2.1' is no turn: address"),
        ({"turn": ["turn:192.0.2.1"]}, SignalingError, "give the secret that is shared"),
    ],
)
def test_ice_servers_that_are_none_are_one_clear_error(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        TurnServers(**options)


# The command line


@asynccontextmanager
async def command(*options: str, **env: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "synopticon_rtc.signaling", *options, stdout=PIPE, stderr=PIPE, env=os.environ | env
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line(process: Process) -> dict[str, Any]:
    assert process.stdout
    return object_of((await process.stdout.readline()).decode())


async def ended(process: Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_token_from_the_command_line_lets_in_where_its_secret_is_known(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    asked = ["--room", "lab", "--role", "receive", "--role", "broadcast", "--name", "n", "--sub", "s"]
    async with command("token", "--secret-file", str(file), *asked, "--expires", "90m") as process:
        code, out, err = await ended(process)
        assert (code, err) == (0, "")
        made = out.strip()
    claims = jwt.decode(made, SECRET, algorithms=["HS256"])
    assert abs(claims.pop("iat") - time.time()) < 20
    assert abs(claims.pop("exp") - time.time() - 5400) < 20
    assert claims == {"sub": "s", "room": "lab", "role": ["broadcast", "receive"], "name": "n"}
    async with command("--port", "0", "--json", SYNOPTICON_TOKEN_SECRET=SECRET) as process:
        url = (await line(process))["url"]
        async with connect(f"{url}?token={made}", proxy=None) as websocket:
            assert object_of(str(await websocket.recv()))["type"] == "connected"
        with pytest.raises(InvalidStatus):
            await connect(url, proxy=None)


async def test_logs_as_json_are_one_object_an_event(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    options = ["--port", "0", "--json", "--log-json", "--token-secret-file", str(tmp_path / "secret")]
    given = jwt.encode({"sub": "alice"}, SECRET)
    async with command(*options) as process:
        url = (await line(process))["url"]
        with pytest.raises(InvalidStatus):
            await connect(url, proxy=None)
        async with connect(f"{url}?token={given}&room=lab", proxy=None) as websocket:
            session = object_of(str(await websocket.recv()))["sessionId"]
        assert (await line(process))["session"] == session
        assert (await line(process))["state"] == "closed"
        process.send_signal(signal.SIGINT)
        code, _, err = await ended(process)
    assert code == 0
    assert given not in err
    events = [json.loads(text) for text in err.splitlines()]
    for event in events:
        assert dt.datetime.fromisoformat(event.pop("time")).tzinfo is not None
        assert event.pop("logger").startswith("synopticon_rtc")
        assert event.pop("message")
    refused, opened, closed, *_ = events
    assert refused == {"level": "info", "event": "request_refused", "address": "127.0.0.1", "code": "token_missing"}
    assert opened.pop("address").startswith("127.0.0.1:")
    who = {"session": session, "room": "lab", "subject": "alice"}
    assert opened == {"level": "info", "event": "session_opened", **who}
    assert closed.pop("seconds") < 20
    end = {"session": session, "reason": "1000 (OK)", "messages": 0}
    assert closed == {"level": "info", "event": "session_closed", **end}


async def test_sigterm_leaves_time_to_go_and_a_second_one_none() -> None:
    async with command("--port", "0", "--json", "--drain", "1m") as process:
        async with connect((await line(process))["url"], proxy=None) as websocket:
            await websocket.recv()
            assert (await line(process))["state"] == "open"
            process.send_signal(signal.SIGTERM)
            assert await line(process) == {"event": "draining", "sessions": 1, "seconds": 60}
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
        assert (await ended(process))[0] == -signal.SIGTERM


async def test_the_limits_and_all_else_can_be_set(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    (tmp_path / "turn").write_text("shared")
    options = ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]), "--stun-url", "stun:192.0.2.1"]
    options += ["--turn-url", "turn:192.0.2.1", "--turn-secret-file", str(tmp_path / "turn"), "--turn-ttl", "10m"]
    options += ["--max-sessions", "1", "--origin", "https://example.org", "--proxy", "10.0.0.0/8", "--metrics-public"]
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with command("--port", "0", "--json", *options, SYNOPTICON_MAX_ERRORS="2") as process:
        url = (await line(process))["url"]
        opening = connect(url, ssl=trusting, origin="https://example.org", proxy=None)  # type: ignore[arg-type]  # a NewType of str
        async with opening as websocket, connect(url, ssl=trusting, proxy=None) as second:
            welcome = object_of(str(await websocket.recv()))
            assert welcome["iceServersTtl"] == 600
            assert len(welcome["iceServers"]) == 2
            with pytest.raises(ConnectionClosed, match="1013"):
                await second.recv()
            await websocket.send("?")
            await websocket.recv()
            await websocket.send("?")
            with pytest.raises(ConnectionClosed, match="1011"):
                await websocket.recv()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--host", ANYWHERE, "--port", "0"], 1, "cannot listen on 0.0.0.0:0 without TLS"),
        (["--tls-cert", __file__], 2, "--tls-cert and --tls-key go together"),
        (["--tls-cert", __file__, "--tls-key", __file__], 2, "are no certificate and its key"),
        (["--token-secret-file", "/nowhere"], 2, "'/nowhere' does not exist"),
        (["--token-secret-file", os.devnull], 1, "holds no secret: it is empty"),
        (["--jwks", __file__], 1, "cannot be used"),
        (["--origin", "example.org"], 1, "'example.org' is no origin"),
        (["--proxy", "x"], 1, "'x' is no address of a proxy"),
        (["--turn-url", "turn:192.0.2.1"], 1, "give the secret that is shared"),
        (["--backplane", "redis://localhost"], 1, "redis://localhost"),
        (["--max-sessions", "0"], 2, "0 is not in the range x>=1"),
        (["--drain", "soon"], 2, "'soon' is no time"),
        (["token"], 2, "no secret to sign with"),
        (["token", "--role", "admin"], 2, "'admin' is not one of"),
    ],
)
def test_a_mistake_is_one_line(options: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, arguments = (token, options[1:]) if options[0] == "token" else (main, options)
    with pytest.raises(SystemExit) as caught:
        run.main(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (code, "", 1)
    assert message in err


def test_a_secret_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SignalingError, match="cannot be read: Is a directory"):
        read_secret(tmp_path, "X")
    assert read_secret(None, "SYNOPTICON_NO_SUCH_SECRET") == b""
