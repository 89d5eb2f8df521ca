"""A signaling server in the process of a command, for others to come to: its options, its certificate, its tokens."""

import contextlib
import functools
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Self

import click

from synopticon_rtc.commands.cli import Output
from synopticon_rtc.commands.invitation import PAGES, Invitation, check_base, origin_of
from synopticon_rtc.commands.kinds import Address, Duration, Text
from synopticon_rtc.commands.meeting import DEFAULT_URL
from synopticon_rtc.commands.options import add_options, signaling_client
from synopticon_rtc.errors import SignalingError
from synopticon_rtc.signaling import SignalingClient, SignalingServer
from synopticon_rtc.signaling.addresses import is_loopback, seen_by_others, write_address
from synopticon_rtc.signaling.server.access import Role
from synopticon_rtc.signaling.server.certificate import (
    Certificate,
    name_in,
    own_addresses,
    own_certificate,
    server_context,
    trusting,
)
from synopticon_rtc.signaling.server.secret import read_secret
from synopticon_rtc.signaling.server.server import WILDCARDS
from synopticon_rtc.signaling.server.tokens import SECRET_BYTES, Claims, TokenKeys, make_token
from synopticon_rtc.signaling.session import Signaling

TOKEN_SECRET = "SYNOPTICON_TOKEN_SECRET"  # noqa: S105  # the name of an environment variable
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OWN: dict[Role, frozenset[Role]] = {"broadcast": frozenset({"receive", "record"}), "receive": frozenset({"broadcast"})}
"""What a command does itself, by what those do whom it invites."""

TLS_OPTIONS = (
    click.option("--tls-cert", type=FILE, help="Certificate chain (PEM), for wss:// and https://."),
    click.option("--tls-key", type=FILE, help="Its private key (PEM)."),
    click.option(
        "--tls-self",
        is_flag=True,
        help="Make a certificate for this machine, and keep it; browsers warn of it once.",
    ),
)
SECRET_OPTION = click.option(
    "--token-secret-file", type=FILE, help=f"Secret that tokens are signed with (HS256); or {TOKEN_SECRET}."
)
EXPIRES_OPTION = click.option(
    "--expires", type=Duration(), default="1d", show_default=True, help="How long an invitation is good."
)
LAB_OPTION = click.option(
    "--lab", type=Text(), default="", help="Who invites people to broadcast, as the page tells them."
)
OPTIONS = (
    click.option("--serve", type=Address(), help="Run a signaling server of our own here, with its pages."),
    click.option("--insecure", is_flag=True, help="Serve others than this machine without TLS and tokens too."),
    click.option("--origin", multiple=True, help="Pages that may connect to our own server, as https://x.ngrok.app."),
    click.option("--proxy", multiple=True, help="Address of a reverse proxy or tunnel that our own server believes."),
    *TLS_OPTIONS,
    SECRET_OPTION,
    click.option(
        "--invite",
        is_flag=False,
        flag_value="",
        metavar="[URL]",
        help="Print a link, and its QR code, that lets people in: to watch a broadcaster, or to be one from a browser. "
        "URL is where a proxy or tunnel in front is reached.",
    ),
    EXPIRES_OPTION,
)


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a server's certificate."""
    return add_options(TLS_OPTIONS, command)


def serving_options(invites: Role) -> Callable[[Callable[..., Awaitable[object]]], Callable[..., Any]]:
    """Give a command the options of a server of its own, as one argument, ``serving``.

    Args:
        invites: What those do whom the command invites.
    """

    def decorate(command: Callable[..., Awaitable[object]]) -> Callable[..., Any]:
        @functools.wraps(command)
        async def wrapped(
            *,
            serve: tuple[str, int] | None,
            insecure: bool,
            origin: tuple[str, ...],
            proxy: tuple[str, ...],
            tls_cert: Path | None,
            tls_key: Path | None,
            tls_self: bool,
            token_secret_file: Path | None,
            invite: str | None,
            expires: float,
            lab: str = "",
            **others: Any,  # noqa: ANN401  # what else the command takes
        ) -> object:
            async with Serving(
                invites,
                serve,
                insecure=insecure,
                origins=origin,
                proxies=proxy,
                tls=Tls(tls_cert, tls_key, own=tls_self),
                secret_file=token_secret_file,
                invite=invite,
                lasts=expires,
                lab=lab,
            ) as serving:
                return await command(serving=serving, **others)

        options = [*OPTIONS, LAB_OPTION] if invites == "broadcast" else OPTIONS
        return add_options(options, wrapped)

    return decorate


class Tls:
    """The certificate of a server: from files, of this machine's own making, or none.

    Args:
        certificate: The file of the certificate.
        key: The file of its key.
        own: Whether this machine makes it.

    Raises:
        click.UsageError: These don't go together.
    """

    def __init__(self, certificate: Path | None, key: Path | None, *, own: bool) -> None:
        if (certificate is None) != (key is None):
            raise click.UsageError("--tls-cert and --tls-key go together.")
        if own and certificate is not None:
            raise click.UsageError("--tls-self makes a certificate, and --tls-cert brings one: give one of them.")
        self.certificate = certificate
        self.made: Certificate | None = None
        self._key = key
        self._own = own

    def __bool__(self) -> bool:
        return self._own or self.certificate is not None

    def context(self, host: str) -> ssl.SSLContext | None:
        """Make what a server that listens there speaks TLS with.

        Raises:
            click.UsageError: The files hold none.
            SignalingError: None can be made and kept.
        """
        if self._own:
            self.made = own_certificate(seen_by_others(host))
            self.certificate = self.made.path
            return self.made.context()
        if self.certificate is None or self._key is None:
            return None
        try:
            return server_context(self.certificate, self._key)
        except SignalingError as error:
            raise click.UsageError(f"{error}.") from error

    def name(self, host: str) -> str:
        """Return the name that the certificate from files is for, if the server listens on all addresses."""
        return name_in(self.certificate) if host in WILDCARDS and self.certificate and not self._own else ""

    def tell(self, output: Output) -> None:
        """Say what a certificate of our own is known by."""
        if self.made is not None:
            output.event("certificate", path=self.made.path, sha256=self.made.fingerprint)
            output.say(f"certificate of this machine's own making, {self.made.path}: browsers warn of it once")
            output.say(f"           SHA-256 {self.made.fingerprint}")


class Serving:
    """A server of a command's own, which runs until this is left.

    Args:
        invites: What those do whom the command invites.
        where: Host and port; None where there is to be none.
        insecure: Whether it may do without TLS and tokens.
        origins: Pages that may connect.
        proxies: Proxies that it believes.
        tls: Its certificate.
        secret_file: What tokens are signed with; without one, and with invitations, a new one each time.
        invite: Whether to invite people: None for not, or the address at which they reach the server, empty where that
            is the machine's own.
        lasts: How long an invitation is good (s).
        lab: Who invites; empty to leave that out.

    Attributes:
        where: As given.
        lab: As given.

    Raises:
        click.UsageError: These don't go together.
    """

    def __init__(
        self,
        invites: Role,
        where: tuple[str, int] | None,
        *,
        insecure: bool,
        origins: Sequence[str],
        proxies: Sequence[str],
        tls: Tls,
        secret_file: Path | None,
        invite: str | None,
        lasts: float,
        lab: str = "",
    ) -> None:
        if where is None and (tls or secret_file or invite is not None):
            raise click.UsageError("--invite, --tls-... and --token-secret-file are for a server of our own: --serve.")
        if invite == "" and proxies:
            raise click.UsageError("--invite cannot know where the proxy is reached: give it that, as --invite URL.")
        self.where = where
        self._invites: Role = invites
        self._insecure = insecure
        self._base = check_base(invite) if invite else ""
        self._inviting = invite is not None
        self._origins = [*origins, *([origin_of(self._base)] if self._base else [])]
        self._proxies = proxies
        self._tls = tls
        self._lasts = lasts
        self.lab = lab
        self._secret = read_secret(secret_file, TOKEN_SECRET) if where else b""
        if self._inviting and not self._secret:
            self._secret = secrets.token_bytes(SECRET_BYTES)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def exclude(self, url: str | None) -> None:
        """Refuse another server beside ours."""
        if url and self.where:
            raise click.UsageError("--url and --serve exclude each other: use a server, or be one.")
        if url and (self._origins or self._proxies):
            raise click.UsageError("--origin and --proxy are for a server of our own, which --url does without.")

    def make(self, host: str, port: int) -> SignalingServer:
        """Make the server."""
        return SignalingServer(
            host,
            port,
            insecure=self._insecure,
            origins=self._origins,
            proxies=self._proxies,
            tls=self._tls.context(host),
            tokens=TokenKeys(secret=self._secret) if self._secret else None,
        )

    def client(
        self, url: str, room: str, token_file: Path | None, ca: ssl.SSLContext | None, *, own: bool
    ) -> Signaling:
        """Make the client of the command itself, which needs no token of others for a server of its own."""
        if not own or not (self._secret or self._tls):
            return signaling_client(url, room, token_file, ca)
        token = make_token(self._secret, Claims(room=room, roles=OWN[self._invites])) if self._secret else None
        trust = trusting(self._tls.certificate) if self._tls.certificate else None
        return SignalingClient(url, room=room, token=token, ssl=trust)

    async def meet(
        self,
        url: str | None,
        room: str,
        token_file: Path | None,
        ca: ssl.SSLContext | None,
        announce: Sequence[str],
        output: Output,
    ) -> Signaling:
        """Open the server until this is left, tell of it, and return its client; else one of the server elsewhere."""
        self.exclude(url)
        if self.where is None:
            return signaling_client(url or DEFAULT_URL, room, token_file, ca)
        server = await self._stack.enter_async_context(self.make(*self.where))
        output.event("serving", url=server.url, viewer=server.viewer)
        if not self.invite(server, room, announce, output):
            output.say(f"signaling  {server.public_url}")
            output.say(f"camera     {server.viewer}{PAGES['broadcast']}")
        return self.client(server.url, room, token_file, ca, own=True)

    def invite(self, server: SignalingServer | None, room: str, announce: Sequence[str], output: Output) -> str:
        """Tell of the server's certificate, and of an invitation if there is to be one, and return its link."""
        if server is None:  # it is that of another broadcaster
            return ""
        self._tls.tell(output)
        if not self._inviting:
            return ""
        address = self._tls.name(server.host) or reached_at(server.host, announce)
        base = self._base or f"http{'s' if self._tls else ''}://{write_address(address, server.port)}/"
        made = Invitation.make(base, self._secret, role=self._invites, room=room, lasts=self._lasts, lab=self.lab)
        served = served_addresses(server.host)
        others = [other for other in served if other != address] if address in served and not self._base else []
        made.tell(output, f"on other networks with {' or '.join(others)} in place of {address}" if others else "")
        return made.url


def reached_at(host: str, announce: Sequence[str]) -> str:
    """Tell at which address others reach a server that listens on a host.

    Of all addresses of a machine it is the one that is announced, or else the one on the way to the internet, or any;
    one of loopback only where there is no other.
    """
    if host not in WILDCARDS:
        return host
    found = announce[0] if announce else seen_by_others(host)
    if not is_loopback(found):
        return found
    return next(iter(served_addresses(host)), found)


def served_addresses(host: str) -> list[str]:
    """List the addresses at which others may reach a server that listens on all of a family."""
    if host not in WILDCARDS:
        return []
    return [address for address in own_addresses() if (":" in address) == (host == "::")]
