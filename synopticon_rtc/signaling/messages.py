"""The messages of Synopticon's signaling protocol, typed, in one place.

Each is a JSON object told by its ``type``. Keys that are not named here are ignored when read, as every server passes
them on; keys that a browser page may leave out, or fill with anything, are read leniently.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

from synopticon_rtc.basics.text import WORDS, visible
from synopticon_rtc.errors import InvalidMessage

_ORIGIN = re.compile(r"^o=\S+ (\S+) ", re.MULTILINE), re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)
LARGEST = 2**18  # bytes that are read; servers pass on up to 16 MiB, of which no description or list has the need
ROOM_LENGTH = 100  # characters of the name of a room
NAME_LENGTH = 100  # characters of a broadcaster's name that a server keeps, and tells others

Session = Annotated[str, msgspec.Meta(max_length=128, pattern=r"^[^\x00-\x20\x7f]*\Z")]
RELAYED = frozenset({"webrtc_seek_broadcaster", "request_offer", "webrtc_offer", "webrtc_answer", "webrtc_ice"})


class SessionDescription(msgspec.Struct, frozen=True):
    """What ``RTCSessionDescription.toJSON`` gives (W3C WebRTC 4.6)."""

    type: Literal["offer", "answer"]
    sdp: str

    @property
    def origin(self) -> tuple[str, ...]:
        """What stays the same in all that one peer connection describes until it restarts ICE.

        That is the id of its session (``o=``, RFC 8866 5.2) and its ICE ufrag (RFC 8839 5.4); where either is missing,
        the whole text.
        """
        found = [pattern.search(self.sdp) for pattern in _ORIGIN]
        return tuple(match[1] for match in found if match) if all(found) else (self.sdp,)


class Candidate(msgspec.Struct, frozen=True, rename="camel"):
    """What ``RTCIceCandidate.toJSON`` gives (W3C WebRTC 4.8); an empty ``candidate`` ends the candidates."""

    candidate: str
    sdp_mid: str | None = None
    sdp_m_line_index: int | None = msgspec.field(default=None, name="sdpMLineIndex")
    username_fragment: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", omit_defaults=True):
    """Base of all messages."""

    timestamp: Any = None


class Relayed(Message, frozen=True, kw_only=True):
    """A message from peer to peer.

    ``source_session`` is stamped by the server and alone tells who sent; ``device_id`` is written for pages that expect
    it. ``accept`` says, by kind, which formats the sender can read beyond what the pages read:
    ``{"faces": ["faces/1", "json"]}``.
    """

    source_session: Session = ""
    target_session: Any = None
    device_id: Any = None
    name: Any = None
    accept: Any = None

    def accepts(self, kind: str, what: str) -> bool:
        """Whether the sender declared that it can read format ``what`` of ``kind``."""
        formats = self.accept.get(kind) if isinstance(self.accept, dict) else None
        return isinstance(formats, list) and what in formats

    def refuses(self, kind: str) -> bool:
        """Whether the sender declared that it can read no format of ``kind``; one that says nothing can."""
        return isinstance(self.accept, dict) and self.accept.get(kind) == []

    @property
    def is_turned(self) -> bool:
        """Whether it is about an offer of whoever receives, which the other end answers, as with WHEP."""
        return self.accepts("offers", "receiving")

    @property
    def is_whole(self) -> bool:
        """Whether it is about an offer of all that there will ever be, as with WHIP: nothing is added later."""
        return self.accepts("offers", "whole")

    def takes(self, stream: str) -> bool:
        """Whether the sender wants the stream of this name; one that names none wants all."""
        names = self.accept.get("take") if isinstance(self.accept, dict) else None
        return not isinstance(names, list) or stream in names


class Discovery(Relayed, frozen=True):
    """A receiver looks for broadcasters.

    ``want`` is the name or session of the one broadcaster that is meant, ``unwanted`` lists the sessions of those that
    are not; broadcasters that do not know these keys answer all the same.
    """

    want: Any = None
    unwanted: Any = None


class Seek(Discovery, frozen=True, tag="webrtc_seek_broadcaster"):
    """Discovery, unknown to Synopticon 0.6.2."""


class RequestOffer(Discovery, frozen=True, tag="request_offer"):
    """Discovery, the older way."""


class Offer(Relayed, frozen=True, kw_only=True, tag="webrtc_offer"):
    """A broadcaster's session description."""

    sdp: SessionDescription


class Answer(Relayed, frozen=True, kw_only=True, tag="webrtc_answer"):
    """A receiver's session description."""

    sdp: SessionDescription


class Ice(Relayed, frozen=True, tag="webrtc_ice"):
    """One candidate, or None for the end of candidates.

    Three keys go only to peers that accept them: ``more`` holds the candidates that came together with this one,
    ``bye`` says that the sender has let the connection go, and why, and ``refused`` beside it that a broadcaster serves
    this session no more.
    """

    candidate: Candidate | None = None
    more: list[Candidate] = []
    bye: Any = None
    refused: Any = None


class Connected(Message, frozen=True, kw_only=True, tag="connected"):
    """The server's welcome.

    ``ice_servers`` holds objects like W3C's RTCIceServer (WebRTC 4.2.2), if it names any; their credentials hold for
    ``ice_servers_ttl`` seconds.
    """

    session_id: Session
    ice_servers: Any = None
    ice_servers_ttl: Any = None


class Requirements(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who a client is, and what it wants to be told; servers that do not know these keys ignore them.

    ``role`` holds "broadcast", "receive" or both. ``tell`` may hold "peers" (:class:`PeerLeft`, :class:`Draining`),
    "errors" (:class:`Error` with codes), "broadcasters" (their list, and news of them) and "ice" (ICE servers with
    fresh credentials).
    """

    role: tuple[str, ...]
    tell: tuple[str, ...]
    name: str = ""


class Configure(Message, frozen=True, kw_only=True, tag="configure"):
    """Ask the server to confirm the session, and say who is there."""

    requirements: Requirements


class Configured(Message, frozen=True, kw_only=True, tag="configured"):
    """The answer to :class:`Configure`; ``tells`` is what of ``tell`` the server will tell."""

    session_id: Session
    tells: Any = None
    ice_servers: Any = None
    ice_servers_ttl: Any = None


class PeerLeft(Message, frozen=True, kw_only=True, tag="peer_left"):
    """A session that exchanged messages with ours has ended; its media may play on."""

    session: Session
    reason: Any = "it did not say why"


class Present(msgspec.Struct, frozen=True):
    """A broadcaster in the room."""

    session: Session
    name: Any = None


class Broadcasters(Message, frozen=True, kw_only=True, tag="broadcasters"):
    """All broadcasters of the room that ours may connect to; those that did not say that they are one are missing."""

    broadcasters: list[Present]


class BroadcasterAvailable(Message, frozen=True, kw_only=True, tag="broadcaster_available"):
    """One more broadcaster is in the room, or one has changed its name."""

    session: Session
    name: Any = None


class BroadcasterGone(Message, frozen=True, kw_only=True, tag="broadcaster_gone"):
    """A broadcaster of the room is none any more."""

    session: Session


class Draining(Message, frozen=True, tag="draining"):
    """The server takes no new sessions, and ends this one in so many ``seconds``."""

    seconds: Any = None


class Ping(Message, frozen=True, tag="ping"):
    """Feeds the session's idle clock."""


class Pong(Message, frozen=True, tag="pong"):
    """The answer to :class:`Ping`."""

    client_timestamp: Any = None


class Status(Message, frozen=True, tag="status"):
    """The state of the server and of the session."""

    server: Any = None
    session: Any = None


class Error(Message, frozen=True, tag="error"):
    """The server did not take a message.

    To those that ask for it, ``error_code`` says why: "target_not_found", "not_allowed" or "rate_limited"; and
    ``target_session`` for whom the message was, or ``role`` which of the roles that the client configured is meant.
    "name_taken" is said of a configured name; ``target_session`` then is the other broadcaster that has it.
    """

    error: str = ""
    error_code: Any = None
    target_session: Any = None
    role: Any = None


AnyRelayed = Seek | RequestOffer | Offer | Answer | Ice
News = PeerLeft | Broadcasters | BroadcasterAvailable | BroadcasterGone | Draining
AnyMessage = AnyRelayed | News | Connected | Configure | Configured | Ping | Pong | Status | Error
_decoder: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)


def one_line(text: object) -> str:
    """Make a short line of what somebody else wrote, fit for a log and a screen; empty if it is no text."""
    return visible(text.strip(), WORDS) if isinstance(text, str) else ""


def decode(data: str | bytes) -> AnyMessage:
    """Read one message as it came from a server.

    Raises:
        InvalidMessage: It is no JSON object, of no known type, or a key that matters has the wrong form.
    """
    if len(data) > LARGEST:
        raise InvalidMessage(f"signaling message dropped: it is longer than {LARGEST} bytes")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidMessage(f"signaling message dropped: {one_line(str(error))} in {data[:80]!r}") from error


def encode(message: Message) -> str:
    """Write one message as a server expects it."""
    return msgspec.json.encode(message).decode()
