"""Receives the frames and faces of one broadcaster."""

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from synopticon_rtc import control
from synopticon_rtc.control import Control
from synopticon_rtc.errors import ConnectionLost, InvalidFaces, NobodyAnswered, SignalingError
from synopticon_rtc.events import Events, StateEvent
from synopticon_rtc.faces.wire import decode, decode_json
from synopticon_rtc.latest import Latest
from synopticon_rtc.negotiator import Negotiator
from synopticon_rtc.pairing import Moment, Pairing, Sync
from synopticon_rtc.rtc import Channel, IceServer, PeerConnection, VideoTrack
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.handshake import CreateAnswer, CreateOffer, Notify, ReceiverHandshake
from synopticon_rtc.signaling.messages import Candidate

logger = logging.getLogger(__name__)

ACCEPT = {"faces": ["faces/1", "json"], "control": [control.PROTOCOL], "ice": ["more"]}
BURST = 0.02  # seconds: frames without faces come out together with the one before them that waited for its own


@dataclass(slots=True)
class ReceiverStats:
    """Totals since the start, over all connections.

    Attributes:
        frames: Frames decoded.
        faces_messages: Faces messages received.
        frames_with_faces: Frames given out with at least one face.
        faces: Faces in the last frame given out.
        width: Width of the last frame, pixels.
        height: Height of the last frame, pixels.
        first_frame: Seconds from the first discovery sent to the first decoded frame, None before it.
        delay: Seconds from the capture of the last frame to its being given out, by clocks aligned over the control
            channel; None where the broadcaster is none of this package.
    """

    frames: int = 0
    faces_messages: int = 0
    frames_with_faces: int = 0
    faces: int = 0
    width: int = 0
    height: int = 0
    first_frame: float | None = None
    delay: float | None = None


class _Feed:
    """What comes in over one peer connection."""

    def __init__(self, session: str, pairing: Pairing) -> None:
        self.session = session
        self.pairing = pairing
        self.control: Control | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def close(self) -> None:
        if self.control is not None:
            self.control.close()
        if self.timer is not None:
            self.timer.cancel()
        if self.task is not None:
            self.task.cancel()


class Receiver:
    """Receives the frames and faces of one broadcaster: an async iteration of :class:`~synopticon_rtc.Moment`.

    Use it as an async context manager. A broadcaster that goes is looked for again, so the iteration does not end
    before the receiver is left; ``events`` tells of every change. A consumer that is slower than the video gets the
    newest moment each time.

    Args:
        signaling: The address of a Synopticon signaling server, or a client that is shared with others.
        broadcaster: The name or the signaling session of the broadcaster to receive, None for the first that answers.
        sync: ``exact`` gives every frame its own faces, for which it waits; ``latest`` waits for nothing and gives it
            the newest faces.
        faces_wait: Seconds that a frame waits for its faces at most. A broadcaster whose detector is slower than that
            needs more here, or ``latest``.
        timeout: Seconds to wait for a moment before the iteration raises, None to wait for ever.
        ice_servers: STUN and TURN servers to ask for candidates. None is asked but these or, lacking these, those
            that the signaling server names.
        relay_only: Connect through TURN servers alone, so that peers do not learn each other's addresses.
    """

    def __init__(
        self,
        signaling: str | SignalingClient,
        *,
        broadcaster: str | None = None,
        sync: Sync = "exact",
        faces_wait: float = 0.05,
        timeout: float | None = None,
        ice_servers: Sequence[IceServer] = (),
        relay_only: bool = False,
    ) -> None:
        self.signaling = SignalingClient(signaling) if isinstance(signaling, str) else signaling
        self.events: Events[StateEvent] = Events()
        self._broadcaster = broadcaster
        self._sync: Sync = sync
        self._faces_wait = faces_wait
        self._timeout = timeout
        self._ice_servers = ice_servers
        self._relay_only = relay_only
        self._handshake = ReceiverHandshake(
            want=broadcaster,
            taken=lambda: frozenset(self.signaling.claimed),
            accept=ACCEPT,
            timestamp=lambda: time.time_ns() // 1_000_000,
        )
        self._negotiator = Negotiator(
            self.signaling,
            self._handshake,
            open_peer=self._open_peer,
            close_peer=self._close_peer,
            notify=self._notify,
            failed=self._fail,
        )
        self._feeds: dict[int, _Feed] = {}
        self._moments: Latest[Moment | None] = Latest(BURST)
        self._failure: SignalingError | None = None
        self._first_sought: float | None = None
        self._stats = ReceiverStats()

    async def __aenter__(self) -> Self:
        """Start looking for the broadcaster; does not wait for it."""
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        await self._negotiator.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._negotiator.__aexit__(*exception)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._moments.put(None)
        self.events.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Moment:
        """Wait for the next moment.

        Raises:
            NobodyAnswered: No first frame came within ``timeout``.
            ConnectionLost: No further frame came within ``timeout``.
            SignalingError: The signaling server refuses for good.
        """
        try:
            async with asyncio.timeout(self._timeout):
                moment = await self._moments.get()
        except TimeoutError:
            raise self._overdue() from None
        if moment is None:
            self._moments.put(None)
            if self._failure is not None:
                raise self._failure
            raise StopAsyncIteration
        return moment

    @property
    def stats(self) -> ReceiverStats:
        """Totals since the start, over all connections."""
        return dataclasses.replace(self._stats)

    def _overdue(self) -> NobodyAnswered | ConnectionLost:
        within = f"within {self._timeout:g} s"
        link = self._handshake.link
        if self._stats.frames:
            return ConnectionLost(
                f"no frame {within}: {'the video stands still' if link else 'the broadcaster is gone'}"
            )
        if self.signaling.session is None:
            return NobodyAnswered(
                f"the signaling server {self.signaling.url} was not there {within} ({self.signaling.reason}): "
                "is it running, and is the address right?"
            )
        if link is not None:
            return NobodyAnswered(f"{link.name or link.session} answered, but no video came {within}")
        heard = ", ".join(f"{name or 'unnamed'} ({session})" for session, name in self._handshake.heard.items())
        if self._broadcaster is not None and heard:
            return NobodyAnswered(f"no broadcaster {self._broadcaster!r} answered {within}; there are: {heard}")
        whom = f"no broadcaster {self._broadcaster!r}" if self._broadcaster else "no broadcaster"
        return NobodyAnswered(f"{whom} answered {within} at {self.signaling.url}: is one running there?")

    # Peer connections

    def _open_peer(self, action: CreateOffer | CreateAnswer) -> PeerConnection:
        link = action.link
        self.signaling.claimed.add(action.session)
        feed = self._feeds[link] = _Feed(action.session, Pairing(self._sync, self._faces_wait))
        return PeerConnection(
            ice_servers=self._ice_servers or self._negotiator.ice_servers(),
            relay_only=self._relay_only,
            on_candidate=lambda candidate: self._negotiator.gathered(link, msgspec.convert(candidate, Candidate)),
            on_state=functools.partial(self._negotiator.changed, link),
            on_channel=functools.partial(self._add_channel, link, feed),
            on_video=functools.partial(self._add_video, feed),
        )

    def _close_peer(self, link: int) -> None:
        feed = self._feeds.pop(link)
        feed.close()
        self.signaling.claimed.discard(feed.session)

    def _add_channel(self, link: int, feed: _Feed, channel: Channel) -> None:
        if channel.protocol == control.PROTOCOL:
            feed.control = Control(channel, gone=functools.partial(self._negotiator.lost, link))
        else:  # pages call it what they like
            feed.pairing.expected = True
            channel.on_message = functools.partial(self._faces, feed)

    def _add_video(self, feed: _Feed, track: VideoTrack) -> None:
        if feed.task is None:
            feed.task = asyncio.create_task(self._watch(feed, track), name="video")
            self._tasks.add(feed.task)
            feed.task.add_done_callback(self._tasks.discard)

    async def _watch(self, feed: _Feed, track: VideoTrack) -> None:
        async for received in track:
            stats = self._stats
            frame = received.frame
            stats.frames += 1
            stats.width, stats.height = frame.width, frame.height
            if stats.first_frame is None and self._first_sought is not None:
                stats.first_frame = self._loop.time() - self._first_sought
            self._give(feed, feed.pairing.frame(frame, received.rtp_timestamp, self._loop.time()))

    def _faces(self, feed: _Feed, data: str | bytes) -> None:
        try:
            message = decode_json(data) if isinstance(data, str) else decode(data)
        except InvalidFaces as error:
            logger.debug("%s", error)
            return
        self._stats.faces_messages += message.detected
        self._give(feed, feed.pairing.message(message, self._loop.time()))

    def _give(self, feed: _Feed, moments: Iterable[Moment]) -> None:
        for moment in moments:
            stats = self._stats
            stats.faces = len(moment.faces)
            stats.frames_with_faces += bool(moment.faces)
            offset = feed.control.offset if feed.control else None
            if moment.captured is not None and offset is not None:
                stats.delay = time.time() + offset - moment.captured
            self._moments.put(moment)
        if feed.timer is not None:
            feed.timer.cancel()
        due = feed.pairing.next_tick()
        feed.timer = None if due == float("inf") else self._loop.call_at(due, self._tick, feed)

    def _tick(self, feed: _Feed) -> None:
        self._give(feed, feed.pairing.tick(self._loop.time()))

    # News

    def _notify(self, change: Notify) -> None:
        if change.state == "seeking" and self._first_sought is None and self.signaling.session is not None:
            self._first_sought = self._loop.time()
        if change.state == "seeking" and self._failure is not None:
            self._moments.put(None)
        link = self._handshake.link
        name = link.name if link is not None and link.session == change.session else ""
        self.events.emit(StateEvent(change.state, change.reason, change.session, name))

    def _fail(self, error: SignalingError) -> None:
        self._failure = error
        if self._handshake.link is None:  # else media play on without signaling, until they end
            self._moments.put(None)
