"""Says what was waited for in vain, and what to do."""

from collections.abc import Sequence

from synopticon_rtc.basics.text import NAME, WORDS, visible
from synopticon_rtc.errors import ConnectionLost, NobodyAnswered
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.handshake import ReceiverHandshake


def overdue(
    client: SignalingClient,
    handshake: ReceiverHandshake,
    *,
    broadcaster: str | None,
    video: bool,
    begun: bool,
    timeout: float,
    missing: Sequence[str] = (),
) -> NobodyAnswered | ConnectionLost:
    """Make the error for a moment that has not come.

    Args:
        client: The way to the signaling server.
        handshake: How far the search for a broadcaster has come.
        broadcaster: Who is wanted, None for anybody.
        video: Whether frames are waited for, else faces alone.
        begun: Whether there was any before.
        timeout: Seconds that were waited.
        missing: The names of the streams that are wanted, and not published.
    """
    within = f"within {timeout:g} s"
    link = handshake.link
    if begun:
        what, stands = ("frame", "the video stands still") if video else ("faces", "no more are found")
        return ConnectionLost(f"no {what} {within}: {stands if link else 'the broadcaster is gone'}")
    if client.session is None:
        return NobodyAnswered(
            f"the signaling server {client.url} was not there {within} ({client.reason}): "
            "is it running, and is the address right?"
        )
    if link is not None:
        stream = " or ".join(f"stream {name!r}" for name in missing)
        what = stream or ("video" if video else "faces")
        return NobodyAnswered(f"{visible(link.name or link.session, NAME)} answered, but no {what} came {within}")
    heard = ", ".join(
        f"{visible(name, NAME) or 'unnamed'} ({visible(session, NAME)})" for session, name in handshake.heard.items()
    )
    if broadcaster is not None and heard:
        return NobodyAnswered(f"no broadcaster {broadcaster!r} answered {within}; there are: {heard}")
    whom = f"no broadcaster {broadcaster!r}" if broadcaster else "no broadcaster"
    if handshake.refusal:
        return NobodyAnswered(f"{whom} answered {within}: {client.url} says: {visible(handshake.refusal, WORDS)}")
    return NobodyAnswered(f"{whom} answered {within} at {client.url}: is one running there?")
