"""What sessions may do, and how long the server waits for them."""

from dataclasses import dataclass, fields

# What has no option: bounds on what is looked at before a session is open, and the rest that nobody would set.
HEAD_BYTES = 16 * 2**10  # of a request, up to the empty line
BODY_BYTES = 64 * 2**10  # of a request, below it: a session description, where one is taken
HEAD_FIELDS = 100  # of a request
READ_BUFFER = 2048  # bytes for what a session sends; it grows with what comes
HELD_FREE = 16 * 2**10  # bytes of a session that are not counted as held, each way
TURN_MESSAGES = 256  # that wait for the end of a turn of the loop, for one session
SPARE_FILES = 16  # descriptors that are kept for all but clients
ACCEPT_AT_ONCE = 64  # connections in one turn of the loop
ACCEPT_GRACE = 0.25  # seconds that each connection has to ask for something, however many wait
ACCEPT_PAUSE = 0.05  # seconds until the next look, where no more can be taken
BACKLOG = 1024  # connections that wait in the kernel
FULL_EVERY = 60.0  # seconds between two lines of the log that tell that there is no room
LINE_EVERY = 1.0  # seconds between two lines of the log that are alike and that strangers can cause


@dataclass(frozen=True)
class Limits:
    """What a session may do, and how long the server waits.

    A source is an address, or the /64 that it is in where it is one of IPv6. The machine itself is a source like all
    others where a number is given for sources; without one it may have all that there is.

    Attributes:
        sessions: Sessions at once; one more is closed with 1013.
        room_sessions: Sessions in one room; one more is closed with 1013.
        address_sessions: Sessions from one source; one more is closed with 1013. None is half of all, and on this
            machine all, as long as nobody else wants to come in.
        requests: Connections that are no sessions: they have not asked for anything yet, or get a page. Where there are
            more, those that waited longest are cut.
        address_requests: Such connections from one source, other than this machine and trusted proxies.
        messages: Messages a second from one session, on average; what is more is dropped and counts as an error. One
            for everybody counts once for each whom it reaches, up to a hundred.
        bytes: Bytes a second from one session, on average; what is more is dropped and counts as an error.
        burst: Seconds' worth of messages and bytes that may come at once.
        message_bytes: Size of a message; a larger one closes its session with 1009. Descriptions have a few KiB, and
            a backplane takes 1 MiB; the published servers take 16 MiB.
        errors: The error of a session that closes it with 1011, or with 1008 where it is a message too many.
        first: Seconds to the first message; later the session is closed with 1000.
        idle: Seconds without a message until a session is closed with 1000, at most a quarter more.
        buffered_bytes: What a slow reader may owe; once it owes more it is closed with 1008.
        held_bytes: Held for all sessions together of messages that are not whole and messages that nobody reads or that
            wait for an access hook. Where it is more, the session that holds most is closed with 1013.
        pending: Messages of a pair that wait while an access hook considers it; one more is dropped.
        handshake: Seconds that a client has to ask for something, TLS included.
        answer: Seconds that a client has to read a page.
        close: Seconds that a client has to answer a close, before its connection is cut.
    """

    sessions: int = 100
    room_sessions: int = 1000
    address_sessions: int | None = None
    requests: int = 512
    address_requests: int = 64
    messages: float = 1000
    bytes: float = 8 * 2**20
    burst: float = 5.0
    message_bytes: int = 2**20
    errors: int = 10
    first: float = 30.0
    idle: float = 30.0
    buffered_bytes: int = 4 * 2**20
    held_bytes: int = 64 * 2**20
    pending: int = 100
    handshake: float = 5.0
    answer: float = 30.0
    close: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and not limit > 0:
                raise ValueError(f"Limits.{field.name} is {limit}: give more than 0")

    @property
    def share(self) -> int:
        """How many sessions a source may have while others want to come in too."""
        return max(1, self.sessions // 2) if self.address_sessions is None else self.address_sessions


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
