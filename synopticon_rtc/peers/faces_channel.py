"""Sends the faces of one stream to one peer, in the format that the peer reads."""

import asyncio
import functools
from collections.abc import Callable

from synopticon_rtc.faces.wire import PROTOCOL, FacesMessage, encode, encode_json
from synopticon_rtc.rtc import PeerConnection

BUFFERED = 2048  # bytes: a handful of messages of one face
COPY_AFTER = 0.01  # seconds until faces are sent once more where the link loses packets: what is lost is not asked for
LOSSY = 10.0  # seconds for which it is taken to lose packets after it lost one
JSON_INTERVAL = 1 / 12  # seconds: what the pages that read JSON were made for


class WrittenFaces:
    """A faces message in both formats, each of which is written once, and only if a peer reads it.

    Args:
        message: What is written.
        binary: How peers of this package read it, where it came so.
    """

    def __init__(self, message: FacesMessage, binary: bytes | None = None) -> None:
        self.message = message
        if binary is not None:
            self.binary = binary

    @functools.cached_property
    def binary(self) -> bytes:
        """As peers of this package read it."""
        return encode(self.message)

    @functools.cached_property
    def text(self) -> str:
        """As Synopticon's pages read it, in JSON."""
        return encode_json(self.message)


class FacesChannel:
    """A data channel for faces, that drops rather than queues. Time is any clock in seconds, and passed in.

    Args:
        connection: Over which it runs.
        binary: Whether the peer reads the format of this package. Else it is a page: it gets JSON, a dozen messages a
            second, and only of frames that were looked at.
        label: The label of the channel, for those who read the format of this package.
        head: Gives what each message in that format begins with.
        twice: Whether each is sent twice in any case: further on, links may lose packets of which nobody tells us.

    Attributes:
        channel: What it sends over.
    """

    def __init__(
        self,
        connection: PeerConnection,
        *,
        binary: bool,
        label: str = "faces",
        head: Callable[[], bytes] = bytes,
        twice: bool = False,
    ) -> None:
        self._connection = connection
        self._head = head
        self._twice = twice
        self._binary = binary
        self._due = 0.0  # when a page gets the next message
        self._lossy_until = 0.0
        self.channel = connection.add_channel(
            label if binary else "faceData",
            protocol=PROTOCOL if binary else "",
            ordered=False,
            max_retransmits=0,
            max_buffered=BUFFERED if binary else 0,  # what waits for long is stale by the time that it goes
        )

    def send(self, faces: WrittenFaces, now: float) -> None:
        """Send what was found in a frame, or that it was not looked at."""
        if not self.channel.is_open:
            return
        if self._binary:
            data = self._head() + faces.binary
            self.channel.send(data)
            if self._twice or self._loses(now):
                asyncio.get_running_loop().call_later(COPY_AFTER, self.channel.send, data)
        elif faces.message.detected and now >= self._due:
            self._due = max(self._due, now - JSON_INTERVAL) + JSON_INTERVAL  # on average, at any frame rate
            self.channel.send(faces.text)

    def close(self) -> None:
        """Send nothing more."""
        self.channel.close()

    def _loses(self, now: float) -> bool:
        """Whether packets were lost on the way of late, by what the peer reports of its video."""
        if any(sender.loss for sender in self._connection.senders):
            self._lossy_until = now + LOSSY
        return now < self._lossy_until
