"""The only code that knows aiortc's insides: peer connections, fan-out of one stream, trickled ICE, RTP timestamps."""

from synopticon_rtc.rtc.assembly import EncodedVideoFrame
from synopticon_rtc.rtc.audio_sender import AudioSender
from synopticon_rtc.rtc.audio_stream import AudioStream
from synopticon_rtc.rtc.audio_track import AudioTrack, EncodedSound, ReceivedSound
from synopticon_rtc.rtc.bitstream import MAX_SIZE
from synopticon_rtc.rtc.channel import Channel
from synopticon_rtc.rtc.decoder import Received
from synopticon_rtc.rtc.peer import PeerConnection, Sender, Stats
from synopticon_rtc.rtc.sender import FanoutSender
from synopticon_rtc.rtc.servers import IceServer
from synopticon_rtc.rtc.stream import Codec, VideoStream
from synopticon_rtc.rtc.track import VideoTrack

__all__ = [
    "MAX_SIZE",
    "AudioSender",
    "AudioStream",
    "AudioTrack",
    "Channel",
    "Codec",
    "EncodedSound",
    "EncodedVideoFrame",
    "FanoutSender",
    "IceServer",
    "PeerConnection",
    "Received",
    "ReceivedSound",
    "Sender",
    "Stats",
    "VideoStream",
    "VideoTrack",
]
