"""Sends the faces of one stream to one peer inside its video, past all that may be in between."""

from collections import deque
from collections.abc import Iterator

from synopticon_rtc.faces.wire import restamp
from synopticon_rtc.peers.faces_channel import FacesChannel, WrittenFaces
from synopticon_rtc.rtc import EncodedVideoFrame, FanoutSender, sei

INSIDE = "sei"  # what says of faces that they are read so, beside the name of the format in channels
WAITING = 4  # messages that wait for the next frame; of more, the oldest are left out
AGO = 4  # bytes that say how much older their frame is than the one that carries them


class FacesBeside:
    """Has faces travel in the SEI of H.264, with a frame that comes soon after their own (docs/whip.md).

    Before each message stands how many RTP ticks ago its frame was, counted from the one that carries it. Servers in
    between that rewrite RTP timestamps shift all by the same, so this stays true.

    Args:
        sender: Of the video; where it sends another codec, no faces are sent.
    """

    def __init__(self, sender: FanoutSender) -> None:
        self._waiting: deque[WrittenFaces] = deque(maxlen=WAITING)
        self._sender = sender
        sender.beside = self._take

    def send(self, faces: WrittenFaces, now: float) -> None:  # noqa: ARG002 - as every way for faces is called
        """Send what was found in a frame, or that it was not looked at, with the next frame."""
        self._waiting.append(faces)

    def close(self) -> None:
        """Send nothing more."""
        self._sender.beside = None

    def _take(self, timestamp: int) -> list[bytes]:
        units = []
        while self._waiting:
            faces = self._waiting.popleft()
            ago = (timestamp - (faces.message.rtp_timestamp or 0)) % 2**32
            if len(faces.binary) <= sei.MOST:
                units.append(sei.write(ago.to_bytes(AGO, "big") + faces.binary))
        return units


def read(frame: EncodedVideoFrame) -> Iterator[bytes]:
    """Give the messages of ``faces/1`` that travel with a frame, each with the RTP timestamp of its own."""
    for data in sei.read(frame.data):
        ago = int.from_bytes(data[:AGO], "big")
        yield restamp(data[AGO:], (frame.rtp_timestamp - ago) % 2**32)


class FacesBoth:
    """Has faces travel inside the video and over a channel."""

    def __init__(self, *ways: FacesBeside | FacesChannel) -> None:
        self._ways = ways

    def send(self, faces: WrittenFaces, now: float) -> None:
        """Send what was found in a frame, or that it was not looked at."""
        for way in self._ways:
            way.send(faces, now)

    def close(self) -> None:
        """Send nothing more."""
        for way in self._ways:
            way.close()
