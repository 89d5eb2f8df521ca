"""What sessions may do, and how long the server waits for them."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """What a session may do, and how long the server waits.

    Attributes:
        sessions: Sessions at once; one more is closed with 1013.
        room_sessions: Sessions in one room; one more is closed with 1013.
        address_sessions: Sessions from one address; one more is closed with 1013.
        messages: Messages a second from one session, on average; what is more is dropped and counts as an error. One
            for everybody counts once for each whom it reaches, up to a hundred.
        bytes: Bytes a second from one session, on average; what is more is dropped and counts as an error.
        burst: Seconds' worth of messages and bytes that may come at once.
        message_bytes: Size of a message; a larger one closes its session with 1009.
        errors: The error of a session that closes it with 1011, or with 1008 where it is a message too many.
        first: Seconds to the first message; later the session is closed with 1000.
        idle: Seconds without a message until a session is closed with 1000, at most a quarter more.
        buffered_bytes: What a slow reader may owe; once it owes more it is closed with 1008.
        pending: Messages of a pair that wait while an access hook considers it; one more is dropped.
        handshake: Seconds that a client has to ask for something.
        close: Seconds that a client has to answer a close, before its connection is cut.
    """

    sessions: int = 100
    room_sessions: int = 1000
    address_sessions: int = 100
    messages: float = 1000
    bytes: float = 8 * 2**20
    burst: float = 5.0
    message_bytes: int = 16 * 2**20
    errors: int = 10
    first: float = 30.0
    idle: float = 30.0
    buffered_bytes: int = 4 * 2**20
    pending: int = 100
    handshake: float = 5.0
    close: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not (limit := getattr(self, field.name)) > 0:
                raise ValueError(f"Limits.{field.name} is {limit}: give more than 0")


class Budget:
    """What one session may send now: a token bucket for its messages, and one for its bytes.

    A bucket is one number, the time at which it will be full again (GCRA, ITU-T I.371), so that a message costs two
    additions.
    """

    __slots__ = ("_burst", "_byte_time", "_bytes_full", "_message_time", "_messages_full")

    def __init__(self, limits: Limits) -> None:
        self._message_time = 1 / limits.messages
        self._byte_time = 1 / limits.bytes
        self._burst = limits.burst
        self._messages_full = 0.0
        self._bytes_full = 0.0

    def take(self, now: float, size: int) -> bool:
        """Take a message of that size out of both, or nothing if one has not that much; ``now`` in seconds."""
        messages, size_full = self._messages_full, self._bytes_full
        messages = (messages if messages > now else now) + self._message_time  # noqa: FURB136  # max() is a call
        size_full = (size_full if size_full > now else now) + size * self._byte_time  # noqa: FURB136  # as above
        latest = now + self._burst
        if messages > latest or size_full > latest:
            return False
        self._messages_full, self._bytes_full = messages, size_full
        return True

    def take_more(self, now: float, messages: int) -> bool:
        """Take out so many messages more, or none if there are not that many."""
        full = max(self._messages_full, now) + messages * self._message_time
        if full > now + self._burst:
            return False
        self._messages_full = full
        return True
