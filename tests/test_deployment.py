"""What is in deploy/ works: each file is used as it stands, but for addresses and paths."""

import asyncio
import contextlib
import functools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from rtc_network import free_port, write_certificate
from waiting import blocked_until, listens, until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern
from synopticon_rtc.commands import broadcast, receive, signaling
from synopticon_rtc.signaling.server.ice import TurnServers

DEPLOY = Path(__file__).parents[1] / "deploy"
SERVICE = DEPLOY / "synopticon-signaling.service"
DOCKERFILE = DEPLOY / "Dockerfile"
PYTHON = "/opt/synopticon-rtc/bin/python"
NGINX, CADDY, STRACE, SYSTEMD = map(shutil.which, ("nginx", "caddy", "strace", "systemd-analyze"))
SECRET = "a secret of this test alone: 32 bytes or more"  # noqa: S105  # of this test alone
needs_systemd = pytest.mark.skipif(SYSTEMD is None, reason="needs systemd-analyze")


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process with the block, and fail if it does not want to."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def until_listening(port: int, process: subprocess.Popen[str]) -> None:
    def listening() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    blocked_until(listening)


def service(key: str) -> str:
    """A setting of the unit."""
    values = re.findall(rf"^{key}=(.*)$", SERVICE.read_text(), re.MULTILINE)
    assert len(values) == 1
    return str(values[0])


def command_of_the_service() -> list[str]:
    command = shlex.split(service("ExecStart"))
    assert command[0] == PYTHON
    return [sys.executable, *command[1:]]


@dataclass
class Server:
    """The server, as the unit runs it, and what it tells of its sessions."""

    port: int
    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


@contextlib.contextmanager
def running(*wrapper: str, directory: Path) -> Iterator[Server]:
    secret = directory / "secret"
    secret.write_text(SECRET)
    name, _, value = service("Environment").partition("=")
    env = os.environ | {name: value.replace("%d", str(directory))}
    port = free_port()
    command = [*wrapper, *command_of_the_service(), "--port", str(port), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        assert process.stderr
        server, out, err = Server(port, process), process.stdout, process.stderr
        threads = [
            threading.Thread(target=lambda: server.events.extend(map(json.loads, out))),
            threading.Thread(target=lambda: server.log.extend(err)),
        ]
        with ended(process):
            until_listening(port, process)
            for thread in threads:
                thread.start()
            yield server
        for thread in threads:
            thread.join()


@functools.cache
def made_token(*options: str) -> str:
    command = [sys.executable, "-m", "synopticon_rtc.signaling", "token", *options]
    env = os.environ | {"SYNOPTICON_TOKEN_SECRET": SECRET}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout.strip()


def test_every_option_that_is_named_exists() -> None:
    files = [DEPLOY.parent / "docs" / "deployment.md", SERVICE, DOCKERFILE]
    named = {option for path in files for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text())}
    known = {
        option
        for command in (signaling.main, signaling.token, broadcast.main, receive.main)
        for given in command.params
        for option in given.opts
    }
    of_others = {
        "--help",
        "--now",
        "--from",
        "--no-cache-dir",
        "--no-deps",
        "--interval",
        "--timeout",
        "--start-period",
    }
    assert named - of_others <= known


# systemd


@needs_systemd
def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    unit = tmp_path / SERVICE.name
    unit.write_text(SERVICE.read_text().replace(PYTHON, sys.executable))
    for check in (["verify"], ["security", "--offline=yes", "--threshold=15"]):
        done = subprocess.run([str(SYSTEMD), *check, str(unit)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""


def allowed_calls() -> set[str]:
    """The system calls that the unit's filters let pass."""

    def calls(group: str) -> set[str]:
        listed = subprocess.run([str(SYSTEMD), "syscall-filter", group], capture_output=True, text=True, check=True)
        names = {line.strip() for line in listed.stdout.splitlines()[1:] if not line.strip().startswith("#")} - {""}
        return {name for name in names if name[0] != "@"}.union(*(calls(name) for name in names if name[0] == "@"))

    allowed: set[str] = set()
    for groups in re.findall(r"^SystemCallFilter=(.*)$", SERVICE.read_text(), re.MULTILINE):
        named: set[str] = set().union(*(calls(group) for group in groups.lstrip("~").split()))
        allowed = allowed - named if groups.startswith("~") else allowed | named
    return allowed


@needs_systemd
@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_the_unit_forbids_nothing_that_the_server_does(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with running(str(STRACE), "-f", "-qq", "-o", str(trace), directory=tmp_path) as server:
        token = made_token()
        with connect(f"ws://127.0.0.1:{server.port}/ws?token={token}", open_timeout=None) as websocket:
            websocket.recv()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as response:
            assert response.status == 200
        # strace does not pass signals on: it ends when the server does
        (child,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        server.process.wait(30)
    text = trace.read_text()
    called = set(re.findall(r"^\d+ +(\w+)\(", text, re.MULTILINE))
    assert {"listen", "accept4", "epoll_wait"} <= called, "the trace shows nothing: it is not what is under test"
    assert called - allowed_calls() == set()
    assert set(re.findall(r" socket\((\w+)", text)) <= set(service("RestrictAddressFamilies").split())
    assert re.findall(r"PROT_\S*WRITE\S*EXEC", text) == []  # MemoryDenyWriteExecute
    assert re.findall(r" (?:connect|sendto|sendmsg)\(.*sin6?_addr.*", text) == []  # it calls nobody


# Proxies


@dataclass
class Proxy:
    """A proxy with TLS in front of a server."""

    port: int
    server: Server
    certificate: Path
    directory: Path

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.directory.glob("*.log")))

    def status(self, path: str) -> int:
        """The status of what it answers to a request, however long that takes on a busy machine."""
        try:
            with urllib.request.urlopen(f"https://localhost:{self.port}{path}", context=self.context) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code


def replaced(name: str, **what: str) -> str:
    """A file of deploy/ with the addresses and paths of a test, each of which must be there."""
    text = (DEPLOY / name).read_text()
    for old, new in what.items():
        assert old in text
        text = text.replace(old, new)
    return text


def nginx(directory: Path, port: int, backend: int) -> list[str]:
    site = replaced(
        "nginx.conf",
        **{
            "listen 443": f"listen 127.0.0.1:{port}",
            "signaling.example.org": "localhost",
            "127.0.0.1:8081": f"127.0.0.1:{backend}",
            "/etc/ssl/synopticon": str(directory),
            "/var/log/nginx": str(directory),
        },
    )
    (directory / "site.conf").write_text(site)
    paths = "".join(
        f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"pid {directory}/pid;\nevents {{}}\nhttp {{\n{paths}include {directory}/site.conf;\n}}\n"
    (directory / "nginx.conf").write_text(main)
    command = [str(NGINX), "-p", str(directory), "-c", f"{directory}/nginx.conf", "-e", f"{directory}/error.log"]
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [*command, "-g", "daemon off;"]


def caddy(directory: Path, port: int, backend: int) -> list[str]:
    site = replaced(
        "Caddyfile",
        **{
            "signaling.example.org {": f"https://localhost:{port} {{\nbind 127.0.0.1\n"
            f"tls {directory}/fullchain.pem {directory}/privkey.pem\n",
            "127.0.0.1:8081": f"127.0.0.1:{backend}",
            "output stderr": f"output file {directory}/access.log",
        },
    )
    options = f"{{\nadmin off\nauto_https off\nskip_install_trust\nstorage file_system {directory}/storage\n}}\n"
    (directory / "Caddyfile").write_text(options + site)
    return [str(CADDY), "run", "--config", f"{directory}/Caddyfile", "--adapter", "caddyfile"]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(nginx, marks=pytest.mark.skipif(NGINX is None, reason="needs nginx")),
        pytest.param(caddy, marks=pytest.mark.skipif(CADDY is None, reason="needs caddy")),
    ],
)
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    tmp_path = tmp_path_factory.mktemp("proxy")
    certificate = tmp_path / "fullchain.pem"
    write_certificate(certificate, tmp_path / "privkey.pem")
    port = free_port()
    with running(directory=tmp_path) as server:
        command = request.param(tmp_path, port, server.port)
        errors = (tmp_path / "stderr").open("w")
        with (
            errors,
            subprocess.Popen(command, stderr=errors, text=True, env=os.environ | {"HOME": str(tmp_path)}) as process,
            ended(process),
        ):
            until_listening(port, process)
            made = Proxy(port, server, certificate, tmp_path)
            blocked_until(lambda: made.status("/readyz") == HTTPStatus.OK)  # it has found the server
            yield made


def test_a_broadcaster_and_a_receiver_meet_through_a_proxy(proxy: Proxy, tmp_path: Path) -> None:
    tokens = {"broadcast": made_token("--role", "broadcast", "--room", "lab")}
    tokens["receive"] = made_token("--role", "receive", "--room", "lab")
    for name, token in tokens.items():
        (tmp_path / name).write_text(token)
    url = f"wss://localhost:{proxy.port}/ws"
    env = os.environ | {"SSL_CERT_FILE": str(proxy.certificate)}

    def command(name: str, *options: str) -> subprocess.Popen[str]:
        common = ["--url", url, "--room", "lab", "--token-file", str(tmp_path / name), "--json"]
        arguments = [sys.executable, "-m", f"synopticon_rtc.{name}", *common, *options]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    with command("broadcast", "--source", "test", "--size", "320x240", "--faces", "0") as broadcast, ended(broadcast):
        assert broadcast.stdout
        assert '"ready"' in broadcast.stdout.readline()
        with command("receive", "--frames", "10") as receive, ended(receive):
            out, err = receive.communicate(timeout=60)
        assert '"frames":10' in out.splitlines()[-1], out + err
    written = proxy.log() + "".join(proxy.server.log)
    assert not [token for token in tokens.values() if token in written]


def test_a_proxy_tells_who_asks_and_lets_nobody_pretend_to_be_another(proxy: Proxy) -> None:
    token = made_token("--sub", "somebody")
    forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
    forged["Referer"] = f"https://localhost:{proxy.port}/?token={token}"
    address = f"wss://localhost:{proxy.port}/ws"

    def enter(url: str, origin: str | None = None) -> Any:
        with (
            socket.create_connection(("127.0.0.1", proxy.port), source_address=("127.0.0.5", 0)) as sock,
            connect(
                url,
                sock=sock,
                ssl=proxy.context,
                origin=origin,  # type: ignore[arg-type]  # a NewType of str
                additional_headers=forged,
                open_timeout=None,  # as long as a busy machine takes
            ) as websocket,
        ):
            return json.loads(websocket.recv())

    def sessions() -> list[dict[str, Any]]:
        return [event for event in proxy.server.events if (event["event"], event.get("state")) == ("session", "open")]

    before, logged = sessions(), proxy.log().count("/ws")
    assert enter(f"{address}?token={token}", f"https://localhost:{proxy.port}")["type"] == "connected"
    blocked_until(lambda: len(sessions()) > len(before))
    assert sessions()[len(before)]["address"].startswith("127.0.0.5")
    for url, origin, status, code in (
        (f"{address}?token={token}", "https://elsewhere.test", 403, "wrong_origin"),
        (address, None, 401, "token_missing"),
    ):
        with pytest.raises(InvalidStatus) as refused:
            enter(url, origin)
        response = refused.value.response
        assert (response.status_code, json.loads(response.body or b"")["error"]) == (status, code)
    blocked_until(lambda: proxy.log().count("/ws") > logged)
    assert token not in proxy.log()


def test_a_proxy_shows_the_viewer_and_health_and_keeps_metrics_to_itself(proxy: Proxy) -> None:
    assert [proxy.status(path) for path in ("/", "/healthz", "/readyz", "/metrics")] == [200, 200, 200, 404]


# Docker


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with what follows it on its lines."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines()) if name]


def arguments(instruction: str) -> list[str]:
    """The command of an instruction in its exec form, with this Python."""
    (line,) = [rest for name, rest in instructions() if name == instruction]
    command: list[str] = json.loads(line[line.index("[") :])
    assert command[0] == PYTHON
    return [sys.executable, *command[1:]]


def test_what_the_image_copies_is_there() -> None:
    copied = [
        part for name, rest in instructions() if name == "COPY" and "--from" not in rest for part in rest.split()[:-1]
    ]
    assert copied
    assert [part for part in copied if not (DEPLOY.parent / part).exists()] == []


def test_the_image_starts_only_when_it_is_told_how_it_is_protected() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("SYNOPTICON_")}
    refused = subprocess.run(arguments("ENTRYPOINT"), capture_output=True, text=True, check=False, timeout=60, env=env)
    assert refused.returncode == 1
    assert re.fullmatch(r"signaling: [^\n]+\n", refused.stderr)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_the_image_is_healthy_while_it_runs_wherever_its_settings_have_it_listen(tmp_path: Path, *, tls: bool) -> None:
    port = free_port()
    env = os.environ | {"SYNOPTICON_TOKEN_SECRET": SECRET, "SYNOPTICON_PORT": str(port)}
    if tls:
        certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        write_certificate(certificate, key)
        env |= {"SYNOPTICON_TLS_CERT": str(certificate), "SYNOPTICON_TLS_KEY": str(key)}
    check = arguments("HEALTHCHECK")
    unhealthy = subprocess.run(check, capture_output=True, text=True, check=False, env=env)
    assert unhealthy.returncode == 1
    assert re.fullmatch(
        r"signaling health: nobody answers at https?://127\.0\.0\.1:\d+/healthz: [^\n]+\n", unhealthy.stderr
    )
    command = [*arguments("ENTRYPOINT"), "--proxy", "172.17.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process, ended(process):
        until_listening(port, process)
        healthy = subprocess.run(check, capture_output=True, text=True, check=False, env=env)
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert healthy.stdout.startswith(f"alive at {'https' if tls else 'http'}://127.0.0.1:{port}/")


def test_the_health_check_reads_the_options_of_process_1(tmp_path: Path) -> None:
    command_line = tmp_path / "cmdline"

    def read(*words: str) -> list[str]:
        command_line.write_text("".join(f"{word}\0" for word in words))
        return signaling.server_arguments(command_line)

    assert read("python", "-m", "synopticon_rtc.signaling", "--port", "1") == ["--port", "1"]
    assert read("/sbin/init") == []
    assert read("python", "-m", "synopticon_rtc.signaling", "token", "--room", "a") == []
    assert signaling.server_arguments(tmp_path / "nowhere") == []


def services() -> Any:
    """What compose.yaml starts, by name."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def test_the_server_of_the_composition_starts_as_it_is_told() -> None:
    told = services()["signaling"]
    port = free_port()
    env = os.environ | dict.fromkeys(told["environment"], SECRET) | {"SYNOPTICON_PORT": str(port)}
    command = [*arguments("ENTRYPOINT"), *told["command"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process, ended(process):
        until_listening(port, process)
    assert told["build"] == {"context": "..", "dockerfile": str(DOCKERFILE.relative_to(DEPLOY.parent))}


def test_what_the_composition_mounts_of_the_repository_is_there() -> None:
    mounted = [volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])]
    assert [path for path in mounted if path.startswith("./") and not (DEPLOY / path).is_file()] == []
    assert {path for path in mounted if path.startswith("./")} == {"./Caddyfile", "./turnserver.conf"}


# TURN


async def test_two_meet_through_the_turn_server_as_it_is_set_up(tmp_path: Path) -> None:
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed")
    port, tls_port = free_port(), free_port()
    write_certificate(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    settings = replaced(
        "turnserver.conf",
        **{
            "external-ip=203.0.113.9": "listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nallow-loopback-peers",
            "3478": str(port),
            "5349": str(tls_port),
            "/etc/ssl/synopticon": str(tmp_path),
            "log-file=stdout": f"log-file={tmp_path}/log\nuserdb={tmp_path}/db\npidfile={tmp_path}/pid",
        },
    )
    (tmp_path / "turnserver.conf").write_text(f"{settings}static-auth-secret={SECRET}\n")
    process = await asyncio.create_subprocess_exec(program, "-c", "turnserver.conf", cwd=tmp_path)
    try:
        await until(lambda: listens(tls_port))
        turn = TurnServers(turn=[f"turn:127.0.0.1:{port}"], secret=SECRET.encode())
        async with (
            SignalingServer(port=0, ice_servers=turn) as server,
            Broadcaster(server.url, TestPattern((320, 240)), relay_only=True) as broadcaster,
            Receiver(server.url, relay_only=True, timeout=60) as receiver,
        ):
            await anext(receiver)
            (stats,) = broadcaster.peer_stats().values()
            assert (stats.local_candidate, stats.remote_candidate) == ("relay", "relay")
    finally:
        process.kill()
        await process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_the_image_runs_to_be_built_gives_a_server(tmp_path: Path) -> None:
    (run,) = [rest for name, rest in instructions() if name == "RUN"]
    for name, rest in instructions():
        if name == "COPY" and "--from" not in rest:
            for part in rest.split()[:-1]:
                copy = shutil.copytree if (DEPLOY.parent / part).is_dir() else shutil.copy
                (tmp_path / part).parent.mkdir(exist_ok=True)
                copy(DEPLOY.parent / part, tmp_path / part)
    built = f"{tmp_path}/opt"
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(run.replace("/opt/synopticon-rtc", built), shell=True, check=True, cwd=tmp_path, env=env)  # noqa: S602  # our own file
    command = [f"{built}/bin/python", *arguments("ENTRYPOINT")[1:], "--help"]
    assert "signaling server" in subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
