"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): one offer by HTTP, in either direction."""

import asyncio
import contextlib
import logging
import re
import ssl as ssl_module
from collections.abc import Iterator
from http import HTTPStatus
from typing import ClassVar
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import msgspec

from synopticon_rtc.engines.engine import Engine
from synopticon_rtc.engines.http import Reply, Web, is_as_secure
from synopticon_rtc.errors import InvalidURL, SignalingError, without_login
from synopticon_rtc.faces.wire import PROTOCOL as FACES
from synopticon_rtc.peers import published
from synopticon_rtc.peers.faces_beside import INSIDE
from synopticon_rtc.signaling.entry import Refusal, Token, authorization
from synopticon_rtc.signaling.messages import (
    Answer,
    Candidate,
    Discovery,
    Ice,
    Message,
    Offer,
    Relayed,
    RequestOffer,
    Seek,
    SessionDescription,
    one_line,
)
from synopticon_rtc.signaling.route import explain, find_proxy
from synopticon_rtc.signaling.session import Listener

logger = logging.getLogger(__name__)

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"  # RFC 8840
FINAL = frozenset({400, 401, 403, 405, 406, 415, 422})
"""Answers that the same request would get again. That there is nothing yet, or somebody else, may change."""
RETRY_AFTER = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts; the last goes on
GOODBYE_WITHIN = 2.0  # seconds for the last request
LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,]*))*)')
PARAMETER = re.compile(r';\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,]*))')
ESCAPED = re.compile(r"\\(.)")


class Http(Engine):
    """What WHIP and WHEP have in common.

    The endpoint is sent each offer in a POST, further candidates in PATCHes where it takes them, and a DELETE at the
    end. A connection that is lost is followed by a new one, with a resource of its own: aiortc cannot restart ICE.

    Args:
        url: Of the endpoint, with ``whip+`` or ``whep+`` before ``https:`` or ``http:``; a ``token`` in its query is
            used as if it was given by itself.
        token: What the endpoint wants to see of us.
        ssl: Which certificates to trust.

    Attributes:
        role: What one does by the endpoint.
        hint: What to do else, in words.

    Raises:
        InvalidURL: It is no such address.
    """

    role: ClassVar[str]
    hint: ClassVar[str]

    def __init__(self, url: str, *, token: Token | None = None, ssl: ssl_module.SSLContext | None = None) -> None:
        self._endpoint, shown, inside = _read(url)
        self._token = token or inside
        self._web = Web(ssl)
        super().__init__(shown)
        self._messages: asyncio.Queue[Relayed] = asyncio.Queue()
        self._resource: str | None = None
        self._tag: str | None = None
        self._trickles = True
        self._met = False  # whether it has ever taken an offer
        self._offer: Offer | None = None
        self._origin: tuple[str, ...] = ()  # of the last offer

    def configure(self) -> None:
        """Do nothing: an endpoint wants to know nothing."""

    def listen(self, listener: Listener) -> None:
        """Add a listener; one that wants to do what the endpoint is not for is told so."""
        super().listen(listener)
        if self.role not in listener.requirements.role:
            listener.failed(SignalingError(f"{self.url} is an endpoint to {self.role} by: {self.hint}"))

    def send(self, message: Message) -> None:
        """Have a message worked off, after those that wait."""
        if self.session is not None and isinstance(message, Relayed):
            self._messages.put_nowait(message)

    async def flush(self) -> None:
        """Wait until the endpoint has been told all, a moment at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_WITHIN):
                await self._messages.join()

    async def _stay_connected(self) -> None:
        self._messages = asyncio.Queue()
        self._offer = self._resource = None
        await self._learn()
        self._begin(self.url)
        self._start()
        while True:
            message = await self._messages.get()
            try:
                await self._work_off(message)
            finally:
                self._messages.task_done()

    def _start(self) -> None:
        """Begin: nothing, where the other side does."""

    async def _work_off(self, message: Relayed) -> None:
        match message:
            case Discovery():
                self._want()
            case Offer() if message.sdp.origin != self._origin:  # else it is repeated, perhaps in vain
                self._offer, self._origin = message, message.sdp.origin
                await self._post(message)
            case Ice(bye=bye) if bye is not None:
                self._offer = None
                await self._delete()
            case Ice() if self._resource is not None and self._trickles:
                await self._patch([candidate for candidate in (message.candidate, *message.more) if candidate])
            case _:
                pass

    def _want(self) -> None:
        """Take note that a receiver looks for a broadcaster."""

    def _failed(self, reason: str) -> None:
        """Have the connection given up that an offer was for."""
        self._offer = None
        self._hand_round(Ice(source_session=self.url, bye=reason))

    async def _request(self, method: str, url: str, headers: dict[str, str] | None = None, text: str = "") -> Reply:
        return await self._web.ask(method, url, await authorization(self._token) | (headers or {}), text)

    async def _learn(self) -> None:
        """Ask what STUN and TURN servers there are; endpoints that do not say so before an offer are fine."""
        with contextlib.suppress(OSError):
            reply = await self._request("OPTIONS", self._endpoint)
            self._take_servers(reply)

    def _take_servers(self, reply: Reply) -> None:
        if servers := list(_servers(reply.headers.get_all("Link", []))):
            self.ice_servers = servers

    async def _post(self, offer: Offer) -> None:
        """Make a resource."""
        await self._delete()
        try:
            headers = {"Content-Type": SDP, "Accept": SDP}
            reply = await self._request("POST", self._endpoint, headers, offer.sdp.sdp)
        except OSError as error:
            trouble = explain(error, self._endpoint, find_proxy(f"ws{self._endpoint[4:]}"))
            reason = f"{self.url} {trouble.verdict}: {trouble.reason}"
            if trouble.final and not self._met:  # what worked once will work again
                raise SignalingError(reason) from error
            self._failed(reason)
            return
        if reply.status != HTTPStatus.CREATED:
            reason = f"{self.url} refuses: {_explain(reply)}"
            if reply.status in FINAL and not (reply.status == HTTPStatus.UNAUTHORIZED and callable(self._token)):
                raise SignalingError(reason)
            self._failed(reason)
            return
        self._met = True
        where = urljoin(reply.url, reply.headers.get("Location", ""))
        self._resource = where if where != reply.url and is_as_secure(where, reply.url) else None
        if self._resource is None:
            logger.warning("%s names no Location that is as secure: nothing can be taken back at the end", self.url)
        self._tag, self._trickles = reply.headers.get("ETag"), True
        self._take_servers(reply)
        self._hand_round(Answer(source_session=self.url, sdp=SessionDescription("answer", reply.text)))

    async def _patch(self, candidates: list[Candidate]) -> None:
        """Tell of further candidates, unless the endpoint does not take them."""
        assert self._offer is not None  # noqa: S101 - there is a resource
        assert self._resource is not None  # noqa: S101 - as above
        headers = {"Content-Type": FRAGMENT} | ({"If-Match": self._tag} if self._tag is not None else {})
        try:
            reply = await self._request("PATCH", self._resource, headers, _fragment(self._offer.sdp.sdp, candidates))
        except OSError as error:
            logger.info("%s was not told of a candidate: %s", self.url, one_line(str(error)))
            return
        if reply.status >= HTTPStatus.BAD_REQUEST:
            self._trickles = False
            logger.info("%s takes no further candidates: %s", self.url, _explain(reply))

    async def _delete(self) -> None:
        """Take the resource back."""
        resource, self._resource = self._resource, None
        if resource is not None:
            try:
                await self._request("DELETE", resource)
            except OSError as error:
                logger.info("%s was not told of an end: %s", self.url, one_line(str(error)))


class Whip(Http):
    """Publishes to an endpoint of WHIP (RFC 9725)."""

    faces = "video"
    role = "broadcast"
    hint = "receive from the WHEP endpoint of the same server, whep+https://..."

    def __init__(self, url: str, *, token: Token | None = None, ssl: ssl_module.SSLContext | None = None) -> None:
        super().__init__(url, token=token, ssl=ssl)
        self._delays: Iterator[float] = iter(())
        self._again: asyncio.TimerHandle | None = None

    def _start(self) -> None:
        self._delays = iter(RETRY_AFTER)
        self._ask()

    def _ask(self) -> None:
        """Have the broadcasters that listen here make an offer: of the video, and of faces in it and beside it."""
        accept = {"faces": [FACES, INSIDE], "streams": [published.PROTOCOL], "bye": ["words"], "ice": ["more"]}
        self._hand_round(Seek(source_session=self.url, name=self.url, accept=accept))

    async def _work_off(self, message: Relayed) -> None:
        await super()._work_off(message)
        if isinstance(message, Ice) and message.bye is not None:
            self._ask_later()

    async def _post(self, offer: Offer) -> None:
        await super()._post(offer)
        if self._resource is not None:
            self._delays = iter(RETRY_AFTER)

    def _failed(self, reason: str) -> None:
        super()._failed(reason)
        self._ask_later()

    def _ask_later(self) -> None:
        if self._again is None:
            delay = next(self._delays, RETRY_AFTER[-1])
            self._again = asyncio.get_running_loop().call_later(delay, self._ask_again)

    def _ask_again(self) -> None:
        self._again = None
        if self.session is not None:
            self._ask()


class Whep(Http):
    """Receives from an endpoint of WHEP (draft-ietf-wish-whep), which is sent an offer to receive."""

    role = "receive"
    hint = "publish to the WHIP endpoint of the same server, whip+https://..."

    def _want(self) -> None:
        if self._offer is None:
            accept = {"offers": ["receiving"], "bye": ["words"], "ice": ["more"]}
            self._hand_round(RequestOffer(source_session=self.url, name=self.url, accept=accept))


def _read(url: str) -> tuple[str, str, str | None]:
    """Return the address of an endpoint, the same as it is shown, and the token in it.

    Raises:
        InvalidURL: It is none.
    """
    kind, _, endpoint = url.partition("+")
    parts = urlsplit("")
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good:
        shown = without_login(url.partition("?")[0])
        raise InvalidURL(
            f"{shown!r} is no address of an endpoint: give one like {kind}+https://host/{kind}/room/name, "
            "and a token by itself"
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    token = query.pop("token", None)
    endpoint = parts._replace(query=urlencode(query), fragment="").geturl()
    return endpoint, f"{kind}+{endpoint}", token


def _servers(links: list[str]) -> Iterator[dict[str, str]]:
    """Give the ICE servers of ``Link`` headers (RFC 9725, 4.6), like W3C's RTCIceServer."""
    for link in links:
        for match in LINK.finditer(link):
            found = {
                name.lower(): ESCAPED.sub(r"\1", quoted) or plain for name, quoted, plain in PARAMETER.findall(match[2])
            }
            if found.get("rel", "").lower() == "ice-server":
                login = {key: found[key] for key in ("username", "credential") if key in found}
                yield {"urls": match[1], **login}


def _fragment(offer: str, candidates: list[Candidate]) -> str:
    """Write candidates as RFC 8840 has it, for the one section that carries everything."""
    lines = offer.splitlines()
    media = next(line for line in lines if line.startswith("m="))
    shared = [next((line for line in lines if line.startswith(what)), "") for what in ("a=ice-ufrag:", "a=ice-pwd:")]
    mid = next((line for line in lines if line.startswith("a=mid:")), "a=mid:0")
    told = [f"a={candidate.candidate}" for candidate in candidates]
    return "".join(f"{line}\r\n" for line in [*shared, media, mid, *told] if line)


def _explain(reply: Reply) -> str:
    """Say what an answer that is none says, in words."""
    try:
        said = str(msgspec.json.decode(reply.text, type=Refusal))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        plain = reply.headers.get_content_type() == "text/plain"
        said = one_line(reply.text) if plain else ""
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "an answer of its own"
    return f"HTTP {reply.status} {phrase}" + (f": {said}" if said else "")
