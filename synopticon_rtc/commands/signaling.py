"""``python -m synopticon_rtc.signaling``: a signaling server, with the viewer at its address, and what goes with it."""

import asyncio
import contextlib
import http.client
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from synopticon_rtc.basics.text import NAME
from synopticon_rtc.commands.cli import Command, Output, Quantity, terminating
from synopticon_rtc.commands.invitation import PAGES, Invitation, check_base
from synopticon_rtc.commands.kinds import ROOM, Duration, Text
from synopticon_rtc.commands.memory import map_pieces
from synopticon_rtc.commands.options import announce_option, udp_ports_option
from synopticon_rtc.commands.serving import (
    EXPIRES_OPTION,
    FILE,
    LAB_OPTION,
    SECRET_OPTION,
    TOKEN_SECRET,
    Tls,
    tls_options,
)
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.signaling.addresses import write_address
from synopticon_rtc.signaling.server.access import Role
from synopticon_rtc.signaling.server.backplane import Backplane
from synopticon_rtc.signaling.server.endpoints import Ingest
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.secret import read_secret
from synopticon_rtc.signaling.server.server import WILDCARDS, SignalingServer
from synopticon_rtc.signaling.server.session import Session
from synopticon_rtc.signaling.server.tokens import Claims, TokenKeys, make_token

TURN_SECRET = "SYNOPTICON_TURN_SECRET"  # noqa: S105  # as above
BACKPLANE = "SYNOPTICON_BACKPLANE"  # addresses with a password need not show among the processes
MODULE = "synopticon_rtc.signaling"
PROCESS_1 = Path("/proc/1/cmdline")
LARGE_PIECE = 2**17  # bytes; what messages of strangers took would else leave gaps of half of what a server has
PATIENCE = 2.0  # seconds for the answer of a healthy server
LIMITS = {
    "sessions": "Sessions at once.",
    "room_sessions": "Sessions in one room.",
    "address_sessions": "Sessions from one address, or /64 of IPv6.  [default: half of all; this machine: all]",
    "requests": "Connections that are no sessions, or not yet.",
    "address_requests": "Such connections from one address.",
    "messages": "Messages a second from one session.",
    "bytes": "Bytes a second from one session.",
    "burst": "Seconds' worth of messages and bytes that may come at once.",
    "message_bytes": "Bytes in a message.",
    "errors": "Errors, or messages too many, that end a session.",
    "first": "Seconds to the first message.",
    "idle": "Seconds without a message.",
    "buffered_bytes": "Bytes that a slow reader may owe.",
    "held_bytes": "Bytes that are held for all sessions together.",
}


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each limit."""
    for name, text in reversed(LIMITS.items()):
        default = getattr(Limits, name)
        kind = Quantity(0, min_open=True) if isinstance(default, float) else click.IntRange(1)
        flag = f"--max-{name.replace('_', '-')}"
        command = click.option(flag, type=kind, default=default, show_default=True, help=text)(command)
    return command


@click.command("signaling", cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="0 takes a free one.")
@tls_options
@click.option("--proxy", multiple=True, help="Address or network of a reverse proxy to believe.")
@click.option("--insecure", is_flag=True, help="Do without TLS and tokens where others can reach the server.")
@SECRET_OPTION
@click.option("--jwks", type=FILE, help="Public keys that tokens are signed for (RS256, ES256): a JSON Web Key Set.")
@click.option("--origin", multiple=True, help="Pages that may connect, like https://example.org; * for all.")
@click.option("--stun-url", multiple=True, help="STUN server to name to clients, like stun:HOST:PORT.")
@click.option("--turn-url", multiple=True, help="TURN server to name to clients, like turn:HOST:PORT.")
@click.option("--turn-secret-file", type=FILE, help=f"Secret that is shared with the TURN servers; or {TURN_SECRET}.")
@click.option("--turn-ttl", type=Duration(), default="1h", show_default=True, help="How long TURN credentials last.")
@click.option(
    "--backplane",
    multiple=True,
    envvar=BACKPLANE,
    help=f"NATS server that joins several of these, like nats://HOST:PORT; or {BACKPLANE}.",
)
@click.option("--whip", is_flag=True, help="Take streams that OBS and the like publish by WHIP, and send them on.")
@udp_ports_option
@announce_option
@click.option("--metrics-public", is_flag=True, help="Let everybody read /metrics, and not this machine alone.")
@click.option(
    "--drain", type=Duration(0), default="5s", show_default=True, help="What SIGTERM leaves to open sessions."
)
@limit_options
async def main(
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_self: bool,  # noqa: FBT001  # click passes options by keyword
    proxy: tuple[str, ...],
    insecure: bool,  # noqa: FBT001  # as above
    token_secret_file: Path | None,
    jwks: Path | None,
    origin: tuple[str, ...],
    stun_url: tuple[str, ...],
    turn_url: tuple[str, ...],
    turn_secret_file: Path | None,
    turn_ttl: float,
    backplane: tuple[str, ...],
    whip: bool,  # noqa: FBT001  # as above
    udp_ports: tuple[int, int] | None,
    announce: tuple[str, ...],
    metrics_public: bool,  # noqa: FBT001  # as above
    drain: float,
    output: Output,
    **limits: Any,  # noqa: ANN401  # each as its option has it
) -> None:
    """Run a signaling server, where broadcasters and receivers find each other, and serve the viewer page.

    With the word token in front of all options, make a token for one instead; with the word invite, a link with one;
    with the word health, ask whether one with the same options is alive.
    """
    map_pieces(LARGE_PIECE)

    def on_session(session: Session) -> None:
        closed = {"reason": session.reason, "seconds": round(session.age, 3)} if session.reason else {}
        state = "closed" if session.reason else "open"
        output.event("session", session=session.id, state=state, address=session.address, **closed)

    secret = read_secret(token_secret_file, TOKEN_SECRET)
    tls = Tls(tls_cert, tls_key, own=tls_self)
    server = SignalingServer(
        host,
        port,
        limits=Limits(**{name.removeprefix("max_"): limit for name, limit in limits.items()}),
        on_session=on_session,
        tokens=TokenKeys(secret=secret, jwks=jwks) if secret or jwks else None,
        origins=origin,
        tls=tls.context(host),
        proxies=proxy,
        ice_servers=_ice_servers(stun_url, turn_url, read_secret(turn_secret_file, TURN_SECRET), turn_ttl),
        backplane=_backplane(backplane),
        metrics_public=metrics_public,
        insecure=insecure,
        ingest=_ingest(udp_ports, announce) if whip else None,
    )
    async with server:
        output.event("ready", url=server.url, viewer=server.viewer)
        output.say(f"signaling  {server.public_url}")
        output.say(f"viewer     {server.viewer}")
        tls.tell(output)
        with contextlib.suppress(asyncio.CancelledError), terminating() as asked:  # ends come before the summary
            await asked.wait()
            output.event("draining", sessions=len(server.sessions), seconds=drain)
            await server.drain(drain)
    output.event("summary", sessions=server.total_sessions, messages=server.relayed, uptime=round(server.uptime, 3))
    output.say(f"{server.total_sessions} sessions, {server.relayed} messages relayed in {server.uptime:.0f} s")


@click.command("signaling token", cls=Command)
@click.option("--secret-file", type=FILE, help=f"Secret to sign with (HS256), 32 bytes or more; or {TOKEN_SECRET}.")
@click.option("--sub", type=Text(), default="", help="Whom it is for.")
@click.option("--room", type=ROOM, help="The one room for which it is good; any, where none is given.")
@click.option(
    "--role",
    "roles",
    type=click.Choice(get_args(Role)),
    multiple=True,
    help="What it lets its bearer do; may be repeated. Without it they may broadcast or receive, and not record.",
)
@click.option("--name", type=Text(), default="", help="What people call its bearer.")
@click.option("--expires", type=Duration(), default="1h", show_default=True, help="How long it is good.")
async def token(
    secret_file: Path | None,
    sub: str,
    room: str | None,
    roles: tuple[Role, ...],
    name: str,
    expires: float,
    output: Output,
) -> None:
    """Make a token that lets its bearer in to a signaling server with the same secret."""
    secret = _secret_to_sign_with(secret_file)
    made = make_token(secret, Claims(sub, room, frozenset(roles) or None, name, time.time() + expires))
    output.event("token", token=made)
    output.say(made)


@click.command("signaling invite", cls=Command)
@click.argument("url")
@click.option("--secret-file", type=FILE, help=f"Secret of the server's tokens (HS256); or {TOKEN_SECRET}.")
@click.option("--room", type=ROOM, default="", help="Room to meet in.")
@click.option(
    "--role",
    type=click.Choice([*PAGES]),
    default="broadcast",
    show_default=True,
    help="broadcast: the link is for one person, who sends; receive: it is for everybody who has it, to watch.",
)
@click.option("--name", type=Text(NAME), default="", help="What people call whoever comes by it.")
@LAB_OPTION
@EXPIRES_OPTION
async def invite(
    url: str, secret_file: Path | None, room: str, role: Role, name: str, lab: str, expires: float, output: Output
) -> None:
    """Make a link, and its QR code, to the pages of a signaling server with the same secret.

    URL is the address of its pages, like https://lab.example.org/.
    """
    secret = _secret_to_sign_with(secret_file)
    made = Invitation.make(check_base(url), secret, role=role, room=room, lasts=expires, name=name, lab=lab)
    made.tell(output)


@click.command("signaling health", cls=Command)
async def health(output: Output) -> None:
    """Ask the server of this machine whether it is alive, as its own options and environment say where it is.

    The options are those on the command line of process 1, as in a container, if that is a server.
    """
    options = main.make_context("signaling", server_arguments(PROCESS_1)).params
    asked, port, secured = str(options["host"]), int(options["port"]), options["tls_cert"] or options["tls_self"]
    host = WILDCARDS.get(asked, asked)
    url = f"{'https' if secured else 'http'}://{write_address(host, port)}/healthz"
    try:
        status = await asyncio.to_thread(_ask_health, host, port, secured=bool(secured))
    except (OSError, http.client.HTTPException) as error:
        raise SignalingError(f"nobody answers at {url}: {error}; is a server running there?") from error
    if status != http.HTTPStatus.OK:
        raise SignalingError(f"{url} answers {status}, which is no healthy server")
    output.event("health", url=url)
    output.say(f"alive at {url}")


def server_arguments(command_line: Path) -> list[str]:
    """Read the options of a server from its command line, as Linux has it in /proc; none where it is no server."""
    try:
        words = command_line.read_bytes().decode().split("\0")[:-1]
    except (OSError, UnicodeDecodeError):
        return []
    options = words[words.index(MODULE) + 1 :] if MODULE in words else []
    return [] if options[:1] in (["token"], ["invite"]) else options


def _ask_health(host: str, port: int, *, secured: bool) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    if secured:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its certificate names another address
        connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        return connection.getresponse().status


def _secret_to_sign_with(file: Path | None) -> bytes:
    secret = read_secret(file, TOKEN_SECRET)
    if not secret:
        raise click.UsageError(f"no secret to sign with: give --secret-file, or set {TOKEN_SECRET}.")
    return secret


def _ice_servers(stun: tuple[str, ...], turn: tuple[str, ...], secret: bytes, ttl: float) -> TurnServers | None:
    return TurnServers(stun=stun, turn=turn, secret=secret, ttl=ttl) if stun or turn else None


def _ingest(udp_ports: tuple[int, int] | None, announce: tuple[str, ...]) -> Ingest:
    from synopticon_rtc import ingest  # noqa: PLC0415  # with all of video

    try:
        return ingest.Ingest(udp_ports, announce)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error


def _backplane(servers: tuple[str, ...]) -> Backplane | None:
    if not servers:
        return None
    from synopticon_rtc.signaling.server.nats import NatsBackplane  # noqa: PLC0415  # an extra

    return NatsBackplane([server for listed in servers for server in listed.split(",")])


def run(arguments: list[str], prog_name: str = f"python -m {MODULE}") -> None:
    """Run the server or, where the first argument names it, what goes with it."""
    match arguments:
        case ["token", *rest]:
            token(rest, prog_name=f"{prog_name} token")
        case ["invite", *rest]:
            invite(rest, prog_name=f"{prog_name} invite")
        case ["health", *rest]:
            health(rest, prog_name=f"{prog_name} health")
        case _:
            main(arguments, prog_name=prog_name)
