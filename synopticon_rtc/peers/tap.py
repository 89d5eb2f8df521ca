"""What is told of streams as they were encoded, to those who record them, at either end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.peers.published import Kind
from synopticon_rtc.rtc import EncodedSound, EncodedVideoFrame


class Tapped(Protocol):
    """A stream of which is told; the same object each time. It gets its name when that is known."""

    name: str
    kind: Kind
    hint: str

    @property
    def detector(self) -> str:
        """What looks for its faces, in words for people; empty where nobody does."""
        ...  # pragma: no cover

    @property
    def muted(self) -> bool:
        """Whether nothing comes of it for now."""
        ...  # pragma: no cover


class Tap(Protocol):
    """Who is told. It is called on the event loop, and does not take long."""

    def video(self, stream: Tapped, frame: EncodedVideoFrame, captured: float | None) -> None:
        """Take a frame: each that is complete, in order.

        Args:
            stream: To which it belongs.
            frame: It, from the encoder.
            captured: When it was captured, seconds since the epoch on the broadcaster's clock; None where it did not
                tell yet.
        """

    def faces(self, stream: Tapped, message: FacesMessage, written: bytes | None) -> None:
        """Take what was found in a frame, or that it was not looked at, before or after the frame itself.

        Args:
            stream: To which the frame belongs.
            message: It.
            written: The same in ``faces/1``, where it came so.
        """

    def sound(self, stream: Tapped, packet: EncodedSound) -> None:
        """Take a packet of sound: each that was in time, in order."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where streams come from.

    Attributes:
        name: Of the broadcaster, for people; empty where it has none.
        session: Its signaling session.
        offset: Its clock minus ours, seconds; None while that is not known.
    """

    name: str
    session: str
    offset: float | None


class Tappable(Protocol):
    """What can be recorded: a receiver, and a broadcaster."""

    @property
    def tapped(self) -> Sequence[Tapped]:
        """What is published, and taken: the streams of which a tap is told."""
        ...  # pragma: no cover

    @property
    def origin(self) -> Origin:
        """Where it comes from."""
        ...  # pragma: no cover

    def tap(self, tap: Tap) -> Callable[[], None]:
        """Tell somebody of all that comes or goes, until what is returned is called."""
        ...  # pragma: no cover

    def request_keyframe(self) -> None:
        """Have a keyframe of each video come soon."""
