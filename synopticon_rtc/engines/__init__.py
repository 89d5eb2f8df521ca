"""Engines that carry streams to more receivers than one machine's uplink does, and how they are reached by address."""

import ssl as ssl_module

from synopticon_rtc.engines.engine import Engine
from synopticon_rtc.errors import InvalidURL, without_login
from synopticon_rtc.signaling.client import SignalingClient, as_client
from synopticon_rtc.signaling.entry import Token
from synopticon_rtc.signaling.session import Signaling

__all__ = ["Engine", "as_engine", "as_signaling"]


def as_signaling(
    signaling: object, *, room: str = "", token: Token | None = None, ssl: ssl_module.SSLContext | None = None
) -> Signaling:
    """Return the way to others for an address, that of an engine too, and such a way as it is.

    Args:
        signaling: The address, or the way.
        room: The room of a signaling server to meet in.
        token: What the server or the engine wants to see of those that it lets in.
        ssl: Which certificates to trust.

    Raises:
        TypeError: It is neither, or there is a room or a token beside what is more than an address.
        InvalidURL: It is the address of neither a signaling server nor an engine, or there is a room beside that.
    """
    if not isinstance(signaling, str):
        if room or token is not None:
            raise TypeError("room and token belong to the SignalingClient, where there is one")
        return as_client(signaling)
    engine = _engine(signaling, token, ssl)
    if engine is None:
        return SignalingClient(signaling, room=room, token=token, ssl=ssl)
    if room:
        raise InvalidURL(f"the address {engine.url} says all about rooms: leave the room {room!r:.100} out")
    return engine


def as_engine(engine: object, *, token: Token | None = None, ssl: ssl_module.SSLContext | None = None) -> Engine:
    """Return the way to an engine for its address, and such a way as it is.

    Args:
        engine: The address, or the way.
        token: What the engine wants to see of those that it lets in.
        ssl: Which certificates to trust.

    Raises:
        TypeError: It is neither.
        InvalidURL: It is no address of an engine.
    """
    if isinstance(engine, Engine):
        return engine
    if not isinstance(engine, str):
        raise TypeError(f"an engine is named by its address, not by {engine!r:.100}")
    if (found := _engine(engine, token, ssl)) is None:
        shown = without_login(engine.partition("?")[0])
        raise InvalidURL(
            f"{shown!r} is no address of an engine: give one like whip+https://HOST/PATH or janus+ws://HOST:8188/ROOM"
        )
    return found


def _engine(url: str, token: Token | None, ssl: ssl_module.SSLContext | None) -> Engine | None:
    """Return the way to the engine at an address, None where no kind of engine has such addresses."""
    match url.partition("://")[0].lower():
        case "janus+ws" | "janus+wss":
            from synopticon_rtc.engines.janus import Janus  # noqa: PLC0415 - few need it

            return Janus(url, token=token, ssl=ssl)
        case "whip+https" | "whip+http":
            from synopticon_rtc.engines.whip import Whip  # noqa: PLC0415 - as above

            return Whip(url, token=token, ssl=ssl)
        case "whep+https" | "whep+http":
            from synopticon_rtc.engines.whip import Whep  # noqa: PLC0415 - as above

            return Whep(url, token=token, ssl=ssl)
        case _:
            return None
