"""An engine in memory: all that is published goes to it, and what becomes of it disturbs nobody else."""

import asyncio
from collections.abc import Coroutine

import pytest
from lobby import Card, Lobby
from turned import elapse, turned

from synopticon_rtc import Broadcaster, PeerEvent
from synopticon_rtc.engines import Engine, as_engine, as_signaling
from synopticon_rtc.errors import InvalidURL, SignalingError
from synopticon_rtc.rtc import PeerConnection, VideoTrack
from synopticon_rtc.signaling.messages import Answer, Ice, Message, Offer, SessionDescription

URL = "mirror://engine/room"


class Mirror(Engine):
    """Takes all that it is offered, from a machine of its own.

    Attributes:
        tracks: What it has received.
        goodbyes: Why connections of it ended.
        refusal: Why it lets nobody in.
    """

    def __init__(self, lobby: Lobby, refusal: str = "") -> None:
        super().__init__(URL)
        self.tracks: list[VideoTrack] = []
        self.goodbyes: list[str] = []
        self.refusal = refusal
        self._host = lobby.network.host()
        self._origins: set[tuple[str, ...]] = set()
        self._connection: PeerConnection | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def _stay_connected(self) -> None:
        if self.refusal:
            raise SignalingError(self.refusal)
        self._begin("mirror")
        self._ask()
        await asyncio.Event().wait()

    def configure(self) -> None: ...

    async def flush(self) -> None:
        await asyncio.gather(*self._tasks)

    def send(self, message: Message) -> None:
        match message:
            case Offer(sdp=description) if description.origin not in self._origins:
                self._origins.add(description.origin)
                self._work(self._answer(description.sdp))
            case Ice(bye=str() as reason):
                self.goodbyes.append(reason)
                self._work(self._part())

    def _work(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _answer(self, offer: str) -> None:
        self._connection = PeerConnection(network=self._host, on_video=self.tracks.append)
        mids = [line[6:] for line in offer.splitlines() if line.startswith("a=mid:")]
        answer = SessionDescription("answer", await self._connection.answer(offer, mids))
        self._hand_round(Answer(source_session=self.url, sdp=answer))

    async def _part(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        self._ask()


def broadcaster(lobby: Lobby, engine: Engine) -> tuple[Broadcaster, list[PeerEvent]]:
    """Return one that publishes to an engine, and what it tells of receivers."""
    made = Broadcaster(lobby.client(), Card(), publish_to=[engine])
    made.network = lobby.here
    events: list[PeerEvent] = []
    made.events.subscribe(events.append)
    return made, events


@turned
async def test_an_engine_is_sent_all_that_is_published_also_what_comes_later() -> None:
    lobby = Lobby()
    engine = Mirror(lobby)
    sender, events = broadcaster(lobby, engine)
    async with sender:
        await elapse(1)
        assert [event.state for event in events] == ["connecting", "connected"]
        assert (sender.peers, len(engine.tracks)) == ((URL,), 1)
        await sender.publish("screen", Card())
        await elapse(1)
        assert engine.goodbyes == ["what is published has changed"]
        assert (sender.peers, len(engine.tracks)) == ((URL,), 3)
        async for received in engine.tracks[2]:
            assert received.frame.width
            break
    assert engine.goodbyes[1:] == ["closed"]


@turned
async def test_an_engine_that_lets_nobody_in_disturbs_nobody() -> None:
    lobby = Lobby()
    sender, events = broadcaster(lobby, Mirror(lobby, refusal="the room is closed"))
    async with sender, lobby.room() as room:
        await elapse(1)
        assert [(event.session, event.state, event.reason) for event in events][:1] == [
            (URL, "refused", "the room is closed")
        ]
        assert [participant.state.state for participant in room.participants] == ["connected"]


def test_what_is_no_address_of_an_engine_is_refused_in_words() -> None:
    with pytest.raises(InvalidURL, match="'ws://host/room' is no address of an engine"):
        as_engine("ws://user:pass@host/room?token=secret")
    with pytest.raises(TypeError, match="an engine is named by its address, not by 7"):
        as_engine(7)
    with pytest.raises(TypeError, match="publish_to takes addresses in a list"):
        Broadcaster(Lobby().client(), Card(), publish_to="janus+ws://host/1")
    with pytest.raises(TypeError, match="room and token belong"):
        as_signaling(Lobby().client(), room="lab")
