"""What is published, and the descriptions that carry it, as both ends tell each other over the control channel.

The broadcaster alone offers. It numbers its offers, and takes no answer but that to its newest: so an offer that is no
longer wanted is simply followed by another one. A stream is sent on one media section, and only once the receiver has
agreed to that section; what is muted, or published no more, keeps its section, on which nothing is sent.
"""

from typing import Annotated, Literal, get_args

import msgspec

from synopticon_rtc.basics.text import is_unicode
from synopticon_rtc.signaling.messages import Offer

PROTOCOL = "streams/1"
MAX_STREAMS = 7
"""Streams of one broadcaster: as many as a peer takes media sections, beside that of the data channels."""
MAX_LAYERS = 3
"""Layers of a video that an engine is sent, as many as Janus takes."""
MAX_NAME = 64
"""Characters of the name of a stream."""
MAX_DETECTOR = 128
"""Characters of what is said of a detector."""
MAX_RELAYS = 16
"""Relays one behind the other, of which is told."""
MAX_RELAY = 128
"""Characters of what one of them is called."""
MAX_DESCRIPTION = 60_000
"""Characters of a session description: it is one message."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Kind = Literal["video", "audio"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Description = Annotated[str, msgspec.Meta(max_length=MAX_DESCRIPTION)]


def check_name(name: object) -> None:
    """Refuse a name that no stream can have.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not is_unicode(name):
        raise ValueError(f"the name of a stream must be a text of 1 to {MAX_NAME} characters, not {name!r:.100}")


class Published(msgspec.Struct, frozen=True):
    """A stream as its broadcaster tells of it.

    Attributes:
        name: By which it is known; no other stream of its broadcaster has it.
        kind: ``video`` or ``audio``; what is neither is of a later version, and not taken.
        hint: What it shows or sounds like: ``camera``, ``screen``, ``microphone``, or what else an application says.
        mid: The media section that it is sent on; None where it is not sent to this peer (yet).
        muted: Whether nothing is sent of it for now.
        faces: Whether faces are looked for in it, and sent on a data channel.
        replaced: How often its source was replaced by another.
        detector: What looks for the faces, in words for people; empty where nobody does.
        bitrate: Of a video in full size, bit/s; 0 where nobody says.
        layers: What each layer takes, bit/s, the smallest first, where an engine is sent several.
    """

    name: Name
    kind: Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
    hint: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    mid: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] | None = None
    muted: bool = False
    faces: bool = False
    replaced: _Number = 0
    detector: Annotated[str, msgspec.Meta(max_length=MAX_DETECTOR)] = ""
    bitrate: _Number = 0
    layers: Annotated[tuple[_Number, ...], msgspec.Meta(max_length=MAX_LAYERS)] = ()


_Listed = Annotated[list[Published], msgspec.Meta(max_length=MAX_STREAMS)]


class Streams(msgspec.Struct, tag="streams", frozen=True):
    """All that is published: sent when the channel opens, and whenever it changes.

    Attributes:
        streams: In the order in which they were published.
    """

    streams: _Listed


class NewOffer(msgspec.Struct, tag="offer", frozen=True):
    """A description of the connection with what is to be added to it.

    Attributes:
        number: Higher than that of every offer before it.
        sdp: The offer.
        streams: What is published, with the sections that they have in it.
    """

    number: _Number
    sdp: _Description
    streams: _Listed


class FullOffer(Offer, frozen=True, kw_only=True, tag="webrtc_offer"):
    """The first offer of a connection, where it carries all that there is: as engines make it.

    Attributes:
        streams: What is published, with the sections that it has in the offer.
        channel: The label of the data channel over which its faces come, opened by the receiver; None where none do.
    """

    streams: list[Published]
    channel: str | None = None


class NewAnswer(msgspec.Struct, tag="answer", frozen=True):
    """The answer to an offer.

    Attributes:
        number: That of the offer.
        sdp: The answer; a section is refused where the receiver does not take it.
    """

    number: _Number
    sdp: _Description


class Refusal(msgspec.Struct, tag="refusal", frozen=True):
    """Told in place of an answer where the offer cannot be used at all; what there is goes on.

    Attributes:
        number: That of the offer.
        reason: Why, in words.
    """

    number: _Number
    reason: Annotated[str, msgspec.Meta(max_length=512)]


class Limit(msgspec.Struct, tag="limit", frozen=True):
    """Told by a receiver that wants less of a video than its link bears.

    Attributes:
        stream: The name of the video.
        bitrate: What it wants at most, bit/s; None for all that the link bears.
    """

    stream: Name
    bitrate: Annotated[int, msgspec.Meta(ge=1, lt=2**31)] | None = None


class Relays(msgspec.Struct, tag="relays", frozen=True):
    """Told by a broadcaster whose streams are another one's, and again and again, as its own way to them may change.

    Attributes:
        relays: Who passes them on, from the first one to this one.
    """

    relays: Annotated[list[Annotated[str, msgspec.Meta(max_length=MAX_RELAY)]], msgspec.Meta(max_length=MAX_RELAYS)]


Told = Streams | NewOffer | NewAnswer | Refusal | Limit | Relays
"""What goes over the control channel about streams."""
