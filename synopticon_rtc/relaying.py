"""Sends on what a broadcaster sends, to receivers elsewhere, without decoding it: the class ``Relay``."""

import asyncio
import contextlib
import functools
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, Self, TypeVar

from synopticon_rtc.basics import clock
from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.basics.life import Life, entered_before, not_open
from synopticon_rtc.basics.text import NAME, check_text, visible
from synopticon_rtc.broadcaster import BITRATE, Broadcaster
from synopticon_rtc.engines import as_signaling
from synopticon_rtc.errors import ConnectionLost, SynopticonError
from synopticon_rtc.events import Events, PeerEvent, StateEvent, StreamEvent
from synopticon_rtc.faces.wire import FacesMessage
from synopticon_rtc.media import Codec
from synopticon_rtc.peers.messages import MAX_NAMES, Message
from synopticon_rtc.peers.published import MAX_RELAY, MAX_RELAYS
from synopticon_rtc.peers.tap import Tapped
from synopticon_rtc.receiver import Receiver
from synopticon_rtc.receiving.received import ReceivedStream
from synopticon_rtc.rtc import EncodedSound, EncodedVideoFrame, IceServer
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.sending.admission import Admit
from synopticon_rtc.sending.encoded import LAYERS, EncodedSoundStream, EncodedStream
from synopticon_rtc.sending.ladder import BITRATES
from synopticon_rtc.sending.published import PublishedStream
from synopticon_rtc.signaling.session import Signaling

logger = logging.getLogger(__name__)

TICK = 0.25
"""Seconds from one look at what has changed to the next, where nobody says that something has."""
AWAY = 10.0
"""Seconds for which a broadcaster may be gone before receivers are told that it is."""
PAGE_AFTER = 2.0
"""Seconds of video of which nobody has told what it is, after which it is taken to come from a page."""
UNUSED = 5.0
"""Seconds for which a smaller layer still comes that nobody watches any more."""
PAGE = "camera"
"""What the video of a page is called, which gives it no name."""


class Relay:
    """Receives what one broadcaster sends, and sends it on to any number of receivers, without decoding it.

    Receivers find a broadcaster of the same name, with the same streams, whose frames, faces and sound have the times
    that they have at its source, by the clock of that: pairing is as exact, and delays count from the first capture.
    Messages pass both ways; one that the broadcaster sends to the relay reaches all receivers, and one of a receiver
    comes to the broadcaster from the relay. A relay may be the broadcaster of another one.

    A broadcaster that goes for up to 10 s is a stream that is muted meanwhile; for longer, and the relay goes too.
    Receivers whose link bears less than the video needs are sent a smaller layer of it, which the relay has the
    broadcaster send beside the other as long as anybody needs it.

    Use it as an async context manager, or await :meth:`start` and in the end :meth:`aclose`, once.

    Args:
        source: The signaling server at which the broadcaster is found: its address, or a client that nobody else uses.
        signaling: The signaling server at which receivers find the relay, likewise.
        broadcaster: The name or the session of the broadcaster; None for the first that answers, by whose name it stays
            from then on.
        streams: The names of the streams to send on; None for all.
        name: What the relay itself is called, for people, of at most 64 characters.
        admit: As for a :class:`Broadcaster`, of those who ask the relay.
        ice_servers: STUN and TURN servers, as for a :class:`Receiver`.
        relay_only: Connect through TURN servers alone, at both ends.
        udp_ports: The lowest and the highest UDP port to be reached at, at both ends; None for any.
        announce: Addresses at which this machine is reached from outside.
        interfaces: Names of network interfaces, and addresses, to use alone; none for all.

    Attributes:
        id: By which other relays know this one: its name, and a number by chance.
        network: What of this machine's network it uses.
        receiver: What receives.
        broadcaster: What sends; None while there is no broadcaster to be received.
        ahead: The clock of the broadcaster at the source minus ours, seconds, as it was known last.
        events: What becomes of the connection to the broadcaster.
        peer_events: What happens to receivers.
        stream_events: When streams are sent on and end, are muted or replaced.

    Raises:
        ValueError: Both servers and rooms are the same, or an option is out of range.
        TypeError: An option is of a wrong kind.
    """

    def __init__(
        self,
        source: str | Signaling,
        signaling: str | Signaling,
        *,
        broadcaster: str | None = None,
        streams: Sequence[str] | None = None,
        name: str = "",
        admit: Admit | None = None,
        ice_servers: Sequence[IceServer] = (),
        relay_only: bool = False,
        udp_ports: tuple[int, int] | None = None,
        announce: Sequence[str] = (),
        interfaces: Sequence[str] = (),
    ) -> None:
        check_text("name", name)
        if len(name) > MAX_RELAY // 2:
            raise ValueError(f"name must be a text of at most {MAX_RELAY // 2} characters, not {name!r:.100}")
        self._source, self._signaling = as_signaling(source), as_signaling(signaling)
        if self._source.meets(self._signaling):
            raise ValueError("a relay leads from one room, or server, to another: these are the same")
        self.id = f"{name}#{secrets.token_hex(4)}"
        self._faults = Faults()
        self.network = LocalNetwork(udp_ports, announce, interfaces)
        self._ice: dict[str, Any] = {"ice_servers": ice_servers, "relay_only": relay_only}
        self._admit = admit
        self.receiver: Receiver[EncodedVideoFrame] = self._receive(self._source, broadcaster, streams)
        self.broadcaster: Broadcaster | None = None
        self.events: Events[StateEvent] = self.receiver.events
        self.peer_events: Events[PeerEvent] = Events(faults=self._faults)
        self.stream_events: Events[StreamEvent] = Events(faults=self._faults)
        self._connected = False
        self._changed = asyncio.Event()
        self._passed: dict[Tapped, _Video | _Sound] = {}  # by what is received
        self._unnamed: tuple[float, ReceivedStream] | None = None  # since when it comes without anybody telling of it
        self.ahead, self._error = 0.0, 0.0
        self._names: dict[tuple[str, bool], asyncio.Task[None]] = {}  # of messages, and whether they go down
        self._life = Life(self._end)
        self._exit = contextlib.AsyncExitStack()

    def _receive(
        self, signaling: Signaling, broadcaster: str | None, streams: Sequence[str] | None
    ) -> Receiver[EncodedVideoFrame]:
        receiver = Receiver(signaling, broadcaster=broadcaster, streams=streams, decode=False, **self._ice)
        receiver.network = self.network
        return receiver

    def receive_more(self, name: str) -> Receiver[EncodedVideoFrame]:
        """Make what receives one video once more, over a connection of its own."""
        return self._receive(self._source.another(), self.receiver.origin.session, [name])

    def share(self, network: LocalNetwork) -> None:
        """Use the network as another one does, so that both share one port; to be called before it is started."""
        self.network = self.receiver.network = network

    async def start(self) -> Self:
        """Start looking for the broadcaster; does not wait for it. :meth:`aclose` ends that.

        Raises:
            RuntimeError: It was entered before.
        """
        if self._life.begun:
            raise entered_before(self)
        self._life.begun = True
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._life.end)
            stack.callback(self.receiver.tap(self, self._is_recorded))
            self.receiver.events.subscribe(self._state)
            self.receiver.stream_events.subscribe(lambda _: self._changed.set())
            self.receiver.hear_names(functools.partial(self._hear, down=True))
            await stack.enter_async_context(self.receiver)
            stack.push_async_callback(self._end_messages)
            self._life.run(stack, self._run(), SynopticonError("the relay was cancelled from within"))
            self._exit = stack.pop_all()
        return self

    async def aclose(self) -> None:
        """Say goodbye at both ends, and close; a second call does nothing."""
        await self._exit.aclose()

    async def __aenter__(self) -> Self:
        """Do as :meth:`start`."""
        return await self.start()

    async def __aexit__(self, *exception: object) -> None:
        """Do as :meth:`aclose`."""
        await self.aclose()

    async def wait_closed(self) -> None:
        """Wait until the relay is closed.

        Raises:
            SignalingError: One of the signaling servers refuses for good, and nothing can be sent on any more.
            RuntimeError: It was not started.
        """
        if not self._life.begun:
            raise not_open(self)
        await self._life.wait()

    @property
    def faults(self) -> int:
        """Errors that nobody foresaw, each of which cost a message, a frame or a peer, and is in the log."""
        broadcaster = 0 if self.broadcaster is None else self.broadcaster.stats.faults
        return self._faults.count + self.receiver.stats.faults + broadcaster

    def _end(self, _: BaseException | None) -> None:
        self.peer_events.close()
        self.stream_events.close()

    # What receivers are told of the broadcaster (sending/upstream.py)

    @property
    def relays(self) -> tuple[str, ...]:
        """Who passes on what comes, from the broadcaster's end to this one."""
        return (*self.receiver.relays, self.id)[-MAX_RELAYS:]

    @property
    def recorded(self) -> bool:
        """Whether the broadcaster says that anybody records what it sends."""
        return self.receiver.recorded

    def time(self) -> tuple[float, float]:
        """Return the broadcaster's time, seconds since the epoch, and by how much that may be wrong, seconds."""
        return clock.now() + self.ahead, self._error

    def _is_recorded(self) -> bool:
        """Whether anybody behind the relay records."""
        return self.broadcaster is not None and bool(self.broadcaster.recorders)

    # What comes (peers/tap.py)

    def video(self, stream: Tapped, frame: EncodedVideoFrame, captured: float | None) -> None:
        """Send a frame on."""
        passed = self._passed.get(stream)
        if not isinstance(passed, _Video) or passed.stream.codec != frame.codec:
            if not isinstance(stream, ReceivedStream) or not self._is_told(stream):
                return
            passed = self._passed[stream] = _Video(self, stream, frame.codec)
            passed.request_keyframe(0)
            self._changed.set()
        passed.unmute()
        passed.stream.put(frame, captured if frame.captured is None else frame.captured)

    def faces(self, stream: Tapped, message: FacesMessage, written: bytes | None) -> None:
        """Send faces on, byte for byte where they are written so."""
        if isinstance(passed := self._passed.get(stream), _Video):
            passed.stream.put_faces(message, written)

    def sound(self, stream: Tapped, packet: EncodedSound) -> None:
        """Send a packet of sound on."""
        passed = self._passed.get(stream)
        if not isinstance(passed, _Sound):
            if not isinstance(stream, ReceivedStream):
                return
            passed = self._passed[stream] = _Sound(
                stream, EncodedSoundStream(hint=stream.hint, ahead=lambda: self.ahead)
            )
            self._changed.set()
        passed.unmute()
        passed.stream.put(packet)

    def _state(self, event: StateEvent) -> None:
        self._connected = event.state == "connected"
        self._unnamed = None
        if self._connected and self.receiver.origin.name:
            self.receiver.stay()
        self._changed.set()

    def _is_told(self, stream: ReceivedStream) -> bool:
        """Whether it is known what a video is, or that nobody will tell."""
        if stream.name:
            return True
        self._unnamed = self._unnamed or (clock.monotonic(), stream)
        return clock.monotonic() > self._unnamed[0] + PAGE_AFTER

    def _listed(self) -> dict[str, ReceivedStream]:
        """Return what is to be sent on, by name; nothing while the broadcaster is gone."""
        if not self._connected:
            return {}
        named = {stream.name: stream for stream in self.receiver.tapped}
        if named or self._unnamed is None or not self._is_told(self._unnamed[1]):
            return named
        return {PAGE: self._unnamed[1]}

    # What is sent on

    async def _run(self) -> None:
        while True:
            while not self._is_ready():
                await self._wait()
            broadcaster = Broadcaster(
                self._signaling, name=self.receiver.origin.name, admit=self._admit, upstream=self, **self._ice
            )
            broadcaster.network = self.network
            async with broadcaster:
                await self._pass_on(broadcaster)

    def _is_ready(self) -> bool:
        """Whether there is something to be sent on, and it is known by which clock: pages tell nothing of theirs."""
        return bool(self._listed()) and (self.receiver.clock_offset is not None or not self.receiver.tells_time)

    async def _wait(self) -> None:
        """Wait until something may have changed, and take note of it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK):
                await self._changed.wait()
        self._changed.clear()
        if self._source.failure is not None and not self._connected:
            raise self._source.failure
        offset, error = self.receiver.clock_offset, self.receiver.clock_error
        if offset is not None and error is not None:
            self.ahead, self._error = offset, error
        if self.id in self.receiver.relays:
            origin = self.receiver.origin
            reason = f"{visible(origin.name or origin.session, NAME)} passes on what it has from this relay"
            logger.warning("%s: another broadcaster is looked for", reason)
            self.receiver.refuse(origin.session, reason)

    async def _pass_on(self, broadcaster: Broadcaster) -> None:
        """Send on what comes, until the broadcaster has been gone for long, or is another one."""
        broadcaster.events.subscribe(self.peer_events.emit)
        broadcaster.stream_events.subscribe(self.stream_events.emit)
        broadcaster.hear_names(functools.partial(self._hear, down=False))
        self.broadcaster = broadcaster
        closed = asyncio.create_task(broadcaster.wait_closed())
        gone: float | None = None
        try:
            while not closed.done():
                listed = self._listed()
                if listed and self.receiver.origin.name != broadcaster.name:
                    return
                gone = None if listed else gone or clock.monotonic()
                if gone is None:
                    await self._bring(broadcaster, listed)
                elif clock.monotonic() > gone + AWAY:
                    return
                elif not self._connected:
                    for passed in self._passed.values():
                        passed.mute()
                await self._wait()
            await closed
        finally:
            self.broadcaster = None
            closed.cancel()
            await asyncio.wait([closed])
            passing, self._passed = self._passed, {}
            for passed in passing.values():
                await passed.aclose()

    async def _bring(self, broadcaster: Broadcaster, listed: dict[str, ReceivedStream]) -> None:
        """Have receivers sent what there is to be sent on now, as far as anything of it has come."""
        names: dict[Tapped, str] = {stream: name for name, stream in listed.items()}
        for stream, passed in list(self._passed.items()):
            if passed.published is not None and passed.published.name != names.get(stream):
                del self._passed[stream]
                await passed.aclose()
        for name, received in listed.items():
            if (passing := self._passed.get(received)) is None:
                continue
            there = broadcaster.streams.get(name)
            if there is not None and there is not passing.published:  # it was in another codec
                await there.unpublish()
            if passing.published is None:
                await passing.publish(broadcaster, name)
            await passing.follow()

    # Messages

    def _hear(self, name: str, *, down: bool) -> None:
        """Pass on the messages of a name, as one has come."""
        broadcaster = self.broadcaster
        if broadcaster is None or (name, down) in self._names:
            return
        if sum(other == down for _, other in self._names) >= MAX_NAMES:  # as many as a connection has
            logger.warning("messages of the name %s are not passed on: there are too many names", visible(name, NAME))
            return
        messages = self.receiver.messages(name) if down else broadcaster.messages(name)
        task = self._names[name, down] = asyncio.create_task(self._carry(messages, down=down))
        task.add_done_callback(lambda _: self._names.pop((name, down), None))

    async def _carry(self, messages: AsyncIterator[Message], *, down: bool) -> None:
        async for message in messages:
            send: Callable[..., Awaitable[object]] = self.receiver.send
            if down:
                if self.broadcaster is None:
                    continue
                send = self.broadcaster.send
            try:
                await send(message.channel, message.data, latest=message.latest)
            except (ConnectionLost, ValueError) as error:
                logger.debug("a message is not passed on: %s", error)

    async def _end_messages(self) -> None:
        tasks = list(self._names.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


S = TypeVar("S", EncodedStream, EncodedSoundStream)


class _Passed(ABC, Generic[S]):
    """A stream that comes, and is sent on.

    Attributes:
        stream: It, as it is sent.
        published: What receivers know of it; None before it is published.
    """

    def __init__(self, received: ReceivedStream, stream: S) -> None:
        self.stream: S = stream
        self.published: PublishedStream | None = None
        self._received = received
        self._source = "", 0  # whose it was, and how often it had been replaced

    async def publish(self, broadcaster: Broadcaster, name: str) -> None:
        """Send it to all who receive."""
        self._source = self._received.session, self._received.replaced
        self.published = await self._publish(broadcaster, name)

    @abstractmethod
    async def _publish(self, broadcaster: Broadcaster, name: str) -> PublishedStream: ...

    async def follow(self) -> None:
        """Tell receivers what has become of it."""
        source = self._received.session, self._received.replaced
        if source != self._source and self.published is not None:
            self._source = source
            await self.published.replace(self.stream)
        if self._received.muted:
            self.mute()
        elif self.unmute():
            self.stream.request_keyframe()

    def mute(self) -> None:
        """Send nothing, as nothing is to be had."""
        if self.published is not None:
            self.published.mute()

    def unmute(self) -> bool:
        """Send it again, if it is to be had; tell whether it was not before."""
        if self.published is None or not self.published.muted or self._received.muted:
            return False
        self.published.unmute()
        return True

    async def aclose(self) -> None:
        """Send it no more."""
        if self.published is not None:
            await self.published.unpublish()


class _Sound(_Passed[EncodedSoundStream]):
    async def _publish(self, broadcaster: Broadcaster, name: str) -> PublishedStream:
        return await broadcaster.publish(name, audio=self.stream)


class _Video(_Passed[EncodedStream]):
    """A video, and what receives its smaller layers while somebody needs them."""

    def __init__(self, relay: Relay, received: ReceivedStream, codec: Codec) -> None:
        is_page = not received.name
        stream = EncodedStream(
            codec,
            self,
            hint=received.hint or PAGE,
            detector="the page" if is_page else received.detector or None,
            bitrate=_bitrate(received),
            layers=LAYERS if received.bitrate else 1,
            ahead=lambda: relay.ahead,
            reported=lambda: received.report,
        )
        super().__init__(received, stream)
        self._relay = relay
        self._layers: dict[int, _Layer] = {}

    async def _publish(self, broadcaster: Broadcaster, name: str) -> PublishedStream:
        return await broadcaster.publish(name, self.stream)

    async def follow(self) -> None:
        """Tell receivers what has become of it, and let layers go that nobody needs, or that another one sent."""
        await super().follow()
        if (bitrate := _bitrate(self._received)) != self.stream.bitrate:
            self.stream.bitrate = bitrate
        session = self._relay.receiver.origin.session
        for index, layer in list(self._layers.items()):
            if layer.session != session or not layer.is_used(self.stream.wanted(index)):
                await self._layers.pop(index).aclose()
                if layer.session != session and self.stream.wanted(index):
                    self.request_keyframe(index)

    async def aclose(self) -> None:
        """Send it no more."""
        await super().aclose()
        for layer in self._layers.values():
            await layer.aclose()

    def request_keyframe(self, layer: int) -> None:
        """Ask for a keyframe, and for the layer itself where it does not come."""
        name, receiver = self._received.name, self._relay.receiver
        if layer == 0:
            receiver.request_keyframe(name or None)
        elif layer in self._layers:
            self._layers[layer].receiver.request_keyframe()
        else:
            there = self._relay.receive_more(name)
            there.limit(name, self.stream.wanted(layer) or 1)
            self._layers[layer] = _Layer(there, receiver.origin.session, functools.partial(self._put, layer))

    def limit(self, layer: int, bitrate: int) -> None:
        """Ask for another bit rate."""
        if layer == 0:
            full = bitrate >= self.stream.bitrate
            self._relay.receiver.limit(self._received.name, None if full else bitrate)
        elif layer in self._layers:
            self._layers[layer].receiver.limit(self._received.name, bitrate)

    def _put(self, layer: int, frame: EncodedVideoFrame, captured: float | None) -> None:
        self.stream.put(frame, captured if frame.captured is None else frame.captured, layer)


def _bitrate(received: ReceivedStream) -> int:
    """Return the bit rate of a video, bit/s, as its broadcaster says it, within what can be."""
    least, most = BITRATES
    return min(max(received.bitrate or BITRATE, least), most)


class _Layer:
    """A connection by which a smaller layer of a video comes.

    Attributes:
        receiver: What receives it.
        session: Of the broadcaster.
    """

    def __init__(
        self,
        receiver: Receiver[EncodedVideoFrame],
        session: str,
        put: Callable[[EncodedVideoFrame, float | None], None],
    ) -> None:
        self.receiver = receiver
        self.session = session
        self._put = put
        self._unused = clock.monotonic()
        receiver.tap(self, lambda: False)
        self._task = asyncio.create_task(receiver.start())

    def is_used(self, bitrate: int) -> bool:
        """Whether it is to go on, as somebody wants it, or did a moment ago."""
        if bitrate:
            self._unused = clock.monotonic()
        return clock.monotonic() < self._unused + UNUSED

    def video(self, stream: Tapped, frame: EncodedVideoFrame, captured: float | None) -> None:  # noqa: ARG002
        """Take a frame: there is one video alone."""
        self._put(frame, captured)

    def faces(self, stream: Tapped, message: FacesMessage, written: bytes | None) -> None:
        """Take none: they come with the video in full size."""

    def sound(self, stream: Tapped, packet: EncodedSound) -> None:
        """Take none."""

    async def aclose(self) -> None:
        """Receive it no more."""
        await asyncio.wait([self._task])
        await self.receiver.aclose()
