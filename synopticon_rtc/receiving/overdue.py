"""Says what was waited for in vain, and what to do."""

from collections.abc import Sequence
from typing import Literal

from synopticon_rtc.basics.text import NAME, WORDS, visible
from synopticon_rtc.errors import ConnectionLost, NobodyAnswered
from synopticon_rtc.signaling.receiver_handshake import ReceiverHandshake
from synopticon_rtc.signaling.session import Signaling

What = Literal["video", "faces", "sound"]
_STANDS: dict[What, tuple[str, str]] = {
    "video": ("frame", "the video stands still"),
    "faces": ("faces", "no more are found"),
    "sound": ("sound", "there is nothing to be heard"),
}


def overdue(
    client: Signaling,
    handshake: ReceiverHandshake,
    *,
    broadcaster: str | None,
    what: What,
    begun: bool,
    timeout: float,
    missing: Sequence[str] = (),
) -> NobodyAnswered | ConnectionLost:
    """Make the error for a moment that has not come.

    Args:
        client: The way to the signaling server.
        handshake: How far the search for a broadcaster has come.
        broadcaster: Who is wanted, None for anybody.
        what: What is waited for.
        begun: Whether there was any before.
        timeout: Seconds that were waited.
        missing: The names of the streams that are wanted, and not published.
    """
    within = f"within {timeout:g} s"
    link = handshake.link
    if begun:
        piece, stands = _STANDS[what]
        return ConnectionLost(f"no {piece} {within}: {stands if link else 'the broadcaster is gone'}")
    if client.session is None:
        return not_there(client, timeout)
    if link is not None:
        wanted = " or ".join(f"stream {name!r}" for name in missing) or what
        return NobodyAnswered(f"{visible(link.name or link.session, NAME)} answered, but no {wanted} came {within}")
    if handshake.refused_by:
        return NobodyAnswered("; ".join(dict.fromkeys(handshake.refused_by.values())))
    heard = ", ".join(
        f"{visible(name, NAME) or 'unnamed'} ({visible(session, NAME)})" for session, name in handshake.heard.items()
    )
    if broadcaster is not None and heard:
        return NobodyAnswered(f"no broadcaster {broadcaster!r} answered {within}; there are: {heard}")
    whom = f"no broadcaster {broadcaster!r}" if broadcaster else "no broadcaster"
    said = f": {client.url} says: {visible(handshake.refusal, WORDS)}" if handshake.refusal else ""
    return NobodyAnswered(f"{whom} answered {within}{said or f' at {client.url}: is one running there?'}")


def not_there(client: Signaling, timeout: float) -> NobodyAnswered:
    """Make the error for a signaling server that was waited for in vain, for this many seconds."""
    return NobodyAnswered(
        f"the signaling server {client.url} was not there within {timeout:g} s ({client.reason}): "
        "is it running, and is the address right?"
    )
