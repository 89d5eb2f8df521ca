from .basics.version import __version__
from .broadcaster import Broadcaster
from .errors import SynopticonError
from .events import (
    DetectorEvent,
    ParticipantEvent,
    PeerEvent,
    RecordingEvent,
    SourceEvent,
    StateEvent,
    StreamEvent,
)
from .faces import Detector, Face, FaceLandmarker, draw_faces
from .faces.moment import Moment
from .files.incoming import FileOffer
from .files.transfer import FileProgress, FileTransfer
from .media import Camera, FrameSource, Microphone, Portrait, Screen, TestPattern, Tone, VideoFile
from .peers.messages import Message
from .receiver import Receiver
from .receiving.latency import Delays
from .receiving.received import ReceivedStream
from .receiving.sound import AudioMoment
from .receiving.stats import ReceiverStats
from .recording.lsl import LSLOutlet
from .recording.recorder import Recorder
from .recording.recording import Recording
from .relaying import Relay
from .room import Participant, ParticipantMoment, Room
from .rtc import EncodedVideoFrame, IceServer
from .sending.admission import Visitor
from .sending.published import PublishedStream
from .sending.stats import BroadcasterStats
from .signaling import SignalingClient, SignalingServer

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
    "FileOffer",
    "FileProgress",
    "FileTransfer",
    "FrameSource",
    "IceServer",
    "LSLOutlet",
    "Message",
    "Microphone",
    "Moment",
    "Participant",
    "ParticipantEvent",
    "ParticipantMoment",
    "PeerEvent",
    "Portrait",
    "PublishedStream",
    "ReceivedStream",
    "Receiver",
    "ReceiverStats",
    "Recorder",
    "Recording",
    "RecordingEvent",
    "Relay",
    "Room",
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
    "__version__",
    "draw_faces",
]
