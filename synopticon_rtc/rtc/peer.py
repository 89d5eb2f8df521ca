"""One WebRTC connection to one peer."""

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aioice import Candidate
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCDtlsTransport,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.errors import ConnectionLost, InvalidSDP, NoCandidates
from synopticon_rtc.rtc import sdp, seams
from synopticon_rtc.rtc.assembly import EncodedVideoFrame
from synopticon_rtc.rtc.association import Association
from synopticon_rtc.rtc.audio_receiver import AudioReceiver
from synopticon_rtc.rtc.audio_sender import AudioSender
from synopticon_rtc.rtc.audio_stream import AudioStream
from synopticon_rtc.rtc.audio_track import AudioTrack, EncodedSound
from synopticon_rtc.rtc.bitstream import MAX_SIZE
from synopticon_rtc.rtc.channel import MAX_BUFFERED, Channel
from synopticon_rtc.rtc.ice import MAX_REMOTE_CANDIDATES, IceConnection
from synopticon_rtc.rtc.level import LEAST, RECEIVED
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.rtc.receiver import Sink, VideoReceiver
from synopticon_rtc.rtc.sender import FanoutSender
from synopticon_rtc.rtc.servers import IceServer
from synopticon_rtc.rtc.stream import Codec, VideoStream
from synopticon_rtc.rtc.track import VideoTrack
from synopticon_rtc.rtc.transport import Transport
from synopticon_rtc.tracing import Figures, Note, ignore

logger = logging.getLogger(__name__)

Sender = FanoutSender | AudioSender


@dataclass(frozen=True, slots=True)
class Stats:
    """What a connection has done so far."""

    packets_sent: int
    """RTP packets, without those that were sent once more."""
    bytes_sent: int
    """In those packets, without their headers."""
    retransmits: int
    """Packets that were sent once more, as the peer asked for them."""
    frames_sent: int
    """Frames of the video."""
    frames_dropped: int
    """Frames not sent, because the peer waited for a keyframe."""
    bitrate: float
    """What was sent in the last second, bit/s."""
    fps: float
    """Frames sent in the last second."""
    packets_received: int
    """RTP packets, of what the peer sends."""
    bytes_received: int
    """In those packets, without their headers."""
    frames_too_large: int
    """Frames left out because they were larger than allowed."""
    rtt: float | None
    """Round-trip time in seconds."""
    loss: float | None
    """Share of sent packets lost on the way, 0 to 1, as the peer last reported."""
    bitrate_limit: int | None
    """What the peer estimates that it can receive, in bit/s."""
    bearable: float
    """What the link to the peer is thought to bear, in bit/s; infinite until something speaks against what is sent."""
    local_candidate: str | None
    """The type of our selected candidate: ``host``, ``srflx``, ``prflx`` or ``relay``."""
    remote_candidate: str | None
    """The type of the peer's selected candidate."""
    faults: int
    """Errors that nobody foresaw, of this package or a callback; each cost a message or a frame, and is in the log."""


class PeerConnection:
    """A connection to one peer, which sends or receives videos and data channels.

    One side calls :meth:`offer`, and gives the reply to :meth:`set_answer`; the other calls :meth:`answer`. Before that
    whoever sends calls :meth:`add_video`, :meth:`add_audio` and :meth:`add_channel`, and a receiver that is to offer
    calls :meth:`receive`. Candidates go both ways meanwhile. The same once more adds video to a connection that is up
    (RFC 8829 section 5.2.2); an offer that was not answered is replaced by the next. Callbacks are called on the event
    loop.

    Args:
        ice_servers: STUN and TURN servers. No other is ever asked.
        relay_only: Whether to connect through TURN servers alone, so that the peer does not learn our address.
        on_candidate: Called with each candidate that is not in the description, as ``RTCIceCandidate.toJSON`` gives it.
        signal_end: Whether ``on_candidate`` is also called with None when there will be no more.
        on_state: Called with each new :attr:`state`.
        on_reached: Called when datagrams pass both ways, so that the peer has our description; it is not connected yet.
        on_channel: Called with each channel that the peer creates.
        on_video: Called with each video track that the peer offers and that is taken; its frames are decoded.
        on_audio: Called with each sound that the peer offers and that is taken; without it, sound is not received.
        on_encoded: Called instead with each frame of these videos and the media section that it came on, in order; none
            is decoded, and those that are not complete are left out with all up to the next keyframe. Without either,
            video is not received.
        tap_video: Called with each frame of a video that is received, decoded or not, and its media section.
        tap_sound: Called with each packet of a sound that is received in time, and its media section.
        max_size: Width and height of the largest video that is received, in pixels; what is larger is left out, before
            anything is decoded.
        offer_capture_time: Whether offers say that packets may tell when they were captured.
        network: What of this machine's network to use, the same object for all connections that share a port.
        note: Told of what is found out and decided, for a trace.
        faults: What counts errors that nobody foresaw, beside this connection itself.
    """

    def __init__(
        self,
        *,
        ice_servers: Sequence[IceServer] = (),
        relay_only: bool = False,
        on_candidate: Callable[[dict[str, Any] | None], None] | None = None,
        signal_end: bool = False,
        on_state: Callable[[str], None] | None = None,
        on_reached: Callable[[], None] | None = None,
        on_channel: Callable[[Channel], None] | None = None,
        on_video: Callable[[VideoTrack], None] | None = None,
        on_encoded: Callable[[str, EncodedVideoFrame], None] | None = None,
        on_audio: Callable[[AudioTrack], None] | None = None,
        tap_video: Callable[[str, EncodedVideoFrame], None] | None = None,
        tap_sound: Callable[[str, EncodedSound], None] | None = None,
        max_size: tuple[int, int] = MAX_SIZE,
        offer_capture_time: bool = False,
        network: LocalNetwork | None = None,
        note: Note = ignore,
        faults: Faults | None = None,
    ) -> None:
        self._faults = Faults(faults)
        self._network = network or LocalNetwork()
        self._note = note
        self._servers = tuple(ice_servers)
        self._relay_only = relay_only
        self._on_candidate = on_candidate
        self._signal_end = signal_end
        self._on_state = on_state
        self._on_reached = on_reached
        self._on_channel = on_channel
        self._on_video = on_video
        self._on_encoded = on_encoded
        self._on_audio = on_audio
        self._tap_video = tap_video
        self._tap_sound = tap_sound
        self._max_size = max_size
        self._offer_capture_time = offer_capture_time
        # aiortc asks a server of its choice when it is given no list; with an empty one it asks none.
        self._connection = seams.OwnedPeerConnection(
            RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE),
            on_broken=lambda: self._set_state("failed"),
            faults=self._faults,
        )
        self._connection.on("connectionstatechange", self._on_connection_state)
        self._connection.on("iceconnectionstatechange", self._on_ice_state)
        self._connection.on("datachannel", self._on_datachannel)
        self._ice: IceConnection | None = None
        self._state = "new"
        self._senders: dict[Sender, RTCRtpTransceiver] = {}
        self._receivers: dict[str, VideoReceiver] = {}  # by media section
        self._sounds: dict[str, AudioReceiver] = {}
        self._level = LEAST
        self._remote: sdp.Remote | None = None
        self._section: tuple[str, int] = "", 0  # which section our candidates are told for
        self._early: list[tuple[str | None, str | None, int | None]] = []
        self._closing: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """``new``, ``connecting``, ``connected``, ``failed`` (never came about, or was lost) or ``closed``."""
        return self._state

    @property
    def failure(self) -> str:
        """Why the connection failed, in words; empty where nobody said."""
        return self._connection.failure

    @property
    def senders(self) -> tuple[FanoutSender, ...]:
        """What sends the videos that were added."""
        return tuple(sender for sender in self._senders if isinstance(sender, FanoutSender))

    def section(self, sender: Sender) -> str | None:
        """Return the name of the media section that a sender sends on, None before that was offered."""
        return self._senders[sender].mid

    def takes(self, sender: Sender) -> bool:
        """Whether the peer has agreed to what a sender sends."""
        return self._senders[sender].currentDirection == "sendonly"

    @property
    def received(self) -> tuple[str, ...]:
        """The media sections on which video is received, in the order in which they were offered."""
        return tuple(self._receivers)

    @property
    def heard(self) -> tuple[str, ...]:
        """The media sections on which both ends have agreed that sound is received."""
        agreed = {one.mid for one in self._connection.getTransceivers() if one.currentDirection == "recvonly"}
        return tuple(mid for mid in self._sounds if mid in agreed)

    @property
    def has_media(self) -> bool:
        """Whether both ends have agreed on any video or sound, in either direction."""
        agreed = {one.currentDirection for one in self._connection.getTransceivers()}
        return not agreed <= {None, "inactive"}

    @property
    def offered_channels(self) -> bool:
        """Whether the peer has offered data channels, which nobody does who has nothing to send on them."""
        ours = self._connection.localDescription
        return ours is not None and ours.type == "answer" and self._connection.sctp is not None

    # The side that offers

    def add_video(
        self,
        select: Callable[[Codec], VideoStream],
        codecs: Sequence[Codec] = ("vp8", "h264"),
        *,
        level: int = LEAST,
        exactly: bool = False,
    ) -> FanoutSender:
        """Offer one more video, with the next offer.

        Args:
            select: Gives the stream for the codec that the peer has chosen.
            codecs: ``"vp8"`` and ``"h264"`` in order of preference; VP8 is always offered, as any peer takes it.
            level: The level of H.264 that it is sent at, times ten.
            exactly: Whether no other codec than these is offered, not even VP8.

        Returns:
            What sends it, from the answer on.
        """
        self._level = max(self._level, level)
        transceiver = self._connection.addTransceiver("video", direction="sendonly")
        order = list(dict.fromkeys(codecs if exactly else (*codecs, "vp8")))
        known = RTCRtpSender.getCapabilities("video").codecs
        preferred = [codec for name in order for codec in known if codec.name.lower() == name]
        transceiver.setCodecPreferences([*preferred, *(codec for codec in known if codec.name.lower() == "rtx")])
        ice = self._adopt(transceiver.receiver.transport)
        seams.unburden(transceiver.receiver)
        sender = FanoutSender.adopt(transceiver.sender, ice, select, self._note, self._faults)
        self._senders[sender] = transceiver
        return sender

    def add_layer(self, sender: FanoutSender, select: Callable[[Codec], VideoStream]) -> None:
        """Offer a smaller layer of a video beside it (simulcast), with the first offer: an engine chooses among them.

        Args:
            sender: What sends the video.
            select: Gives the layer for the codec that the peer has chosen.
        """
        layer = RTCRtpSender("video", sender.transport)
        ice = self._adopt(sender.transport)
        adopted = FanoutSender.adopt(layer, ice, select, self._note, self._faults)
        adopted.fixed = True
        sender.smaller.append(adopted)

    def add_audio(self, stream: AudioStream | None) -> AudioSender:
        """Offer one more sound, in Opus, with the next offer.

        Args:
            stream: What is sent from the answer on; None for nothing yet.
        """
        transceiver = self._connection.addTransceiver("audio", direction="sendonly")
        known = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences([codec for codec in known if codec.name.lower() == "opus"])
        ice = self._adopt(transceiver.receiver.transport)
        sender = AudioSender.adopt(transceiver.sender, ice, stream, self._faults)
        self._senders[sender] = transceiver
        return sender

    def add_channel(
        self,
        label: str,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_buffered: int = MAX_BUFFERED,
    ) -> Channel:
        """Create a data channel.

        Args:
            label: Its name.
            protocol: The subprotocol spoken on it.
            ordered: Whether messages must come in order.
            max_retransmits: How often a lost message is sent again; None for as often as it takes.
            max_buffered: Bytes that may wait to be sent before messages are dropped.
        """
        channel = self._connection.createDataChannel(
            label, protocol=protocol, ordered=ordered, maxRetransmits=max_retransmits
        )
        self._adopt_channels()
        return Channel(channel, max_buffered=max_buffered, faults=self._faults)

    def receive(self) -> None:
        """Offer to receive one video and one sound, as far as somebody is there for them, with the first offer."""
        for kind, codecs, callback in (
            ("video", {"vp8", "h264", "rtx"}, self._on_encoded or self._on_video),
            ("audio", {"opus"}, self._on_audio),
        ):
            if callback is not None:
                transceiver = self._connection.addTransceiver(kind, direction="recvonly")
                known = RTCRtpSender.getCapabilities(kind).codecs
                transceiver.setCodecPreferences([codec for codec in known if codec.name.lower() in codecs])
                self._adopt(transceiver.receiver.transport)
        self._level = RECEIVED

    async def offer(self) -> str:
        """Make the offer, with the candidates that need no server in it.

        Raises:
            NoCandidates: There is nothing to connect from.
        """
        if self._ice is None:
            raise RuntimeError("there is nothing to offer: add video or a channel first")
        text = sdp.name_level(await self._describe(), self._level)
        for transceiver in self._connection.getTransceivers():
            if transceiver.direction == "recvonly" and not _is_ours(transceiver):
                self._receive(transceiver, self._ice)
        for sender, transceiver in self._senders.items():
            if isinstance(sender, FanoutSender) and sender.smaller and transceiver.mid is not None:
                layers = [*map(seams.sender_sources, (sender, *sender.smaller))]
                text = sdp.offer_layers(text, transceiver.mid, layers)
        if self._offer_capture_time:
            text = sdp.offer_capture_time(text)
        if self._connection.remoteDescription is not None:
            return sdp.leave_candidates_out(text)
        self._section = sdp.primary_mid(text), 0
        self._trickle()
        return text

    async def set_answer(self, answer: str) -> None:
        """Take the peer's answer; of what it refuses nothing is sent, while the rest goes on.

        Raises:
            NoCommonCodec: The peer takes nothing, not the video either.
            InvalidSDP: The answer cannot be used.
        """
        self._assert_open()
        ours = self._connection.localDescription
        if ours is None:
            raise InvalidSDP("the answer cannot be used: nothing was offered")
        remote = sdp.read_answer(answer, ours.sdp, self._level)
        await self._apply(remote, "answer")
        for section in remote.refused:
            if self._is_news(section):
                self._faults.warn(logger, "a peer does not take %s: it gets the rest", section)
            if section.is_data:
                self._connection.leave_channels()
        await self._take_description(remote)

    # The side that answers

    async def answer(self, offer: str, taken: Collection[str] | None = None, *, whole: bool = False) -> str:
        """Take the peer's offer, and make the answer to it.

        Data channels are open both ways. What was added is sent on the first sections of its kind. What is neither sent
        nor received is agreed to all the same, but nothing goes over it.

        Args:
            offer: The peer's.
            taken: The media sections to receive, beside those that are received already; None for the first video
                alone.
            whole: Whether the peer offers nothing more later: then its first sound is received, too.

        Raises:
            NoCommonCodec: The peer offers none of our codecs.
            InvalidSDP: The offer cannot be used.
            NoCandidates: There is nothing to connect from.
        """
        remote = sdp.read_offer(offer, self._level if self._senders else 0)
        await self._apply(remote, "offer")
        wanted = (remote.video, remote.audio if whole else None) if taken is None else taken
        sent = set(self._senders.values())
        for transceiver in self._connection.getTransceivers():
            ice = self._adopt(transceiver.receiver.transport)
            if transceiver in sent:
                if transceiver.mid is None:
                    seams.leave_out(transceiver)
                continue
            if not _is_ours(transceiver) and transceiver.mid in wanted:
                self._receive(transceiver, ice)
            transceiver.direction = "recvonly" if _is_ours(transceiver) else "inactive"
        self._adopt_channels()
        is_first = self._remote is None
        if is_first:
            await self._take_description(remote)
        try:
            text = await self._describe()
        except ValueError as error:  # what aiortc finds wrong as late as this
            raise InvalidSDP(f"the offer cannot be answered: {error}") from error
        if is_first:
            self._trickle()
        return sdp.write_answer(text, remote)

    async def complete(self, text: str) -> str:
        """Put all candidates into a description that was just made: wait for what servers say, a moment at most."""
        return text if self._ice is None else sdp.put_candidates(text, await self._ice.gathered())

    def _receive(self, transceiver: RTCRtpTransceiver, ice: IceConnection) -> None:
        """Receive what comes on a media section, if somebody is there for it."""
        mid, ssrc = transceiver.mid or "", seams.sender_ssrc(transceiver.sender)
        if transceiver.kind == "audio":
            if self._on_audio is not None:
                track = AudioTrack(mid)
                heard = self._tap_sound and functools.partial(self._tap_sound, mid)
                self._sounds[mid] = AudioReceiver.adopt(transceiver.receiver, ice, ssrc, track, self._faults, heard)
                self._faults.call(self._on_audio, track)
            return
        sink: Sink
        if self._on_encoded is not None:
            sink = functools.partial(self._on_encoded, mid)
        elif self._on_video is not None:
            sink = VideoTrack(mid)
        else:
            return
        seen = self._tap_video and functools.partial(self._tap_video, mid)
        receiver = VideoReceiver.adopt(transceiver.receiver, ice, ssrc, sink, self._max_size, self._faults, seen)
        self._receivers[mid] = receiver
        if isinstance(sink, VideoTrack):
            self._faults.call(self._on_video, sink)

    # Candidates

    async def add_candidate(
        self, candidate: str | None, sdp_mid: str | None = None, sdp_m_line_index: int | None = None
    ) -> None:
        """Take a candidate of the peer; returns at once, whatever has to be looked up.

        Args:
            candidate: As in ``RTCIceCandidate.candidate``; None or nothing when there are no more.
            sdp_mid: The media section that it belongs to; None or nothing where the peer does not say.
            sdp_m_line_index: The index of that section.

        Raises:
            InvalidSDP: It is no candidate.
        """
        parsed = sdp.read_candidate(candidate) if candidate else None
        if self._remote is None or self._ice is None:
            if len(self._early) < MAX_REMOTE_CANDIDATES:
                self._early.append((candidate, sdp_mid, sdp_m_line_index))
            return
        if not self._remote.carries(sdp_mid, sdp_m_line_index):
            return
        if parsed is not None or not candidate:
            await self._ice.add_remote_candidate(parsed)

    def _is_news(self, section: sdp.Section) -> bool:
        """Whether an earlier description had nothing of a media section."""
        return self._remote is None or all(section.mid != known.mid for known in self._remote.sections)

    async def _take_description(self, remote: sdp.Remote) -> None:
        """Keep what a description says of the transport, and take its candidates if it is the first."""
        is_first, self._remote = self._remote is None, remote
        if not is_first:
            return
        self._section = remote.mid, remote.line
        for candidate in remote.candidates:
            with contextlib.suppress(InvalidSDP):
                await self.add_candidate(candidate, remote.mid, remote.line)
        early, self._early = self._early, []
        for arguments in early:
            await self.add_candidate(*arguments)

    # Both sides

    def request_keyframe(self, mid: str | None = None) -> None:
        """Ask the peer for a keyframe, for somebody who needs one: lost pictures are asked for without it.

        Args:
            mid: The media section of the video; None for all videos.
        """
        for section, receiver in self._receivers.items():
            if mid in {None, section}:
                receiver.request_keyframe()

    async def answers(self) -> bool:
        """Ask the peer whether it is there; False where it says nothing for a little more than half a second."""
        return self._ice is not None and await self._ice.answers()

    def stats(self) -> Stats:
        """Count what was sent and received so far."""
        pair = self._ice.selected_pair if self._ice is not None else None
        videos = [layer for sender in self.senders for layer in (sender, *sender.smaller)]
        senders = [*videos, *(sender for sender in self._senders if isinstance(sender, AudioSender))]
        sender = next(iter(videos), None)
        rtt = sender.rtt if sender is not None else None
        now = clock.monotonic()
        receivers, sounds = self._receivers.values(), self._sounds.values()
        return Stats(
            packets_sent=sum(sender.packets for sender in senders),
            bytes_sent=sum(sender.octets for sender in senders),
            retransmits=sum(sender.retransmits for sender in videos),
            frames_sent=sum(sender.frames for sender in videos),
            frames_dropped=sum(sender.dropped for sender in videos),
            bitrate=sum(sender.rate.media_rate(now) for sender in videos),
            fps=sum(sender.rate.frame_rate(now) for sender in videos),
            packets_received=sum(video.packets for video in receivers) + sum(sound.packets for sound in sounds),
            bytes_received=sum(video.octets for video in receivers) + sum(sound.octets for sound in sounds),
            frames_too_large=sum(receiver.too_large for receiver in receivers),
            rtt=rtt if rtt is not None or self._ice is None else self._ice.rtt,
            loss=sender.loss if sender is not None else None,
            bitrate_limit=sender.bitrate_limit if sender is not None else None,
            bearable=sender.rate.estimate if sender is not None else math.inf,
            local_candidate=pair.local_candidate.type if pair is not None else None,
            remote_candidate=pair.remote_candidate.type if pair is not None else None,
            faults=self._faults.count,
        )

    def write_figures(self) -> None:
        """Note for a trace what :meth:`stats` says, and more."""
        stats, receivers = self.stats(), self._receivers.values()
        self._note(
            Figures(
                packets_sent=stats.packets_sent,
                bytes_sent=stats.bytes_sent,
                retransmits=stats.retransmits,
                frames_sent=stats.frames_sent,
                frames_dropped=stats.frames_dropped,
                bitrate=round(stats.bitrate),
                fps=round(stats.fps, 1),
                bearable=None if math.isinf(stats.bearable) else round(stats.bearable),
                bitrate_limit=stats.bitrate_limit,
                loss=stats.loss,
                rtt=None if stats.rtt is None else round(stats.rtt, 4),
                packets_received=stats.packets_received,
                bytes_received=stats.bytes_received,
                nacks=sum(receiver.nacks for receiver in receivers),
                keyframes_asked=sum(receiver.keyframe_requests for receiver in receivers),
                frames_too_large=stats.frames_too_large,
                decode_errors=sum(receiver.decode_errors for receiver in receivers),
            )
        )

    async def close(self) -> None:
        """Say goodbye and close; the second call and those after it wait for the first."""
        if self._closing is None:
            self._set_state("closed")
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._connection.close()
        if self._ice is not None:
            await self._ice.close()
        self._on_candidate = self._on_state = self._on_reached = self._on_channel = None  # they hold who holds this
        self._on_video = self._on_encoded = self._on_audio = self._tap_video = self._tap_sound = None

    # Inside

    def _adopt(self, transport: RTCDtlsTransport) -> IceConnection:
        """Put our ICE in place of aioice's; there is one transport, as everything is bundled."""
        if self._ice is None:
            plain = seams.ice_connection(transport.transport)
            self._ice = IceConnection(
                ice_controlling=plain.ice_controlling,
                local_username=plain.local_username,
                local_password=plain.local_password,
                servers=self._servers,
                relay_only=self._relay_only,
                on_lost=lambda: self._set_state("failed"),
                network=self._network,
                note=self._note,
            )
            seams.put_ice_connection(transport.transport, self._ice)
            Transport.adopt(transport, self._faults)
        return self._ice

    def _adopt_channels(self) -> None:
        """Put our association in place of aiortc's, if there is one."""
        association = self._connection.sctp
        if association is not None and not isinstance(association, Association):
            self._adopt(association.transport)
            Association.adopt(association, self._give_up, self._faults)

    def _give_up(self, reason: str) -> None:
        self._faults.warn(logger, "a peer is given up: %s", reason)
        self._set_state("failed")

    async def _apply(self, remote: sdp.Remote, kind: str) -> None:
        self._assert_open()
        seams.bundle(self._connection)
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(sdp=remote.text, type=kind))
        except Exception as error:
            self._assert_open()
            raise InvalidSDP(f"the {kind} cannot be used: {error}") from error

    async def _describe(self) -> str:
        """Gather host candidates, and describe our side."""
        self._assert_open()
        try:
            await self._connection.setLocalDescription()
        except InvalidStateError as error:  # its signaling state may have been written over since it was closed
            raise ConnectionLost("the peer connection is closed") from error
        self._assert_open()
        if self._ice is None or not self._ice.local_candidates:
            raise NoCandidates(
                "no TURN server gave an address, and relay_only allows no other"
                if self._relay_only
                else (self._ice and self._ice.trouble) or "this host has no network address to connect from"
            )
        text = self._connection.localDescription.sdp
        return sdp.announce_trickle(text) if self._servers else text

    def _trickle(self) -> None:
        """Have candidates that take longer told, now that the description is out."""
        ice = self._ice
        assert ice is not None  # noqa: S101 - it has gathered what is described

        def publish(candidate: Candidate | None) -> None:
            if candidate is not None:
                mid, line = self._section
                told = {
                    "candidate": f"candidate:{candidate.to_sdp()}",
                    "sdpMid": mid,
                    "sdpMLineIndex": line,
                    "usernameFragment": ice.local_username,
                }
                self._faults.call(self._on_candidate, told)
            elif self._signal_end:
                self._faults.call(self._on_candidate, None)

        ice.trickle(publish)

    def _assert_open(self) -> None:
        if self._connection.signalingState == "closed":
            raise ConnectionLost("the peer connection is closed")

    def _on_connection_state(self) -> None:
        if self._state != "failed":  # aiortc closes what was lost
            self._set_state(self._connection.connectionState)

    def _on_ice_state(self) -> None:
        if self._connection.iceConnectionState == "completed":
            self._faults.call(self._on_reached)

    def _set_state(self, state: str) -> None:
        if state == self._state or self._closing is not None:
            return
        self._state = state
        self._faults.call(self._on_state, state)

    def _on_datachannel(self, channel: RTCDataChannel) -> None:
        self._faults.call(self._on_channel, Channel(channel, faults=self._faults))


def _is_ours(transceiver: RTCRtpTransceiver) -> bool:
    """Whether what comes on it is received by us, and not by aiortc."""
    return isinstance(transceiver.receiver, VideoReceiver | AudioReceiver)
