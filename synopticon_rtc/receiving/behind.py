"""What comes through an engine beside the media, and is given to the streams that it is about."""

from collections import defaultdict, deque
from collections.abc import Callable

import msgspec

from synopticon_rtc.peers import marked
from synopticon_rtc.peers.control import Report
from synopticon_rtc.peers.published import FullOffer, Published, Streams
from synopticon_rtc.receiving.shift import Shift
from synopticon_rtc.receiving.stream import Stream
from synopticon_rtc.rtc import EncodedVideoFrame, PeerConnection
from synopticon_rtc.rtc.bitstream import picture_size
from synopticon_rtc.rtc.fingerprint import fingerprint

WAITING = 64
"""Messages of a stream that wait until it is known how its timestamps were moved."""
RECENT = 16
"""Faces messages that are remembered, to know a copy."""
_decoder = msgspec.json.Decoder(Report | Streams)


class Behind:
    """Reads the one data channel of an engine, and gives faces the timestamps that their frames have here.

    Args:
        find: Gives the video of a name.
        listed: Called when what is published has changed, with all of it.
        offer: Of the engine, which says what is published at first, and on which media sections it comes.
    """

    def __init__(
        self,
        find: Callable[[str], Stream | None],
        listed: Callable[[list[Published]], None],
        offer: FullOffer,
    ) -> None:
        self._find = find
        self._listed = listed
        self._label = offer.channel
        self._published = offer.streams
        self._sections = {stream.name: stream.mid for stream in offer.streams}
        self._names = {stream.mid: stream.name for stream in offer.streams}
        self._shifts: dict[str, Shift] = defaultdict(Shift)
        self._sizes: dict[str, tuple[int, int] | None] = {}  # of the newest keyframe, by the name of its stream
        self._recent: deque[bytes] = deque(maxlen=RECENT)
        self._waiting: dict[str, deque[bytes | Report]] = defaultdict(lambda: deque(maxlen=WAITING))

    def open(self, connection: PeerConnection) -> None:
        """Open the channel, once there is a connection: Janus sends nothing on others, and on this as it was opened."""
        if self._label is not None:
            channel = connection.add_channel(self._label, ordered=False, max_retransmits=0)
            channel.on_message = self.message

    def frame(self, mid: str, frame: EncodedVideoFrame) -> None:
        """Take note of a frame that came on a media section."""
        if name := self._names.get(mid):
            size = picture_size(frame)
            if size not in {None, self._sizes.setdefault(name, size)}:
                self._sizes[name] = size  # of another layer, whose timestamps Janus moves by another amount
                self._shifts[name].begin_anew()
                if stream := self._find(name):
                    stream.begin_anew()
            self._shifts[name].frame(frame.rtp_timestamp, fingerprint(frame.data))
            self._give(name)

    def message(self, data: str | bytes) -> None:
        """Take a message of the channel."""
        if isinstance(data, str):
            self._read(data)
        elif (message := marked.decode(data)) is not None and message.stream in self._sections:
            if message.fingerprint:
                self._shifts[message.stream].mark(message.timestamp, message.fingerprint)
            if message.faces and message.faces not in self._recent:  # each comes twice
                self._recent.append(message.faces)
                self._waiting[message.stream].append(message.faces)
            self._give(message.stream)

    def layer(self, name: str, bitrate: float) -> tuple[str, int] | None:
        """Return the media section of a video, and its largest layer that takes at most so many bit/s, or the smallest.

        None where it does not come in layers.
        """
        stream = next((stream for stream in self._published if stream.name == name), None)
        if stream is None or stream.mid is None or not stream.layers:
            return None
        return stream.mid, max(sum(layer <= bitrate for layer in stream.layers) - 1, 0)

    def _read(self, data: str) -> None:
        try:
            message = _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):  # also of a later version
            return
        if isinstance(message, Report):
            if message.stream is not None and message.stream in self._sections:
                self._waiting[message.stream].append(message)
                self._give(message.stream)
            return
        # What is new comes with another connection; and the sections are those of this end.
        known = [stream for stream in message.streams if stream.name in self._sections]
        listed = [msgspec.structs.replace(stream, mid=self._sections[stream.name]) for stream in known]
        if listed != self._published:
            self._published = listed
            self._listed(listed)

    def _give(self, name: str) -> None:
        """Give a stream what waits for it, once it is known how its timestamps were moved."""
        shift, waiting = self._shifts[name], self._waiting[name]
        stream = self._find(name)
        if stream is None or shift.value is None:
            return
        stream.shift = shift.value
        while waiting:
            message = waiting.popleft()
            if isinstance(message, Report):
                moved = shift.apply(message.rtp_timestamp)
                stream.reported(msgspec.structs.replace(message, rtp_timestamp=moved))
            else:
                stream.message(message)
