"""The options of a receiver that do not change the type of its frames, and what is refused of all its options."""

import os
from collections.abc import Sequence
from numbers import Real
from typing import TypedDict, get_args

from synopticon_rtc.basics.text import check_text
from synopticon_rtc.faces import Detector
from synopticon_rtc.peers.published import check_name
from synopticon_rtc.receiving.pairing import Sync
from synopticon_rtc.rtc import IceServer
from synopticon_rtc.rtc.servers import check_servers


class Options(TypedDict, total=False):
    """What does not change the type of the frames, and may be the same for several receivers."""

    name: str
    streams: Sequence[str] | None
    sync: Sync
    faces_wait: float | None
    faces_fps: float | None
    return_faces: bool
    jitter_ms: float
    max_size: tuple[int, int]
    ice_servers: Sequence[IceServer]
    relay_only: bool
    udp_ports: tuple[int, int] | None
    announce: Sequence[str]
    interfaces: Sequence[str]


class ReceiverOptions(Options, total=False):
    """What does not change the type of the frames."""

    broadcaster: str | None
    detector: Detector | None
    timeout: float | None
    trace: str | os.PathLike[str] | None


def check(
    broadcaster: object,
    name: object,
    streams: object,
    sync: Sync,
    jitter_ms: float,
    faces_wait: float | None,
    timeout: float | None,
    max_size: tuple[int, int],
    ice_servers: Sequence[IceServer],
) -> None:
    """Refuse what no receiver can use, with the errors of the constructor of :class:`.Receiver`."""
    if streams is not None:
        if isinstance(streams, str) or not isinstance(streams, Sequence) or not streams:
            raise ValueError(f"streams must be names, like ['camera', 'screen'], or None for all, not {streams!r:.100}")
        for stream in streams:
            check_name(stream)
    if sync not in get_args(Sync):
        raise ValueError(f"sync must be one of {', '.join(get_args(Sync))}, not {sync!r}")
    for option, value in (("jitter_ms", jitter_ms), ("faces_wait", faces_wait), ("timeout", timeout)):
        if value is not None and not (isinstance(value, Real) and value >= 0):  # nor NaN
            raise ValueError(f"{option} must be 0 or more, not {value}")
    if not isinstance(broadcaster, str | None):
        raise TypeError(f"broadcaster must be a name or a session, not {broadcaster!r:.100}")
    check_text("broadcaster", broadcaster or "")
    check_text("name", name)
    check_servers(ice_servers)
    match max_size:
        case int(width), int(height) if min(width, height) >= 1:
            pass
        case _:
            raise ValueError(f"max_size must be a width and a height of 1 or more, not {max_size!r}")
