"""Messages of data channels that are sent once, as one SCTP chunk that belongs into no order (RFC 9260, RFC 3758)."""

from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, SCTP_DATA_LAST_FRAG, SCTP_DATA_UNORDERED, DataChunk

FLAGS = SCTP_DATA_UNORDERED | SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG
IMMEDIATE = 0x08
"""The flag of a chunk that is to be acknowledged at once (RFC 9260 section 3.3.1)."""


class Datagram(DataChunk):
    """Such a message on its way. What aiortc keeps of a chunk is the same for all of them, until it hears of one.

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
    _max_retransmits = 0
    _misses = 0
    _retransmit = False
    _sent_count = 2  # so aiortc measures no round trip by it, as its acknowledgement may wait
    _sent_time = None

    def __init__(self, tsn: int, stream_id: int, protocol: int, user_data: bytes) -> None:
        self.tsn = tsn
        self.stream_id = stream_id
        self.protocol = protocol
        self.user_data = user_data
        self._book_size = len(user_data)
