"""Who can see what is given to LSL: whom the lab's settings let see it, else programs on this machine alone.

LSL has neither passwords nor encryption: liblsl listens on all interfaces and gives a stream to whoever asks. Its own
setting ``ResolveScope = machine`` changes whom it asks, and not whom it answers.
"""

import configparser
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from synopticon_rtc.errors import SynopticonError

MACHINE = "machine"
"""The value of ``ResolveScope`` for this machine alone."""

Kind = tuple[socket.AddressFamily, socket.SocketKind]

_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>, which Python does not name
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # of classic BPF, <linux/filter.h>
_INTERFACE, _TYPE = 0xFFFFF000 + 8, 0xFFFFF000 + 4  # SKF_AD_IFINDEX and SKF_AD_PKTTYPE of a packet
_OWN_MULTICAST = 5  # PACKET_LOOPBACK, <linux/if_packet.h>: what this machine has sent to a group, as itself gets it


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What liblsl is set to on this machine, as far as it says who sees its streams.

    Source: https://labstreaminglayer.readthedocs.io/info/lslapicfg.html

    Attributes:
        path: The file, None where there is none.
        scope: Its ``ResolveScope``; where it names none, this machine alone.
        session: Its ``SessionID``: programs of another session do not find the streams of this one.
        multicast_port: On which streams are looked for.
    """

    path: Path | None = None
    scope: str = MACHINE
    session: str = "default"
    multicast_port: int = 16571

    @classmethod
    def read(cls) -> Self:
        """Read the file that liblsl reads: the first that there is, and that can be understood."""
        none = cls()
        for path in _places():
            settings = configparser.ConfigParser(
                delimiters=("=",), comment_prefixes=(";",), interpolation=None, default_section=""
            )
            settings.optionxform = str  # type: ignore[assignment,method-assign]  # as documented; names have capitals
            try:
                settings.read_string(path.read_text(encoding="utf-8"))
                return cls(
                    path,
                    settings.get("multicast", "ResolveScope", fallback=none.scope),
                    settings.get("lab", "SessionID", fallback=none.session),
                    settings.getint("ports", "MulticastPort", fallback=none.multicast_port),
                )
            except (OSError, ValueError, configparser.Error):
                continue
        return none

    @property
    def seen_by(self) -> str:
        """Who can find and read the streams, in words."""
        session = "" if self.session == "default" else f", in the LSL session {self.session}"
        if self.scope == MACHINE:
            return f"programs on this machine alone{session}"
        return (
            f"everybody who reaches this machine over the network{session}, "
            f"as {self.path} has ResolveScope = {self.scope}"
        )


def _places() -> Iterator[Path]:
    """Give the places of the settings, those that count most first."""
    if named := os.environ.get("LSLAPICFG"):
        yield Path(named)
    yield from (Path("lsl_api.cfg"), Path("~/lsl_api/lsl_api.cfg").expanduser(), Path("/etc/lsl_api/lsl_api.cfg"))


def keep_on_this_machine(ports: Mapping[Kind, frozenset[int]]) -> None:
    """Have the kernel drop whatever comes from other machines to the sockets of this process on some ports.

    What comes over the loopback interface is let in, and what this machine itself sends to a multicast group, by which
    programs on it find one another. Works on Linux, for any user.

    Args:
        ports: By what kind of socket they are.

    Raises:
        SynopticonError: It cannot be done here, or a kind of socket is not there.
    """
    if sys.platform != "linux":
        raise _unkept(f"{sys.platform} has no filters for sockets")
    try:
        program = _program()
        instructions = ctypes.create_string_buffer(program, len(program))
        attached = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))  # struct sock_fprog
        kept = set()
        for connection in _sockets(ports):
            connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
            kept.add((connection.family, connection.type))
    except OSError as error:
        raise _unkept(str(error)) from error
    if kept != ports.keys():
        raise _unkept("not all of its sockets are found")


def _unkept(reason: str) -> SynopticonError:
    return SynopticonError(
        f"LSL cannot be kept on this machine ({reason}); to let others see its streams too, write two lines, "
        "[multicast] and ResolveScope = link, into ~/lsl_api/lsl_api.cfg"
    )


def _program() -> bytes:
    """Write the filter, in instructions of eight bytes; jumps are forward, by so many of them."""
    return b"".join(
        struct.pack("=HBBI", code, jump_if_so, jump_if_not, value)
        for code, jump_if_so, jump_if_not, value in (
            (_LOAD, 0, 0, _INTERFACE),
            (_EQUAL, 2, 0, socket.if_nametoindex("lo")),
            (_LOAD, 0, 0, _TYPE),
            (_EQUAL, 0, 1, _OWN_MULTICAST),
            (_RETURN, 0, 0, 0xFFFFFFFF),  # let it in
            (_RETURN, 0, 0, 0),  # drop it
        )
    )


def _sockets(ports: Mapping[Kind, frozenset[int]]) -> Iterator[socket.socket]:
    """Give the sockets of this process that are bound to these ports, each as another handle of it."""
    for path in Path("/proc/self/fd").iterdir():
        try:
            handle = os.dup(int(path.name))
        except OSError:
            continue  # closed meanwhile
        try:
            connection = socket.socket(fileno=handle)
        except OSError:
            os.close(handle)  # of no socket
            continue
        with connection:
            kind = connection.family, connection.type
            if kind in ports and connection.getsockname()[1] in ports[kind]:
                yield connection
