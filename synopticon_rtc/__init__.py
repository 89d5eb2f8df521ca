"""Real-time face streaming over WebRTC: video on a track, face landmarks on a data channel beside it."""

from synopticon_rtc.broadcaster import Broadcaster
from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.events import DetectorEvent, PeerEvent, RecordingEvent, SourceEvent, StateEvent, StreamEvent
from synopticon_rtc.faces import Detector, Face, FaceLandmarker, draw_faces
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.media import Camera, FrameSource, Microphone, Portrait, Screen, TestPattern, Tone, VideoFile
from synopticon_rtc.peers.messages import Message
from synopticon_rtc.receiver import Receiver
from synopticon_rtc.receiving.latency import Delays
from synopticon_rtc.receiving.received import ReceivedStream
from synopticon_rtc.receiving.sound import AudioMoment
from synopticon_rtc.receiving.stats import ReceiverStats
from synopticon_rtc.recording.lsl import LSLOutlet
from synopticon_rtc.recording.recorder import Recorder
from synopticon_rtc.recording.recording import Recording
from synopticon_rtc.rtc import EncodedVideoFrame, IceServer
from synopticon_rtc.sending.admission import Visitor
from synopticon_rtc.sending.published import PublishedStream
from synopticon_rtc.sending.stats import BroadcasterStats
from synopticon_rtc.signaling import SignalingClient, SignalingServer

__all__ = [
    "AudioMoment",
    "Broadcaster",
    "BroadcasterStats",
    "Camera",
    "Delays",
    "Detector",
    "DetectorEvent",
    "EncodedVideoFrame",
    "Face",
    "FaceLandmarker",
    "FrameSource",
    "IceServer",
    "LSLOutlet",
    "Message",
    "Microphone",
    "Moment",
    "PeerEvent",
    "Portrait",
    "PublishedStream",
    "ReceivedStream",
    "Receiver",
    "ReceiverStats",
    "Recorder",
    "Recording",
    "RecordingEvent",
    "Screen",
    "SignalingClient",
    "SignalingServer",
    "SourceEvent",
    "StateEvent",
    "StreamEvent",
    "SynopticonError",
    "TestPattern",
    "Tone",
    "VideoFile",
    "Visitor",
    "draw_faces",
]
