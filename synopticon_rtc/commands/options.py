"""Options that commands share."""

import functools
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import unquote

import click

from synopticon_rtc.commands.cli import Quantity
from synopticon_rtc.commands.kinds import ROOM, Authorities, PortRange
from synopticon_rtc.errors import InvalidIceServer

if TYPE_CHECKING:
    from synopticon_rtc.engines import Engine
    from synopticon_rtc.rtc import IceServer
    from synopticon_rtc.signaling.entry import Token
    from synopticon_rtc.signaling.session import Signaling


class IceServerURL(click.ParamType["IceServer"]):
    """``stun:HOST[:PORT]`` or ``turn:USER:PASSWORD@HOST[:PORT][?transport=tcp]`` (RFC 7064, RFC 7065).

    User and password are percent-encoded as in any URL (RFC 3986, section 3.2.1). Users of servers that make their
    names from the time, like ours, have a colon in them: the last one is before the password.
    """

    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "IceServer":  # noqa: ANN401 - click's signature
        """Read it."""
        from synopticon_rtc.rtc import IceServer  # noqa: PLC0415 - which a signaling server needs not

        scheme, colon, rest = str(value).partition(":")
        login, at, host = rest.rpartition("@")
        user, _, password = map(unquote, login.rpartition(":"))
        turn = scheme.startswith("turn")
        if not colon or scheme not in {"stun", "stuns", "turn", "turns"} or rest.startswith("/"):
            self.fail(f"{host!r} is no ICE server: give stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT.", param, ctx)
        if turn != bool(user and password) or (at and not turn):
            needs = "needs USER:PASSWORD@ before its host" if turn else "takes no user"
            self.fail(f"{scheme}:{host} {needs}: give stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT.", param, ctx)
        try:
            return IceServer(f"{scheme}:{host}", user or None, password or None)
        except InvalidIceServer as error:
            self.fail(str(error), param, ctx)


class Reach(TypedDict):
    """How peers are reached, as broadcasters and receivers are made with it."""

    ice_servers: "Sequence[IceServer]"
    udp_ports: tuple[int, int] | None
    announce: Sequence[str]
    interfaces: Sequence[str]


screen_option = click.option(
    "--screen",
    is_flag=False,
    flag_value="",
    metavar="[DISPLAY]",
    help="Send what the screen shows: that of DISPLAY, or another display of X, like :1. Beside a --source, it is a "
    "stream of its own.",
)
audio_option = click.option(
    "--audio",
    is_flag=False,
    flag_value="",
    metavar="[DEVICE]",
    help="Record and send what a microphone hears: the system's own choice, or DEVICE, its number or part of its name; "
    "test for a tone.",
)
udp_ports_option = click.option(
    "--udp-ports",
    "--udp-port",
    type=PortRange(),
    help="UDP ports for video, like 40000-40100, as a firewall lets them in; one, like 40000, serves all peers.",
)
trace_option = click.option(
    "--trace",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what happens to each peer here, for a report; python -m synopticon_rtc.trace FILE reads it.",
)
announce_option = click.option(
    "--announce",
    multiple=True,
    metavar="ADDRESS",
    help="Address at which others reach this machine on the same UDP ports, as in a cloud; told in place of inner "
    "ones, and may be repeated.",
)
REACH_OPTIONS = (
    click.option(
        "--ice-server",
        "ice_servers",
        type=IceServerURL(),
        multiple=True,
        help="STUN or TURN server for peers behind NAT, may be repeated. None is asked unless named.",
    ),
    udp_ports_option,
    announce_option,
    click.option(
        "--interface",
        "interfaces",
        multiple=True,
        metavar="NAME|ADDRESS",
        help="Network interface to use for video, and no other; may be repeated.",
    ),
)
room_option = click.option("--room", type=ROOM, default="", help="Room of the signaling server to meet in.")
# The token itself is no option: others on the machine can read command lines.
token_file_option = click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the token that the signaling server wants; SYNOPTICON_TOKEN can hold the token itself.",
)
ca_option = click.option(
    "--ca",
    type=Authorities(),
    help="Certificates (PEM) of authorities to trust for wss:// addresses, beside the system's.",
)
publish_option = click.option(
    "--publish",
    metavar="URL",
    multiple=True,
    help="Engine that carries all to more receivers than this uplink does, like janus+ws://HOST:8188/ROOM or "
    "whip+https://HOST/PATH; may be repeated.",
)
publish_token_file_option = click.option(
    "--publish-token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the token that these engines want; SYNOPTICON_PUBLISH_TOKEN can hold the token itself.",
)
landmarks_option = click.option(
    "--landmarks/--no-landmarks",
    default=None,
    help="Write the landmarks into the table of faces; without either, they are in all but .csv.",
)
model_option = click.option("--model", help="Face model (face_landmarker.task) instead of the one found or fetched.")
engine_option = click.option(
    "--engine",
    type=click.Choice(("auto", "litert", "mediapipe")),
    default="auto",
    show_default="LiteRT if it is installed, else MediaPipe",
    help="What runs the face model.",
)
duration_option = click.option("--duration", type=Quantity(min=0, min_open=True), help="Seconds to run.")


def add_options(options: Sequence[Callable[..., Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command several options, in this order."""
    return functools.reduce(lambda made, option: option(made), reversed(options), command)


def reach_options(command: Callable[..., Awaitable[object]]) -> Callable[..., Any]:
    """Give a command the options of how peers are reached, as one argument, ``reach``."""

    @functools.wraps(command)
    async def wrapped(**given: Any) -> object:  # noqa: ANN401 - what the command takes
        reach = {name: given.pop(name) for name in Reach.__annotations__}
        return await command(reach=reach, **given)

    return add_options(REACH_OPTIONS, wrapped)


def detection_options(least: int, default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of what looks for faces.

    Args:
        least: Faces to look for at least.
        default: What ``--faces`` is without it, in words.
    """
    options = (
        click.option(
            "--faces", type=click.IntRange(least, 10), show_default=default, help="Faces to look for at most."
        ),
        click.option(
            "--faces-fps",
            type=Quantity(min=0, min_open=True),
            help="Times a second to look for faces at most; as often as the detector manages without it.",
        ),
        click.option("--blendshapes", is_flag=True, help="Find MediaPipe's 52 blendshape scores of each face too."),
        click.option("--matrix", is_flag=True, help="Find each face's transformation matrix, and so its pose, too."),
        model_option,
        engine_option,
    )

    return functools.partial(add_options, options)


def signaling_client(url: str, room: str, token_file: Path | None, ca: ssl.SSLContext | None) -> "Signaling":
    """Make the client that these options ask for."""
    from synopticon_rtc.engines import as_signaling  # noqa: PLC0415 - as above

    return as_signaling(url, room=room, token=_token(token_file, "SYNOPTICON_TOKEN"), ssl=ca)


def engines(urls: Sequence[str], token_file: Path | None, ca: ssl.SSLContext | None) -> "list[Engine]":
    """Make the ways to the engines that these options name."""
    from synopticon_rtc.engines import as_engine  # noqa: PLC0415 - as above

    return [as_engine(url, token=_token(token_file, "SYNOPTICON_PUBLISH_TOKEN"), ssl=ca) for url in urls]


def _token(file: Path | None, variable: str) -> "Token | None":
    """Return the token of a variable, or that of a file, which is read before each connection, should it be renewed."""
    return (lambda: file.read_text().strip()) if file else os.environ.get(variable, "").strip() or None
