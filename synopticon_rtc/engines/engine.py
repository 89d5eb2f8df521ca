"""What all engines have in common: each takes the place of a signaling server."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from synopticon_rtc.faces.wire import PROTOCOL as FACES
from synopticon_rtc.peers.published import PROTOCOL, Published
from synopticon_rtc.signaling.messages import Seek
from synopticon_rtc.signaling.session import Signaling


class Engine(Signaling):
    """The way to an engine, in the place of a signaling server.

    A broadcaster sees the engine as one receiver, whose session is the engine's address. It asks once there is a way
    (:meth:`_ask`); :meth:`send` is given the offer, with all that is published in it, candidates of ours, and a goodbye
    (``Ice.bye``) when the connection ends, after which the engine asks anew. It hands round (``_hand_round``) the
    answer, candidates of its own, and a goodbye where it ends the connection. What is published in addition makes the
    broadcaster say goodbye and wait to be asked, as no engine takes a further offer for certain.

    A receiver sees each broadcaster that the engine knows as one of its own: it asks with a ``Seek``, which names whom
    it wants, and is handed the offer.

    The offer is repeated while nobody has answered: what has the ``origin`` of one that is worked on is left out.

    Attributes:
        faces: How the faces of what is published get through it: over a data channel beside all else, inside the video,
            or not at all.
        simulcast: Whether it is sent smaller layers of each video, too, from which it gives each receiver one.
        published: Gives what is published, with the media sections that it is offered on; set by who publishes.
    """

    faces: ClassVar[Literal["channel", "video", "none"]] = "none"

    simulcast = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.published: Callable[[], Sequence[Published]] = tuple

    def choose(self, session: str, mid: str, layer: int) -> None:
        """Have a layer of a video sent to us, where there are several.

        Args:
            session: Of its broadcaster.
            mid: Its media section.
            layer: Counted from the smallest.
        """

    def _ask(self) -> None:
        """Have the broadcasters that listen here make an offer of all that they publish."""
        accept = {"faces": [FACES], "streams": [PROTOCOL], "bye": ["words"], "ice": ["more"]}
        self._hand_round(Seek(source_session=self.url, name=self.url, accept=accept))
