"""Messages of data channels that are one SCTP chunk each (RFC 9260, RFC 3758), and cost no more than that."""

from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, SCTP_DATA_LAST_FRAG, SCTP_DATA_UNORDERED, DataChunk

FLAGS = SCTP_DATA_UNORDERED | SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG
IMMEDIATE = 0x08
"""The flag of a chunk that is to be acknowledged at once (RFC 9260 section 3.3.1)."""
_SENT_ONCE = 2
"""What aiortc is told, so that it measures no round trip by it: the acknowledgement may wait."""


class Datagram(DataChunk):
    """One that is sent once and belongs into no order, on its way.

    What aiortc keeps of a chunk is the same for all of them, until it hears of one.

    Args:
        tsn: The transmission sequence number.
        stream_id: Of the data channel.
        protocol: Whether it is text or bytes (RFC 8831 section 8).
        user_data: The message.
    """

    flags = FLAGS
    stream_seq = 0
    _abandoned = False
    _acked = False
    _expiry = None
    _in_flight = True
    _max_retransmits: int | None = 0
    _misses = 0
    _retransmit = False
    _sent_count = _SENT_ONCE
    _sent_time = None

    def __init__(self, tsn: int, stream_id: int, protocol: int, user_data: bytes) -> None:
        self.tsn = tsn
        self.stream_id = stream_id
        self.protocol = protocol
        self.user_data = user_data
        self._book_size = len(user_data)


class Piece(Datagram):
    """One that comes in order, and is sent as often as it takes.

    Args:
        tsn: The transmission sequence number.
        stream_id: Of the data channel.
        stream_seq: Its number on that.
        protocol: Whether it is text or bytes.
        user_data: The message.
        sent: When it was, by the clock of the event loop, s; aiortc goes by one that somebody may set.
    """

    flags = SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG
    _max_retransmits = None

    def __init__(self, tsn: int, stream_id: int, stream_seq: int, protocol: int, user_data: bytes, sent: float) -> None:
        super().__init__(tsn, stream_id, protocol, user_data)
        self.stream_seq = stream_seq
        self.sent = sent

    @property
    def was_sent_once(self) -> bool:
        """Whether its acknowledgement tells how long the way is."""
        return self._sent_count == _SENT_ONCE
