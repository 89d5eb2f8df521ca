"""The messages that a server writes itself."""

import time

import msgspec


def message(kind: str, /, **fields: object) -> bytes:
    """Write a message of that type."""
    return msgspec.json.encode({"type": kind, **fields})


def now() -> int:
    """Tell the time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def error(session: str, text: str, code: str, target: str | None = None, role: str | None = None) -> bytes:
    """Write an error; ``target`` is whom the message in question was for, ``role`` the role in question."""
    about = {key: value for key, value in (("targetSession", target), ("role", role)) if value is not None}
    return message("error", sessionId=session, error=text, errorCode=code, **about, timestamp=now())
