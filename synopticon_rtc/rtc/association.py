"""The SCTP association under data channels, in front of which stands what aiortc takes for granted of a peer."""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from struct import unpack_from

from aiortc import RTCDataChannel, RTCSctpTransport
from aiortc.rtcsctptransport import (
    DATA_CHANNEL_ACK,
    DATA_CHANNEL_OPEN,
    LOCAL_MAX_MESSAGE_SIZE,
    SCTP_COMMON_HEADER_LENGTH,
    SCTP_MAX_PACKET_LENGTH,
    USERDATA_MAX_LENGTH,
    WEBRTC_BINARY,
    WEBRTC_DCEP,
    WEBRTC_STRING,
    BaseInitChunk,
    Chunk,
    CookieEchoChunk,
    DataChunk,
    ForwardTsnChunk,
    SackChunk,
    serialize_packet,
)

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc import chunks, datagram, seams
from synopticon_rtc.rtc.alarm import Alarm
from synopticon_rtc.rtc.datagram import Datagram, Piece
from synopticon_rtc.rtc.ice import IceConnection
from synopticon_rtc.rtc.ledbat import IDLE, PACKET, Ledbat
from synopticon_rtc.rtc.reassembly import InboundStream

logger = logging.getLogger(__name__)

WINDOW = 2**20
"""Bytes that may wait to be put together or in order, as the peer is told."""
MAX_AHEAD = 2048
"""How far ahead of what has come without a gap a chunk may be; one beyond counts as lost on the way."""
MAX_CHUNKS = 2 * MAX_AHEAD
"""Chunks and messages that may wait in all streams together."""
MAX_MESSAGE = LOCAL_MAX_MESSAGE_SIZE
"""Bytes of a message, as the peer is told."""
MAX_CHANNELS = 64
"""Data channels of a connection, whoever opened them."""
MAX_STREAMS = 2 * MAX_CHANNELS
"""Streams of which anything is known."""
MAX_STREAM = 65_534
"""The highest stream that a channel can have (RFC 8832 section 6)."""
MAX_NAME = 256
"""Bytes of a channel's label, and of its subprotocol."""
MAX_GAPS = 250
"""Gaps told in one acknowledgement, so that it fits into a packet; the others are told when these have closed."""
ACKNOWLEDGE = 0.1
"""Seconds in which a datagram is acknowledged (RFC 9260 section 6.2: at most 0.2)."""
AT_ONCE = 16 * USERDATA_MAX_LENGTH
"""Bytes that one acknowledgement tells of at most, of what came in one turn of the event loop."""
RESERVE = 2 * USERDATA_MAX_LENGTH
"""Bytes of others that may be on their way beside all that may be of patient channels."""
MAX_CHUNK_OCTETS = SCTP_MAX_PACKET_LENGTH - SCTP_COMMON_HEADER_LENGTH
"""Bytes of the chunks in a packet."""
_TSNS = 2**32
_NUMBERS = 2**16
_OPEN_LENGTH = 12


class Association(RTCSctpTransport):
    """aiortc's association, for peers that may send anything.

    What honest peers do not send is dropped. One whose messages never end, or never get in order, is given up.
    """

    on_abuse: Callable[[str], None]
    faults: Faults
    has_stopped: bool
    patient: set[RTCDataChannel]
    outstanding: int
    """Bytes of patient channels that have not arrived yet, as far as is known."""
    window: Ledbat
    progress: deque[Callable[[], None]]
    seen_cwnd: int
    repairing: bool
    last_sent: float
    resting_until: float
    retransmission: Alarm
    acknowledgement: Alarm
    told_at_end: bool
    unacknowledged: int
    bundling: bool
    bundle: bytes

    @classmethod
    def adopt(cls, transport: RTCSctpTransport, on_abuse: Callable[[str], None], faults: Faults) -> None:
        """Make an association of aiortc one of these, before it starts.

        Args:
            transport: What aiortc has made.
            on_abuse: Called with the reason when the peer is given up.
            faults: What counts errors that nobody foresaw.
        """
        transport.__class__ = cls
        assert isinstance(transport, cls)  # noqa: S101 - it is now
        transport.on_abuse = on_abuse
        transport.faults = faults
        transport.has_stopped = False
        transport.patient = set()
        transport.outstanding = 0
        transport.window = Ledbat()
        transport.progress = deque()
        transport.seen_cwnd = 0
        transport.repairing = False
        transport.last_sent = float("-inf")
        transport.told_at_end = False
        transport.resting_until = 0.0
        transport.unacknowledged = 0
        transport.bundling = False
        transport.bundle = b""
        loop = asyncio.get_running_loop()
        transport.retransmission = Alarm(loop, lambda: faults.call(transport._t3_expired))  # noqa: SLF001 - it is one of ours
        transport.acknowledgement = Alarm(loop, lambda: faults.call(transport.acknowledge))

    # Packets and chunks

    async def _handle_data(self, data: bytes) -> None:
        if self.state == "closed" or not chunks.is_sound(data):
            return
        try:
            await super()._handle_data(data)
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - it is noted, and the next may go better
            self.faults.note("an SCTP packet could not be handled")

    async def _receive_chunk(self, chunk: Chunk) -> None:
        begins = isinstance(chunk, BaseInitChunk)
        if self._last_received_tsn is None and not begins:
            return  # before anything was agreed
        if begins and self._association_state is self.State.ESTABLISHED:
            return  # a late copy: aiortc would count from the beginning again
        if isinstance(chunk, CookieEchoChunk) and self.state == "closed":
            return
        await super()._receive_chunk(chunk)

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        assert self._last_received_tsn is not None  # noqa: S101 - or no chunk comes here
        ahead = (chunk.tsn - self._last_received_tsn) % _TSNS
        self._plan_acknowledgement(chunk, in_order=ahead == 1 and not self._sack_misordered)
        if MAX_AHEAD < ahead <= _TSNS // 2:
            return
        if ahead > 1 and self._advertised_rwnd < len(chunk.user_data):
            return  # what closes the gap must still get in, and this comes again
        if self._mark_received(chunk.tsn):
            return
        stream = self._inbound_stream(chunk.stream_id)
        if stream is None:
            return
        stream.add_chunk(chunk)
        for message in stream.pop_messages():
            await self._receive(*message)
        waiting = self._account() if stream.count or self._advertised_rwnd != WINDOW else 0
        if stream.longest > MAX_MESSAGE:
            await self._give_up(f"it sends a message of more than {MAX_MESSAGE} bytes")
        elif self._advertised_rwnd < -MAX_MESSAGE or waiting > MAX_CHUNKS:
            await self._give_up("its messages come to no end")
        else:
            await self._reset_deferred_streams()

    def _plan_acknowledgement(self, chunk: DataChunk, *, in_order: bool) -> None:
        """Decide when the peer is told that a chunk has come: at once where something is missing."""
        self.unacknowledged += len(chunk.user_data)
        if not in_order or self.unacknowledged >= AT_ONCE:
            self._sack_needed = True
        elif (
            chunk.flags & (datagram.FLAGS | datagram.IMMEDIATE) == datagram.FLAGS
            and self.unacknowledged < USERDATA_MAX_LENGTH
        ):
            if not self.acknowledgement.is_set:
                self.acknowledgement.set(ACKNOWLEDGE)
        elif not self.told_at_end:
            self.told_at_end = True
            asyncio.get_running_loop().call_soon(self.faults.call, self._end_turn)

    def _end_turn(self) -> None:
        self.told_at_end = False
        if self.unacknowledged and self._last_received_tsn is not None:
            self.acknowledge()

    def _mark_received(self, tsn: int) -> bool:
        """Note a chunk, at a constant cost on average; True for one that has come before."""
        last = self._last_received_tsn
        assert last is not None  # noqa: S101 - or no chunk comes here
        if (last - tsn) % _TSNS < _TSNS // 2 or tsn in self._sack_misordered:
            if len(self._sack_duplicates) < MAX_GAPS // 4:
                self._sack_duplicates.append(tsn)
            return True
        if tsn == (last + 1) % _TSNS and not self._sack_misordered:
            self._last_received_tsn = tsn
        else:
            self._sack_misordered.add(tsn)
            self._close_gaps()
        return False

    def _close_gaps(self) -> None:
        last = self._last_received_tsn
        assert last is not None  # noqa: S101 - or no chunk comes here
        while (following := (last + 1) % _TSNS) in self._sack_misordered:
            self._sack_misordered.remove(following)
            last = following
        self._last_received_tsn = last

    async def _receive_forward_tsn_chunk(self, chunk: ForwardTsnChunk) -> None:
        self._sack_needed = True
        last = self._last_received_tsn
        assert last is not None  # noqa: S101 - or no chunk comes here
        if (last - chunk.cumulative_tsn) % _TSNS < _TSNS // 2:
            return
        self._last_received_tsn = last = chunk.cumulative_tsn
        self._sack_misordered = {tsn for tsn in self._sack_misordered if 0 < (tsn - last) % _TSNS < _TSNS // 2}
        self._close_gaps()
        for stream_id, sequence_number in chunk.streams:
            stream = self._inbound_stream(stream_id)
            if stream is not None:
                stream.skip(sequence_number)
                for message in stream.pop_messages():
                    await self._receive(*message)
        for stream in self._streams.values():
            stream.prune_chunks(last)
        self._account()
        await self._reset_deferred_streams()

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        """Take an acknowledgement, if it is of what was sent: aiortc walks through the numbers that it names."""
        sent = (self._local_tsn - 1 - self._last_sacked_tsn) % _TSNS
        acknowledged = (chunk.cumulative_tsn - self._last_sacked_tsn) % _TSNS
        if acknowledged > sent:
            return
        end = 0
        for first, last in chunk.gaps:
            if not end < first <= last:
                return
            end = last
        if end > sent - acknowledged:
            return
        arrived = self._patient_octets(chunk.cumulative_tsn) if self.outstanding else 0
        was_full = self.outstanding >= self.window.size / 2
        self._take_datagrams(chunk.cumulative_tsn)
        if acknowledged == sent and self._rests():
            self._last_sacked_tsn = self._advanced_peer_ack_tsn = chunk.cumulative_tsn
            self._t3_cancel()
        else:
            await super()._receive_sack_chunk(chunk)
        self.outstanding = max(0, self.outstanding - arrived)
        if chunk.gaps or self.repairing:
            self._look_for_losses()
        self._adjust(arrived, was_full=was_full)
        self._progressed()

    def _take_datagrams(self, up_to: int) -> None:
        """Let go of the datagrams in front that have arrived, so that aiortc measures round trips by what is behind."""
        sent = self._sent_queue
        if self._flight_size >= self._cwnd and not (sent and isinstance(sent[0], Piece)):
            return  # this is how it finds out that there could be more on its way
        before, newest = len(sent), None
        while sent and isinstance(chunk := sent[0], Datagram) and (up_to - chunk.tsn) % _TSNS < _TSNS // 2:
            self._flight_size_decrease(sent.popleft())
            if isinstance(chunk, Piece) and chunk.was_sent_once:
                newest = chunk
        if newest is not None:
            self._update_rto(clock.monotonic() - newest.sent)
        if len(sent) < before:
            self._t3_restart()

    def _look_for_losses(self) -> None:
        """Take stock of what is to be sent again, and of what will never be."""
        self.repairing = any(chunk._retransmit for chunk in self._sent_queue)  # noqa: SLF001 - they go first
        self._recount()

    def _t3_expired(self) -> None:
        super()._t3_expired()
        self._look_for_losses()
        self.seen_cwnd = self._cwnd
        if self.outstanding:
            self.window.begin_anew()

    def _rests(self) -> bool:
        """Whether there is nothing that an acknowledgement of all could have aiortc do."""
        return not (
            self._sent_queue
            or self._outbound_queue
            or self._data_channel_queue
            or self._reconfig_queue
            or self._forward_tsn_chunk
            or self._forward_tsn_streams
            or self._fast_recovery_exit is not None
        )

    async def _send_sack(self) -> None:
        self.acknowledge()

    def acknowledge(self) -> None:
        """Tell the peer what has come: of datagrams once they would fill a packet or one is old, of all else at once.

        RFC 9260 section 6.2 has this be done for every second packet unless there is a reason. Of datagrams it is that
        whoever sends them waits for nothing, and that they are small. Of all else it is that more has come already: at
        once means in this turn of the event loop. What is missing is told as ever.
        """
        last = self._last_received_tsn
        assert last is not None  # noqa: S101 - there is nothing to acknowledge before
        gaps: list[tuple[int, int]] = []
        for ahead in sorted((tsn - last) % _TSNS for tsn in self._sack_misordered):
            if gaps and gaps[-1][1] == ahead - 1:
                gaps[-1] = gaps[-1][0], ahead
            elif len(gaps) < MAX_GAPS:
                gaps.append((ahead, ahead))
            else:
                break
        sack = SackChunk()
        sack.cumulative_tsn = last
        sack.advertised_rwnd = max(0, self._advertised_rwnd)
        sack.duplicates = self._sack_duplicates[:]
        sack.gaps = gaps
        self._put(bytes(sack))
        self._sack_duplicates.clear()
        self._sack_needed = False
        self.unacknowledged = 0
        self.acknowledgement.cancel()

    # Streams

    @property
    def _streams(self) -> dict[int, InboundStream]:
        return self._inbound_streams  # type: ignore[return-value] # pyright: ignore[reportReturnType] - ours, all of them

    def _inbound_stream(self, stream_id: int) -> InboundStream | None:
        """Return a stream, a new one if there is room for it."""
        stream = self._streams.get(stream_id)
        if stream is None and stream_id <= MAX_STREAM and len(self._streams) < MAX_STREAMS:
            stream = self._streams[stream_id] = InboundStream()
        return stream

    def _account(self) -> int:
        """Take stock of what waits, and return how many pieces these are."""
        streams = self._streams.values()
        self._advertised_rwnd = WINDOW - sum(stream.size for stream in streams)
        return sum(stream.count for stream in streams)

    async def _give_up(self, reason: str) -> None:
        self.on_abuse(reason)
        await self._abort()
        self._set_state(self.State.CLOSED)

    async def stop(self) -> None:
        """Say goodbye, and send nothing more."""
        await super().stop()
        self.has_stopped = True
        for channel in [channel for channel, *_ in self._data_channel_queue]:
            seams.close_channel(channel)
        self._data_channel_queue.clear()
        self.retransmission.close()
        self.acknowledgement.close()
        # What follows takes the place of what holds this, so that it is free as soon as nobody else holds it.
        self.on_abuse = lambda _: None
        self.retransmission = self.acknowledgement = Alarm(asyncio.get_running_loop(), lambda: None)

    async def _send_chunk(self, chunk: Chunk) -> None:
        if not isinstance(chunk, DataChunk):
            self._put_bundle()
            self._put(bytes(chunk))
            return
        if chunk.flags & datagram.FLAGS == datagram.FLAGS:
            chunk.flags |= datagram.IMMEDIATE  # it is patient, or others wait behind it
        octets = bytes(chunk)
        if len(self.bundle) + len(octets) > MAX_CHUNK_OCTETS:
            self._put_bundle()
        self.bundle += octets
        if not self.bundling:
            self._put_bundle()

    def _put_bundle(self) -> None:
        if self.bundle:
            bundle, self.bundle = self.bundle, b""
            self._put(bundle)

    def _put(self, octets: bytes) -> None:
        """Send chunks in a packet, unless it all ends: a timer may run out in the very turn in which it does."""
        if self.has_stopped or self._remote_port is None:
            return
        ports = self._local_port, self._remote_port
        packet = serialize_packet(*ports, self._remote_verification_tag, octets)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it makes bytes of what it gets
        sealed = seams.sealed_data(self.transport, packet)
        if sealed:
            self._ice.send_now(sealed)

    @property
    def came(self) -> int:
        """Datagrams of the peer, of any kind."""
        return self._ice.came

    @property
    def _ice(self) -> IceConnection:
        ice = seams.ice_connection(self.transport.transport)
        assert isinstance(ice, IceConnection)  # noqa: S101 - PeerConnection has seen to that
        return ice

    def _set_state(self, state: RTCSctpTransport.State) -> None:
        super()._set_state(state)
        if state is self.State.CLOSED:
            self._inbound_streams.clear()
            self._sack_misordered.clear()
            self.retransmission.close()
            self.acknowledgement.close()

    # Datagrams

    def _data_channel_send(self, channel: RTCDataChannel, data: bytes | str) -> None:
        if channel in self.patient:
            if not channel.ordered or not self._send_now(channel, data):
                super()._data_channel_send(channel, data)
            self.outstanding += len(data.encode()) if isinstance(data, str) else len(data)
            self.last_sent = clock.monotonic()
        elif channel.ordered or channel.maxRetransmits != 0 or not self._send_now(channel, data):
            super()._data_channel_send(channel, data)

    def _send_now(self, channel: RTCDataChannel, data: bytes | str) -> bool:
        """Send a message in this very call, if it goes into one packet and nothing waits.

        It is one that is never sent again, or one of a patient channel, of which only so many are on their way.
        """
        protocol, octets = (WEBRTC_STRING, data.encode()) if isinstance(data, str) else (WEBRTC_BINARY, data)
        size, stream_id = len(octets), channel.id
        if (
            stream_id is None
            or not 0 < size <= min(USERDATA_MAX_LENGTH, self._remote_max_message_size or USERDATA_MAX_LENGTH)
            or self._association_state is not self.State.ESTABLISHED
            or self._flight_size >= self._cwnd
            or self._data_channel_queue
            or self._outbound_queue
            or self._forward_tsn_chunk is not None
            or self.repairing
        ):
            return False
        if channel.ordered:
            self._dispatch(self._piece(stream_id, protocol, octets))
        else:
            self._dispatch(Datagram(self._local_tsn, stream_id, protocol, octets))
        return True

    def _piece(self, stream_id: int, protocol: int, octets: bytes) -> Piece:
        number = self._outbound_stream_seq.get(stream_id, 0)
        self._outbound_stream_seq[stream_id] = (number + 1) % _NUMBERS
        return Piece(self._local_tsn, stream_id, number, protocol, octets, clock.monotonic())

    def _dispatch(self, chunk: Datagram) -> None:
        self._local_tsn = (self._local_tsn + 1) % _TSNS
        self._sent_queue.append(chunk)
        self._flight_size += len(chunk.user_data)
        self._put(bytes(chunk))
        if self._t3_handle is None:
            self._t3_start()

    def _t3_start(self) -> None:
        self._t3_handle = self.retransmission  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue] - it can be cancelled
        self.retransmission.set(self._rto)

    def _t3_restart(self) -> None:
        self._t3_start()

    # What can wait

    def make_patient(self, channel: RTCDataChannel, on_progress: Callable[[], None]) -> None:
        """Count a channel among those that yield to all others.

        aiortc sends what all channels give it in the order in which it came, and so what waits here holds up what is
        sent on others. Therefore such a channel gives it no more than there is :attr:`room` for.

        Args:
            channel: Which one.
            on_progress: Called when there may be more room, or all has arrived; once where several channels give the
                same. Of several, another one is called first each time.
        """
        self.patient.add(channel)
        if on_progress not in self.progress:
            self.progress.append(on_progress)
        self._recount()

    @property
    def room(self) -> float:
        """Bytes that patient channels may send now."""
        now = clock.monotonic()
        if (
            self._association_state is not self.State.ESTABLISHED
            or self._outbound_queue
            or self.repairing
            or self._flight_size >= self._cwnd
            or now < self.resting_until
        ):
            return 0
        if not self.outstanding and now - self.last_sent > IDLE:
            self.window.begin_anew()
        return max(0.0, max(self.window.size, PACKET) - self.outstanding)

    def _recount(self) -> None:
        """Count what is outstanding: of what is given up, nobody tells that it has arrived."""
        waiting = sum(len(data) for channel, _, data in self._data_channel_queue if channel in self.patient)
        self.outstanding = waiting + self._patient_octets()

    def _patient_octets(self, up_to: int | None = None) -> int:
        """Count the bytes of patient channels that were handed over, or of these those up to a TSN."""
        streams = {channel.id for channel in self.patient}
        octets = 0
        for chunk in itertools.chain(self._sent_queue, self._outbound_queue):
            if up_to is not None and 0 < (chunk.tsn - up_to) % _TSNS < _TSNS // 2:
                break
            octets += len(chunk.user_data) if chunk.stream_id in streams else 0
        return octets

    def _adjust(self, arrived: int, *, was_full: bool) -> None:
        """Let the window of patient channels follow what an acknowledgement tells."""
        if self._cwnd < self.seen_cwnd:
            self.window.lost(clock.monotonic())
        elif arrived and was_full:
            self.window.acknowledged(arrived)
            self._cwnd = max(self._cwnd, round(self.window.size) + RESERVE)  # it has felt the way for all of it
        if arrived and (pause := self.window.pause):
            self.resting_until = clock.monotonic() + pause
            asyncio.get_running_loop().call_at(self.resting_until, self._progressed)
        self.seen_cwnd = self._cwnd

    def _progressed(self) -> None:
        for call in tuple(self.progress):
            self.faults.call(call)
        self.progress.rotate()

    def _update_rto(self, R: float) -> None:  # noqa: N803 - the name that aiortc has
        super()._update_rto(R)
        self.window.measured(clock.monotonic(), R)

    def _data_channel_closed(self, stream_id: int) -> None:
        self.patient.discard(self._data_channels[stream_id])
        super()._data_channel_closed(stream_id)
        self._recount()

    async def _data_channel_flush(self) -> None:
        """Send what waits, in as few packets as it fits into (RFC 9260 section 6.10); aiortc sends each by itself."""
        self.bundling = True
        try:
            await super()._data_channel_flush()
        finally:
            self.bundling = False
            self._put_bundle()
        self._progressed()

    # Messages

    async def _receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        channel = self._data_channels.get(stream_id)
        if pp_id == WEBRTC_DCEP:
            opens = data[0] == DATA_CHANNEL_OPEN and channel is None and self._may_open(stream_id, data)
            if opens or (data[0] == DATA_CHANNEL_ACK and channel is not None):
                await super()._receive(stream_id, pp_id, data)
        elif pp_id == WEBRTC_STRING and channel is not None:
            try:
                text = data.decode()
            except UnicodeDecodeError:
                logger.debug("a message that is no UTF-8 is dropped")
            else:
                channel.emit("message", text)
        else:
            await super()._receive(stream_id, pp_id, data)

    def _may_open(self, stream_id: int, data: bytes) -> bool:
        """Whether a peer may open a channel: one of a kind where it names the kind, and not too many."""
        if len(data) < _OPEN_LENGTH or len(self._data_channels) >= MAX_CHANNELS:
            return False
        label_length, protocol_length = unpack_from("!HH", data, 8)
        end = _OPEN_LENGTH + label_length
        if max(label_length, protocol_length) > MAX_NAME or len(data) < end + protocol_length:
            return False
        try:
            label, protocol = data[_OPEN_LENGTH:end].decode(), data[end : end + protocol_length].decode()
        except UnicodeDecodeError:
            return False
        return not protocol or not any(
            (other.label, other.protocol) == (label, protocol) and other_id % 2 == stream_id % 2
            for other_id, other in self._data_channels.items()
        )
