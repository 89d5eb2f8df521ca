"""The messages that a server writes itself."""

import time

import msgspec


def message(kind: str, /, **fields: object) -> bytes:
    """Write a message of that type."""
    return msgspec.json.encode({"type": kind, **fields})


def now() -> int:
    """Tell the time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def error(session: str, text: str, code: str, target: str | None = None) -> bytes:
    """Write an error; ``target`` is whom the message in question was for."""
    whom = {} if target is None else {"targetSession": target}
    return message("error", sessionId=session, error=text, errorCode=code, **whom, timestamp=now())
