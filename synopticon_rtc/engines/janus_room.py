"""What we do in a room of Janus: publish in it, and subscribe to others."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from synopticon_rtc.basics.text import NAME, visible
from synopticon_rtc.engines.janus_session import Event, Handle, JanusError, JanusSession
from synopticon_rtc.peers.published import KINDS, MAX_NAME, MAX_STREAMS, FullOffer, Kind, Published
from synopticon_rtc.signaling.messages import (
    Answer,
    AnyMessage,
    BroadcasterAvailable,
    BroadcasterGone,
    Broadcasters,
    Error,
    Ice,
    Message,
    Offer,
    Present,
    Seek,
    SessionDescription,
    one_line,
)

logger = logging.getLogger(__name__)

PLUGIN = "janus.plugin.videoroom"
MOST = 1024  # publishers of a room that are kept count of
LOOK_AGAIN = 4.0  # seconds between two questions who publishes, while nobody is there whom we want
ASK_AGAIN = 1.0  # seconds without an offer after which what is published is asked for once more
FIRST_RETRY, SLOWEST_RETRY = 0.2, 5.0  # seconds until it is published again
UNAUTHORIZED, UNAUTHORIZED_PLUGIN = 403, 405  # of apierror.h
NO_SUCH_ROOM, NO_PIN, INVALID_ELEMENT, FULL, UNAUTHORIZED_ROOM = 426, 429, 430, 432, 433  # of the VideoRoom
NAMES: dict[str, str] = {"video": "camera", "audio": "microphone"}
"""What streams are called of which nobody says it, by their kind."""
_ADVICE = {
    UNAUTHORIZED: "it wants its API secret or a token: ?secret= or ?token= in the address, or the token apart",
    UNAUTHORIZED_PLUGIN: "the token is not for the VideoRoom",
    INVALID_ELEMENT: "name a room of this Janus in the address",
    NO_PIN: "the room wants a PIN: ?pin= in the address",
    NO_SUCH_ROOM: "create the room in Janus, or name another one in the address",
    FULL: "raise the number of publishers of the room, or have one leave",
    UNAUTHORIZED_ROOM: "the room wants a PIN or a token: ?pin= or ?token= in the address, or the token apart",
}
_CODEC = 'name the codec in the videocodec of the room, like "vp8,h264", or send another (--codec)'


def advise(error: JanusError) -> str:
    """Say why Janus refuses something, and what to do about it."""
    words = one_line(str(error))
    return "; ".join(filter(None, (words, _CODEC if "codec unavailable" in words else _ADVICE.get(error.code))))


_FIRST_VIDEO = re.compile(r"^m=video \d+ [^ ]+ (\d+)", re.MULTILINE)

# What Janus says. Numbers name publishers, or texts where the server is configured so.
_Id = int | str


class _Feed(msgspec.Struct):
    """A publisher."""

    id: _Id
    display: str = ""


class _Present(_Feed):
    """Who is in a room."""

    publisher: bool = False


class _All(msgspec.Struct):
    """All who are in a room."""

    participants: list[_Present] = []


class _News(msgspec.Struct):
    """What those are told who have joined a room."""

    videoroom: str = ""
    id: _Id = ""
    private_id: int | None = None
    publishers: list[_Feed] = []
    unpublished: _Id = ""
    leaving: _Id = ""
    kicked: _Id = ""
    reason: str = ""


class Section(msgspec.Struct):
    """A media section of a subscription, and what comes on it."""

    type: str
    mid: str
    feed_description: str = ""


class _Attached(msgspec.Struct):
    """What a subscriber is told of its subscription."""

    streams: list[Section] = []


def sections(described: Sequence[Section]) -> Iterator[Published]:
    """Give the streams that come on the media sections of a subscription: by what their publisher says of them.

    One of this package describes each by what it publishes; of another's the description is the name.
    """
    taken: set[str] = set()
    for section in described[:MAX_STREAMS]:
        kind: Kind | None = next((kind for kind in KINDS if kind == section.type), None)
        if kind is None:
            continue
        told = section.feed_description
        try:
            stream = msgspec.json.decode(told, type=Published)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            hint = NAMES[kind]
            stream = Published(one_line(told)[:MAX_NAME] or hint, kind, hint)
        name, number = stream.name, 2
        while name in taken:
            name, number = f"{stream.name[: MAX_NAME - 4]}-{number}", number + 1
        taken.add(name)
        yield msgspec.structs.replace(stream, name=name, kind=kind, mid=section.mid)


class Host(Protocol):
    """Who has us in the room."""

    url: str
    """The address of the room, as which it is known to broadcasters."""
    claimed: set[str]
    """The publishers that are received."""
    published: Callable[[], Sequence[Published]]
    """Gives what is published, with its media sections."""

    def tell(self, message: AnyMessage) -> None:
        """Tell those who listen something, as a signaling server would."""

    def seek(self) -> None:
        """Have a broadcaster make an offer."""


def _preferred(offer: str) -> dict[str, str]:
    """Return the codec that an offer has first, as Janus goes by its own order otherwise."""
    video = _FIRST_VIDEO.search(offer)
    named = video and re.search(rf"^a=rtpmap:{video[1]} ([\w-]+)/", offer, re.MULTILINE)
    return {"videocodec": named[1].lower()} if named else {}


class Uplink:
    """What is published in a room; as long as nothing is, it is asked for again and again.

    Args:
        handle: By which we are in the room.
        host: Who has us there.
        tasks: What takes long is done in.
    """

    def __init__(self, handle: Handle, host: Host, tasks: asyncio.TaskGroup) -> None:
        self._handle = handle
        self._host = host
        self._tasks = tasks
        self._origin: tuple[str, ...] | None = None  # of the offer that is published, or about to be
        self._up = False
        self._told = ""  # why Janus did not take the last offer
        self._pause = FIRST_RETRY
        self._timer: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """Ask for what is to be published, until there is an offer."""
        if self._origin is None:
            self._ask_in(ASK_AGAIN)
            self._host.seek()

    def _ask_in(self, seconds: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.ask)

    def close(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()

    def offered(self, offer: SessionDescription) -> None:
        """Publish what is offered; an offer may be repeated."""
        if self._origin is None:
            self.close()
            self._origin = offer.origin
            self._tasks.create_task(self._publish(offer))

    async def _publish(self, offer: SessionDescription) -> None:
        body = {"request": "publish", "descriptions": self._descriptions()} | _preferred(offer.sdp)
        try:
            event = await self._handle.request(body, offer)
        except JanusError as error:
            reason = advise(error)
            level, self._told = logging.DEBUG if reason == self._told else logging.WARNING, reason
            logger.log(level, "%s: nothing is published: %s", self._host.url, reason)
            if self._origin == offer.origin:
                self.end(reason)
            return
        if event.jsep is not None and self._origin == offer.origin:
            self._host.tell(Answer(source_session=self._host.url, sdp=event.jsep))

    def _descriptions(self) -> list[dict[str, str]]:
        return [
            {"mid": stream.mid, "description": msgspec.json.encode(msgspec.structs.replace(stream, mid=None)).decode()}
            for stream in self._host.published()
            if stream.mid is not None
        ]

    def take(self, message: Ice) -> None:
        """Tell Janus of candidates; or publish nothing more, as the broadcaster wants it, and ask again later."""
        if self._origin is None:
            return
        if message.bye is None:
            self._handle.trickle(message)
        else:
            self._begin_anew()

    def came_up(self) -> None:
        """Take note that the connection is there."""
        self._up, self._pause = True, FIRST_RETRY

    def hung_up(self, reason: str) -> None:
        """Take note that the connection has ended."""
        if self._up:  # else it may be the one before this
            self.end(f"Janus hung up: {one_line(reason) or 'it did not say why'}")

    def end(self, reason: str) -> None:
        """Tell the broadcaster that nothing is published any more, and ask again later."""
        self._host.tell(Ice(source_session=self._host.url, bye=reason))
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._handle.hang_up()
        self._origin, self._up = None, False
        self._ask_in(self._pause)
        self._pause = min(2 * self._pause, SLOWEST_RETRY)


@dataclass(slots=True, eq=False)
class _Subscription:
    """What we are sent of one publisher.

    Attributes:
        handle: By which Janus knows it.
        answered: Whether Janus has the answer to its offer.
    """

    handle: Handle
    answered: bool = False


class JanusRoom:
    """Our part in a room, for one session.

    Args:
        session: With Janus.
        host: Who has us in the room.
        tasks: What takes long is done in.
        room: Its number or its name.
        secrets: ``pin`` and ``token``, where there are any.
    """

    def __init__(
        self, session: JanusSession, host: Host, tasks: asyncio.TaskGroup, room: str, secrets: dict[str, str]
    ) -> None:
        self.session = session
        self._host = host
        self._tasks = tasks
        self._room: _Id = int(room) if room.isdecimal() else room
        self._secrets = secrets
        self._own = ""  # what we are called there
        self._private: dict[str, int] = {}
        self._feeds: dict[str, _Feed] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._subscribing: set[str] = set()
        self._looked = -LOOK_AGAIN  # when we last asked who publishes, s
        self._out = asyncio.Event()
        self._reason = ""  # why we were put out

    async def join(self, name: str) -> str:
        """Come into the room, and return what we are called there.

        Args:
            name: For people.

        Raises:
            JanusError: We are not let in.
        """
        self._handle = handle = await self.session.attach(PLUGIN, self._told)
        self.uplink = Uplink(handle, self._host, self._tasks)
        body = {"request": "join", "ptype": "publisher", "display": name} | self._secrets
        try:
            event = await handle.request(body | {"room": self._room})
        except JanusError as error:
            if error.code != INVALID_ELEMENT:
                raise
            self._room = str(self._room)  # of a server whose rooms have names, which may be digits
            event = await handle.request(body | {"room": self._room})
        news = event.read(_News)
        self._private = {} if news.private_id is None else {"private_id": news.private_id}
        self._own = str(news.id)
        self._meet(news.publishers)
        return self._own

    async def stay(self) -> None:
        """Be there until we are put out; always raises.

        Raises:
            ConnectionError: We were put out.
        """
        try:
            await self._out.wait()
            raise ConnectionError(self._reason)
        finally:
            self.uplink.close()

    def leave(self) -> None:
        """Tell those who listen that all connections of the room end."""
        reason = "the connection to Janus is lost"
        for feed in list(self._subscriptions):
            self._lose(feed, reason)
        self._host.tell(Ice(source_session=self._host.url, bye=reason))

    def present(self) -> Broadcasters:
        """Return who publishes."""
        return Broadcasters(broadcasters=[Present(session, feed.display) for session, feed in self._feeds.items()])

    # What those who listen say

    def send(self, message: Message) -> None:
        """Take a message, as a signaling server would."""
        match message:
            case Offer(sdp=offer):
                self.uplink.offered(offer)
            case Seek():
                self._seek(message)
            case Answer(target_session=str() as feed, sdp=answer):
                subscription = self._subscriptions.get(feed)
                if subscription is not None and not subscription.answered:
                    subscription.answered = True
                    self._tasks.create_task(self._start(feed, subscription, answer))
            case Ice(target_session=self._host.url):
                self.uplink.take(message)
            case Ice(target_session=str() as feed, bye=None) if feed in self._subscriptions:
                self._subscriptions[feed].handle.trickle(message)
            case Ice(target_session=str() as feed) if feed in self._subscriptions:
                self._subscriptions.pop(feed).handle.detach()

    def _seek(self, message: Seek) -> None:
        """Subscribe to the publisher that a receiver wants."""
        unwanted = message.unwanted if isinstance(message.unwanted, list) else []
        for session, feed in self._feeds.items():
            wanted = message.target_session or message.want
            if session not in unwanted and wanted in (None, session, feed.display, one_line(feed.display)):
                if session not in self._subscriptions and session not in self._subscribing:
                    self._subscribing.add(session)
                    self._tasks.create_task(self._subscribe(session, feed))
                return
        if isinstance(message.target_session, str):
            self._host.tell(Error(error_code="target_not_found", target_session=message.target_session))
        self._look_again()

    def _look_again(self) -> None:
        """Ask who publishes, now and then: news of it may have been lost."""
        now = asyncio.get_running_loop().time()
        if now - self._looked >= LOOK_AGAIN:
            self._looked = now
            self._tasks.create_task(self._look())

    async def _look(self) -> None:
        known = list(self._feeds)
        try:
            event = await self._handle.request({"request": "listparticipants", "room": self._room})
            present = {str(one.id): one for one in event.read(_All).participants if one.publisher}
        except JanusError as error:
            logger.debug("%s: it does not say who publishes: %s", self._host.url, error)
            return
        for gone in known:
            if gone not in present:
                self._forget(gone)
        self._meet([feed for session, feed in present.items() if session not in self._feeds])

    async def _subscribe(self, session: str, feed: _Feed) -> None:
        handle = await self.session.attach(PLUGIN, lambda event: self._told_of(session, event))
        body = {"request": "join", "ptype": "subscriber", "room": self._room, "autoupdate": False}
        try:
            event = await handle.request(body | {"streams": [{"feed": feed.id}]} | self._secrets | self._private)
            streams = [*sections(event.read(_Attached).streams)]
        except JanusError as error:
            handle.detach()
            logger.warning("%s: %s is not received: %s", self._host.url, visible(feed.display, NAME), advise(error))
            self._look_again()  # it may have gone
            return
        finally:
            self._subscribing.discard(session)
        if event.jsep is None or session not in self._feeds:
            handle.detach()
            return
        self._subscriptions[session] = _Subscription(handle)
        accept = {"bye": ["words"], "ice": ["more"]}
        self._host.tell(
            FullOffer(
                source_session=session,
                name=feed.display,
                accept=accept,
                sdp=event.jsep,
                streams=streams,
                channel=session,
            )
        )
        if session not in self._host.claimed and session in self._subscriptions:
            self._subscriptions.pop(session).handle.detach()  # nobody wants it any more

    def choose(self, feed: str, mid: str, layer: int) -> None:
        """Have a layer of a video sent to us."""
        if subscription := self._subscriptions.get(feed):
            self._tasks.create_task(self._configure(subscription, {"mid": mid, "substream": layer}))

    async def _configure(self, subscription: _Subscription, stream: dict[str, object]) -> None:
        try:
            await subscription.handle.request({"request": "configure", "streams": [stream]})
        except JanusError as error:
            logger.warning("%s: no other layer is sent: %s", self._host.url, one_line(str(error)))

    async def _start(self, feed: str, subscription: _Subscription, answer: SessionDescription) -> None:
        try:
            await subscription.handle.request({"request": "start", "room": self._room}, answer)
        except JanusError as error:
            self._lose(feed, advise(error))

    # What Janus says

    def _told(self, event: Event) -> None:
        """Take news of the room, and of what is published."""
        match event.janus:
            case "webrtcup":
                self.uplink.came_up()
            case "trickle":
                self._host.tell(event.ice(self._host.url))
            case "hangup":
                self.uplink.hung_up(event.reason)
            case "slowlink":
                logger.info("%s: %d packets that we sent were lost", self._host.url, event.lost)
            case "detached":
                self._put_out("Janus has let go of us")
            case "event":
                self._take_news(event.read(_News))

    def _take_news(self, news: _News) -> None:
        self._meet(news.publishers)
        if news.videoroom == "destroyed":
            self._put_out("the room was destroyed")
        if news.leaving == "ok":
            self._put_out(f"we were put out of the room: {one_line(news.reason) or 'Janus does not say why'}")
        for gone in (news.unpublished, news.leaving, news.kicked):
            self._forget(str(gone))

    def _forget(self, feed: str) -> None:
        """Take note that somebody publishes no more."""
        if self._feeds.pop(feed, None) is not None:
            self._host.tell(BroadcasterGone(session=feed))
            self._lose(feed, "it publishes no more")

    def _meet(self, feeds: Sequence[_Feed]) -> None:
        for feed in feeds:
            session = str(feed.id)
            if session != self._own and (session in self._feeds or len(self._feeds) < MOST):
                self._feeds[session] = feed
                self._host.tell(BroadcasterAvailable(session=session, name=feed.display))

    def _told_of(self, session: str, event: Event) -> None:
        """Take news of a subscription."""
        match event.janus:
            case "trickle":
                self._host.tell(event.ice(session))
            case "hangup" | "detached":
                self._lose(session, f"Janus hung up: {one_line(event.reason) or 'it did not say why'}")
            case "slowlink":
                logger.info("%s: %d packets that Janus sent us were lost", self._host.url, event.lost)

    def _lose(self, feed: str, reason: str) -> None:
        """Tell a receiver that it is sent nothing more."""
        if subscription := self._subscriptions.pop(feed, None):
            subscription.handle.detach()
            self._host.tell(Ice(source_session=feed, bye=reason))

    def _put_out(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._out.set()
