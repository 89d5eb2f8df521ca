"""What a handshake has its driver do."""

from dataclasses import dataclass
from typing import Literal

from synopticon_rtc.signaling.messages import Candidate, Discovery, Offer, Relayed

State = Literal["seeking", "connecting", "connected", "interrupted", "refused", "closed"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message to the signaling server.

    Attributes:
        message: Complete, with its receiver where it is for one alone.
    """

    message: Relayed


@dataclass(frozen=True, slots=True)
class CreateOffer:
    """Open a peer connection for ``link`` and hand its offer to ``described``.

    Attributes:
        link: The new link.
        session: Of the receiver; of the broadcaster, where that wants the receiver to offer.
        asked: What it asked for, and what it can read.
    """

    link: int
    session: str
    asked: Discovery


@dataclass(frozen=True, slots=True)
class CreateAnswer:
    """Open a peer connection for ``link``, apply the offer, and hand the answer to ``described``.

    Attributes:
        link: The new link.
        session: Of the broadcaster; of the receiver, where that offers.
        asked: Its offer.
    """

    link: int
    session: str
    asked: Offer


@dataclass(frozen=True, slots=True)
class ApplyAnswer:
    """Apply the peer's answer.

    Attributes:
        link: Whose offer was answered.
        sdp: The answer.
    """

    link: int
    sdp: str


@dataclass(frozen=True, slots=True)
class AddCandidate:
    """Add a candidate of the peer, or None for the end of its candidates; it may come before the description.

    Attributes:
        link: Whose peer can perhaps be reached there.
        candidate: Where.
    """

    link: int
    candidate: Candidate | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the peer connection of ``link``.

    Attributes:
        link: Which is known no more.
        reason: Why, in words for people; some are the peer's own.
    """

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the application.

    Attributes:
        state: Of the peer, or of a receiver itself.
        session: The peer's, empty where there is none.
        reason: Why, in words for people; some are others' own.
        name: What the peer calls itself, for which nobody vouches; empty where it gives no name.
    """

    state: State
    session: str
    reason: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the application whether a receiver may watch, and hand what it says to ``judged``.

    Attributes:
        session: Of the receiver.
        name: What it calls itself, for which nobody vouches; empty where it gives no name.
    """

    session: str
    name: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Ask the application no more: that receiver has left, or is refused already.

    Attributes:
        session: Of the receiver.
    """

    session: str


@dataclass(frozen=True, slots=True)
class Check:
    """See at once whether the peer is still there, and if not, say so by ``lost``.

    Attributes:
        link: Whose peer is to be asked.
        reason: What is to be said by ``lost``.
    """

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell the application that the server does not let it take part.

    Attributes:
        reason: Why, in words for people.
    """

    reason: str


Wish = Discovery | Offer
"""What a receiver asks by: for an offer or, with one of its own, for an answer."""
Action = Send | CreateOffer | CreateAnswer | ApplyAnswer | AddCandidate | Close | Notify | Ask | Withdraw | Check | Fail
