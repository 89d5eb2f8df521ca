"""Looks for faces at the receiving end, in the video of broadcasters that send none."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import av

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.detecting.cadence import check_faces_fps
from synopticon_rtc.detecting.detection import check_detector, name_of
from synopticon_rtc.detecting.search import FaceSearch
from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.events import DetectorEvent, Events
from synopticon_rtc.faces import Detector, Face
from synopticon_rtc.faces.detector import another
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.peers.faces_channel import FacesChannel, WrittenFaces
from synopticon_rtc.receiving.peer import Peer
from synopticon_rtc.receiving.received import ReceivedStream
from synopticon_rtc.receiving.stream import Stream
from synopticon_rtc.rtc import Received

logger = logging.getLogger(__name__)

GRACE = 0.5
"""Seconds of video without faces, after which a broadcaster that tells nothing of its streams is taken to send none."""
WAIT = 0.25
"""Seconds that a frame waits for its faces, where nobody says how long: they come, as nothing gets lost."""
FPS = 30.0
"""Frames a second that are expected until it is known."""
RETURNED = "returned"
"""The label of the channel for faces that go back; that of a further stream has its name behind a colon."""


def check(detector: object, *, faces_fps: float | None, return_faces: bool, video: bool, decode: bool) -> None:
    """Refuse options of a receiver that do not go together.

    Raises:
        ValueError: There is nothing to look at, or to send back, or ``faces_fps`` is out of range.
        TypeError: The detector is none.
    """
    check_detector(detector, "detector")
    check_faces_fps(faces_fps)
    if detector is None:
        if return_faces:
            raise ValueError("return_faces=True sends back what a detector finds: give one with detector=")
    elif not (video and decode):
        option = "decode" if video else "video"
        raise ValueError(f"a detector looks at decoded frames, and with {option}=False there are none")


@dataclass(frozen=True, slots=True)
class Sought:
    """A frame in which faces are looked for.

    Attributes:
        frame: It, which is only read.
        time: When it was decoded, seconds since the epoch by our clock.
        rtp_timestamp: By which its faces belong to it.
        captured: When it was captured, seconds since the epoch on the broadcaster's clock; None where nobody knows.
        look: What is told what was found in it.
    """

    frame: av.VideoFrame
    time: float
    rtp_timestamp: int
    captured: float | None
    look: "Look"


class Look:
    """The search for faces in one stream of one connection, as long as its broadcaster sends none.

    Args:
        finder: What looks.
        peer: The broadcaster.
        handle: What the application holds of the stream.
        stream: It, which is told what is found.
        wanted: Tells whether anybody wants its faces.
    """

    def __init__(
        self, finder: "Finder", peer: Peer, handle: ReceivedStream, stream: Stream, wanted: Callable[[], bool]
    ) -> None:
        self._finder = finder
        self._peer = peer
        self._handle = handle
        self._stream = stream
        self._wanted = wanted
        self._loop = asyncio.get_running_loop()
        self._first: float | None = None  # when the first frame came
        self._search: FaceSearch[Sought] | None = None  # once it is known that the broadcaster sends no faces
        self._returned: FacesChannel | None = None
        handle.found_by = lambda: finder.name if wanted() else ""

    def offer(self, received: Received, now: float) -> None:
        """Take a frame, before it is paired with its faces."""
        stream = self._stream
        self._first = now if self._first is None else self._first
        if stream.has_faces and self._search is not None:
            self._search, self._handle.found_by = None, str  # it sends some after all
            self.close()
        if stream.has_faces or stream.closed or not (self._peer.listed or now - self._first >= GRACE):
            return
        wanted = self._wanted()
        if self._search is None:
            if not wanted:
                return
            self._search = self._begin()
        captured = stream.captured(received.rtp_timestamp)
        sought = Sought(
            received.frame,
            clock.now(),
            received.rtp_timestamp,
            received.captured if captured is None else captured,
            self,
        )
        if wanted:
            self._search.offer(sought, now, wanted=True)
        else:
            self.tell(sought, None)

    def tell(self, sought: Sought, faces: tuple[Face, ...] | None) -> None:
        """Take what was found in a frame, None where it was not looked at."""
        stream, frame, now = self._stream, sought.frame, self._loop.time()
        if stream.has_faces or stream.closed:
            return
        message = FacesMessage(
            faces or (), frame.width, frame.height, sought.rtp_timestamp, sought.captured, faces is not None
        )
        if self._returned is not None:
            self._returned.send(WrittenFaces(message), now)
        stream.found(message, now, clock.now() - sought.time)

    def close(self) -> None:
        """Look no more."""
        if self._returned is not None:
            self._returned.channel.close()
            self._returned = None
        self._finder.leave(self._handle)

    def _begin(self) -> FaceSearch[Sought]:
        self._stream.look_here(self._finder.wait)
        if self._finder.returns and self._peer.takes_faces:
            label = RETURNED if self._stream is self._peer.first else f"{RETURNED}:{self._handle.name}"
            self._returned = FacesChannel(self._peer.connection, binary=True, label=label)
        return self._finder.search(self._handle)


class Finder:
    """Has a detector look at the streams of a receiver, each of which is followed for itself.

    Args:
        detector: What finds faces. It looks at the first stream, and at further ones too where there can be no other of
            its kind: in turn.
        first: The stream that outlives connections; others are followed as long as they are published.
        most: Frames a second to look at in each stream, at most; None for as many as the detector manages.
        wait: Seconds that a frame waits for its faces at most.
        returns: Whether what is found goes back to broadcasters that take it.
        faults: What counts errors that nobody foresaw.

    Attributes:
        events: What happens to the detector.
        wait: As above.
        returns: As above.
    """

    def __init__(
        self,
        detector: Detector,
        first: ReceivedStream,
        *,
        most: float | None,
        wait: float,
        returns: bool,
        faults: Faults,
    ) -> None:
        self.events: Events[DetectorEvent] = Events(faults=faults)
        self.wait = wait
        self.returns = returns
        self._detector = detector
        self._first = first
        self._most = most
        self._faults = faults
        self._turn = asyncio.Lock()  # of the detector
        self._searches: dict[ReceivedStream, tuple[FaceSearch[Sought], asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Enter the detector, with whatever errors that may raise."""
        await _enter(self._exit, self._detector)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Look no more, and leave the detector."""
        for handle in list(self._searches):
            self._end(handle)
        if self._ending:
            await asyncio.wait(self._ending)
        await self._exit.aclose()

    @property
    def name(self) -> str:
        """What looks for faces, in words for people."""
        return name_of(self._detector)

    def search(self, handle: ReceivedStream) -> FaceSearch[Sought]:
        """Return what looks for the faces of a stream."""
        if handle not in self._searches:
            detector, failure = self._detector, None
            try:
                if handle is not self._first:
                    detector = another(self._detector)
            except Exception as error:  # noqa: BLE001 - it is noted: the detector is the application's own
                self._faults.note("the detector of a further stream cannot be had", error=error)
                failure = error
            is_shared = detector is self._detector
            search = FaceSearch[Sought](
                detector,
                fps=FPS,
                most=self._most,
                tell=lambda sought, faces: self._faults.call(sought.look.tell, sought, faces),
                faults=self._faults,
                turn=self._turn if is_shared else None,
            )
            search.events.subscribe(self.events.emit)
            if failure is not None:
                search.end(failure)
            running = self._run(search, None if is_shared else detector)
            self._searches[handle] = search, asyncio.create_task(running, name="detector")
        return self._searches[handle][0]

    def leave(self, handle: ReceivedStream) -> None:
        """Forget a stream that has ended, unless it comes again over another connection."""
        if handle is not self._first and handle in self._searches:
            self._end(handle)

    def _end(self, handle: ReceivedStream) -> None:
        _, task = self._searches.pop(handle)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    async def _run(self, search: FaceSearch[Sought], detector: Detector | None) -> None:
        """Look for faces, with a detector that is for this search alone if there is one."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                try:
                    if detector is not None:
                        await _enter(stack, detector)
                except SynopticonError as error:
                    search.end(error)
                except Exception as error:  # noqa: BLE001 - it is noted: the detector is the application's own
                    self._faults.note("the detector of a further stream cannot be had", error=error)
                    search.end(error)
                await search.run()
        except Exception:  # noqa: BLE001 - it is noted
            self._faults.note("faces of a stream are looked for no more")


async def _enter(stack: contextlib.AsyncExitStack, detector: Detector) -> None:
    """Enter a detector that is to be entered."""
    if isinstance(detector, contextlib.AbstractAsyncContextManager):
        await stack.enter_async_context(detector)
