"""Takes streams that are published by WHIP into rooms of this server: received once, and sent on without decoding."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.relaying import Relay
from synopticon_rtc.rtc import sdp
from synopticon_rtc.rtc.network import LocalNetwork
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.messages import (
    Answer,
    Candidate,
    Discovery,
    Ice,
    Message,
    Offer,
    SessionDescription,
    one_line,
)
from synopticon_rtc.signaling.session import Signaling

logger = logging.getLogger(__name__)

PUBLISHER = "publisher"
ANSWER_WITHIN = 8.0  # seconds


class Ingest:
    """Has a :class:`Relay` for each publisher: a broadcaster in the room, whose source is the publisher's connection.

    Args:
        udp_ports: The lowest and the highest UDP port on which publishers, and receivers, reach it; None for any.
        announce: Addresses at which this machine is reached from outside on the same ports.

    Raises:
        ValueError: ``udp_ports`` is no range, or one of ``announce`` no address.
    """

    def __init__(self, udp_ports: tuple[int, int] | None = None, announce: tuple[str, ...] = ()) -> None:
        self._network = LocalNetwork(udp_ports, announce)

    async def take(
        self, offer: str, client: SignalingClient, name: str, ended: Callable[[str], None], ice_servers: object = None
    ) -> tuple[str, "Published"]:
        """Answer the offer of a publisher, and broadcast what comes of it.

        Args:
            offer: The publisher's.
            client: The way to its room.
            name: By which receivers shall know it.
            ended: Called with the reason when it ends, also by :meth:`Published.aclose`.
            ice_servers: STUN and TURN servers by which the publisher may reach it, each like W3C's RTCIceServer.

        Raises:
            SynopticonError: The offer cannot be used.
        """
        sdp.read_offer(offer)  # else it would be as much work, and be logged, as a peer that fails
        posted = _Posted(offer, name, ice_servers)
        relay = Relay(posted, client)
        relay.share(self._network)
        await relay.start()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                answer = await posted.answer
        except TimeoutError:
            await relay.aclose()
            raise SynopticonError("no answer could be made in time") from None
        except BaseException:
            await relay.aclose()
            raise
        return answer, Published(posted, relay, ended)


class Published:
    """A publisher, until it goes."""

    def __init__(self, posted: "_Posted", relay: Relay, ended: Callable[[str], None]) -> None:
        self._posted = posted
        self._relay = relay
        self._ended = ended
        self._task = asyncio.create_task(self._run(), name="ingest")

    async def add(self, candidates: list[Candidate]) -> None:
        """Take further candidates of the publisher."""
        self._posted.add(candidates)

    async def aclose(self) -> None:
        """End it; a second call waits for the first."""
        self._posted.left("it has taken its resource back")
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        closed = asyncio.create_task(self._relay.wait_closed())
        reason = "the server ends"
        try:
            ends: list[asyncio.Future[Any]] = [closed, self._posted.gone]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._posted.gone.done():
                reason = self._posted.gone.result()
            elif (error := closed.exception()) is not None:
                reason = str(error)
        finally:
            closed.cancel()
            with contextlib.suppress(asyncio.CancelledError, SynopticonError):
                await closed
            await self._relay.aclose()
            self._ended(reason)


class _Posted(Signaling):
    """The way to a publisher that has posted an offer: one broadcaster, which offers once.

    Attributes:
        answer: What it is answered.
        gone: Why it is not there any more.
    """

    def __init__(self, offer: str, name: str, ice_servers: object) -> None:
        super().__init__(PUBLISHER)
        self.ice_servers = ice_servers
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[str] = loop.create_future()
        self.gone: asyncio.Future[str] = loop.create_future()
        accept = {"offers": ["whole"], "bye": ["words"], "ice": []}
        description = SessionDescription("offer", offer)
        self._offer: Offer | None = Offer(source_session=PUBLISHER, name=name, accept=accept, sdp=description)

    async def _stay_connected(self) -> None:
        self._begin("ingest")
        await asyncio.Event().wait()

    def configure(self) -> None:
        """Do nothing: it wants to know nothing."""

    async def flush(self) -> None:
        """Do nothing: nothing waits."""

    def send(self, message: Message) -> None:
        """Take what the receiver says."""
        match message:
            case Discovery() if self._offer is not None:
                asyncio.get_running_loop().call_soon(self._hand_round, self._offer)
                self._offer = None
            case Answer(sdp=sdp) if not self.answer.done():
                self.answer.set_result(sdp.sdp)
            case Ice(bye=bye) if bye is not None:
                reason = one_line(bye)
                if not self.answer.done():
                    self.answer.set_exception(SynopticonError(reason))
                self.left(reason)
            case _:
                pass

    def add(self, candidates: list[Candidate]) -> None:
        """Hand candidates of the publisher on."""
        self._hand_round(Ice(source_session=PUBLISHER, candidate=candidates[0], more=candidates[1:]))

    def left(self, reason: str) -> None:
        """Take note that it is gone."""
        if not self.gone.done():
            self.gone.set_result(reason)
