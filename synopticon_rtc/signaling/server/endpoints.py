"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): those who speak HTTP alone come into rooms, and watch them.

Whoever watches is a session of the room like all others, for which this server speaks: its offer goes to the
broadcaster, whose answer comes back, and what both send each other passes no server. Whoever publishes has one
connection, and a room many receivers: so something has to receive it and to send it on, if the server has that.
"""

import asyncio
import contextlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from synopticon_rtc.errors import InvalidMessage, SynopticonError
from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.messages import (
    Answer,
    AnyMessage,
    Candidate,
    Configure,
    Error,
    Ice,
    Offer,
    PeerLeft,
    Ping,
    Requirements,
    SessionDescription,
    decode,
    one_line,
)
from synopticon_rtc.signaling.server.access import RECEIVERS, Participant, Role
from synopticon_rtc.signaling.server.gate import Gate
from synopticon_rtc.signaling.server.guest import Guest, InsideClient
from synopticon_rtc.signaling.server.http import FRESH, Refused, Request, Response, refuse, respond
from synopticon_rtc.signaling.server.hub import Hub
from synopticon_rtc.signaling.server.ice import TurnServers
from synopticon_rtc.signaling.server.tokens import Claims

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
ANSWER_WITHIN = 8.0  # seconds for a broadcaster to answer: less than it takes a client to give up
ALIVE_EVERY = 10.0  # seconds between signs of life of those who are spoken for
MOST_CANDIDATES = 64  # in one request
METHODS = {"whip": "POST, OPTIONS", "whep": "POST, OPTIONS", "sessions": "PATCH, DELETE, OPTIONS"}
SHARED = "Authorization, Content-Type, If-Match"
TOLD = "Location, ETag, Link, Accept-Post, Accept-Patch"
USER = re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)
DATA = re.compile(r"^m=application (?!0 )", re.MULTILINE)

log = logging.getLogger("synopticon_rtc.signaling.server")


class Ingested(Protocol):
    """What is received of one publisher, and sent on."""

    async def add(self, candidates: list[Candidate]) -> None:
        """Take further candidates of the publisher."""

    async def aclose(self) -> None:
        """End it."""


class Ingest(Protocol):
    """Receives what is published by HTTP, and sends it on."""

    async def take(
        self, offer: str, client: SignalingClient, name: str, ended: Callable[[str], None], ice_servers: object
    ) -> tuple[str, Ingested]:
        """Answer the offer of a publisher, and broadcast what comes of it.

        Args:
            offer: The publisher's.
            client: The way to its room.
            name: By which receivers shall know it.
            ended: Called with the reason when it ends, also by :meth:`Ingested.aclose`.
            ice_servers: STUN and TURN servers by which the publisher may reach it, each like W3C's RTCIceServer.

        Raises:
            SynopticonError: The offer cannot be used, or the room not be entered.
        """
        ...


@dataclass(eq=False)
class _Resource:
    """What one POST has opened.

    Attributes:
        id: By which it is asked for: whoever knows it may, if it also has the same token.
        token: What it was opened with; empty without.
        user: The ICE user name of its offer.
        tag: Of its ICE session; it never has another.
    """

    id: str
    token: str
    user: str
    tag: str = field(default_factory=lambda: f'"{secrets.token_hex(8)}"')

    async def add(self, candidates: list[Candidate]) -> None:
        """Pass candidates on."""
        raise NotImplementedError

    async def close(self) -> None:
        """End it."""
        raise NotImplementedError


@dataclass(eq=False)
class _Watching(_Resource):
    """Somebody who watches: the session that is spoken for, and that of the broadcaster."""

    guest: Guest = field(kw_only=True)
    peer: str = field(kw_only=True)
    task: asyncio.Task[None] | None = None

    async def add(self, candidates: list[Candidate]) -> None:
        self.guest.say(Ice(target_session=self.peer, candidate=candidates[0], more=candidates[1:]))

    async def close(self) -> None:
        self.guest.say(Ice(target_session=self.peer, bye="it has taken its resource back"))
        await self.guest.close()


@dataclass(eq=False)
class _Publishing(_Resource):
    """Somebody who publishes."""

    ingested: Ingested = field(kw_only=True)

    async def add(self, candidates: list[Candidate]) -> None:
        await self.ingested.add(candidates)

    async def close(self) -> None:
        await self.ingested.aclose()


class Endpoints:
    """Answers ``/whip/ROOM/NAME``, ``/whep/ROOM/NAME`` and ``/sessions/ID``; without ROOM it is that of the token.

    Args:
        hub: Where sessions meet.
        gate: Who may open one.
        ingest: What receives from publishers; None where the server has no such thing.
        ice_servers: STUN and TURN servers to name.
    """

    def __init__(self, hub: Hub, gate: Gate, ingest: Ingest | None, ice_servers: TurnServers | None) -> None:
        self._hub = hub
        self._gate = gate
        self._ingest = ingest
        self._ice_servers = ice_servers
        self._resources: dict[str, _Resource] = {}
        self._names: set[tuple[str, str]] = set()  # room and name of those who publish, or are about to
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def covers(request: Request) -> bool:
        """Whether a request is for one of these."""
        return request.path.startswith(tuple(f"/{kind}/" for kind in METHODS))

    async def answer(self, request: Request, check: Callable[[Request], tuple[Claims, str]]) -> Response:
        """Answer a request; pages of allowed origins may read that (Fetch, 3.2).

        Args:
            request: It.
            check: Tells what its token says, and its holder; it raises :class:`Refused` where there is no way in.
        """
        origin = request.headers.get("Origin")
        shared: dict[str, str] = {}
        try:
            self._gate.check_origin(request)
            if origin is not None:
                shared = {
                    "Access-Control-Allow-Origin": origin,
                    "Access-Control-Expose-Headers": TOLD,
                    "Vary": "Origin",
                }
            response = await self._answer(request, check)
        except Refused as refused:
            response = refuse(refused.status, refused.code, refused.message, refused.headers)
        return replace(response, headers={**response.headers, **shared})

    async def close(self) -> None:
        """End all."""
        await asyncio.gather(*(self._end(resource) for resource in list(self._resources.values())))
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _answer(self, request: Request, check: Callable[[Request], tuple[Claims, str]]) -> Response:
        _, kind, *segments = request.path.split("/")
        allowed = METHODS[kind]
        if request.method == "OPTIONS":
            return respond(
                HTTPStatus.NO_CONTENT,
                headers={
                    **FRESH,
                    "Allow": allowed,
                    "Access-Control-Allow-Methods": allowed,
                    "Access-Control-Allow-Headers": SHARED,
                    **({"Accept-Patch": FRAGMENT} if kind == "sessions" else {"Accept-Post": SDP}),
                },
            )
        if request.method not in allowed:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "bad_method", f"There is {allowed} here", {"Allow": allowed})
        if kind == "sessions":
            return await self._change(request, segments)
        *room, name = segments if 0 < len(segments) < 3 else [""]  # noqa: PLR2004  # ROOM and NAME
        if not name:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"Streams are at /{kind}/ROOM/NAME, or /{kind}/NAME")
        offer = _read_body(request, SDP)
        claims, holder = check(replace(request, query=dict(request.query) | ({"room": room[0]} if room else {})))
        wanted: frozenset[Role] = frozenset({"broadcast"}) if kind == "whip" else RECEIVERS
        if claims.roles is not None and claims.roles.isdisjoint(wanted):
            raise Refused(HTTPStatus.FORBIDDEN, "not_allowed", f"This token does not give the role {min(wanted)}")
        enter = lambda: self._hub.admit_guest(claims, request.address, holder)  # noqa: E731  # for whoever comes again
        opened = (
            self._publish(offer, claims, name, enter) if kind == "whip" else self._watch(offer, claims, name, enter)
        )
        answer, resource = await opened
        resource.token = _token(request)
        self._resources[resource.id] = resource
        headers = {"Location": f"/sessions/{resource.id}", "ETag": resource.tag, "Accept-Patch": FRAGMENT, **FRESH}
        if link := self._links(claims):
            headers["Link"] = link
        return respond(HTTPStatus.CREATED, answer.encode(), headers, SDP)

    def _named(self, claims: Claims) -> Any:  # noqa: ANN401 - a list, each like W3C's RTCIceServer
        """Name STUN and TURN servers, with credentials."""
        if self._ice_servers is None:
            return []
        return self._ice_servers.offer(claims.subject or secrets.token_hex(4))["iceServers"]

    def _links(self, claims: Claims) -> str:
        """Name STUN and TURN servers (RFC 9725, 4.6)."""
        links = []
        for server in self._named(claims):
            login = "".join(f'; {key}="{server[key]}"' for key in ("username", "credential") if key in server)
            kind = '; credential-type="password"' if login else ""
            links += [f'<{url}>; rel="ice-server"{login}{kind}' for url in server["urls"]]
        return ", ".join(links)

    # Those who watch

    async def _watch(self, offer: str, claims: Claims, name: str, enter: Callable[[], Guest]) -> tuple[str, _Resource]:
        who = self._find(claims.room or "", name)
        if who is None:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", "Nobody of this name broadcasts in this room (yet)")
        guest = enter()
        try:
            guest.say(Configure(requirements=Requirements(role=("receive",), tell=("peers", "errors"))))
            # It can be told of no candidate later; of data channels it knows if it has a section for them.
            accept = {"offers": ["receiving"], "bye": ["words"], "ice": [], "faces": ["sei"]}
            if DATA.search(offer):
                accept["faces"] = ["faces/1"]
            guest.say(Offer(target_session=who.session, accept=accept, sdp=SessionDescription("offer", offer)))
            async with asyncio.timeout(ANSWER_WITHIN):
                answer = await _answer_to(guest, who.session)
        except TimeoutError:
            await self._let_go(guest, who.session)
            raise Refused(
                HTTPStatus.GATEWAY_TIMEOUT,
                "no_answer",
                "The broadcaster does not answer: it may be a page, which takes no offers, or waits to admit somebody",
            ) from None
        except BaseException:
            await self._let_go(guest, who.session)
            raise
        watching = _Watching(secrets.token_urlsafe(16), "", _user(offer), guest=guest, peer=who.session)
        task = asyncio.create_task(self._look_after(watching), name=f"guest {guest.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer, watching

    @staticmethod
    async def _let_go(guest: Guest, peer: str) -> None:
        guest.say(Ice(target_session=peer, bye="it waits no more"))
        await guest.close()

    def _find(self, room: str, name: str) -> Participant | None:
        there = self._hub.rooms.get(room)
        known = (peer.who for peer in there or () if peer.who.broadcasts)
        return next((who for who in known if name in {who.name, who.session}), None)

    async def _look_after(self, watching: _Watching) -> None:
        """Keep a session alive until the broadcaster lets it go."""
        guest = watching.guest
        with contextlib.suppress(ConnectionClosed):
            while True:
                try:
                    async with asyncio.timeout(ALIVE_EVERY):
                        message = _read(await guest.recv())
                except TimeoutError:
                    guest.say(Ping())
                    continue
                match message:
                    case Ice(source_session=session, bye=bye) if session == watching.peer and bye is not None:
                        break
                    case PeerLeft(session=session) if session == watching.peer:
                        break
        self._resources.pop(watching.id, None)
        await guest.close()

    # Those who publish

    async def _publish(
        self, offer: str, claims: Claims, name: str, enter: Callable[[], Guest]
    ) -> tuple[str, _Resource]:
        if self._ingest is None:
            raise Refused(
                HTTPStatus.NOT_IMPLEMENTED, "no_ingest", "This server takes no streams itself: start it with --whip"
            )
        room, name = claims.room or "", claims.name or name
        place = room, name
        if place in self._names or self._find(room, name) is not None:
            raise Refused(HTTPStatus.CONFLICT, "name_taken", "Somebody of this name broadcasts in this room already")
        self._names.add(place)
        id_ = secrets.token_urlsafe(16)

        def ended(reason: str) -> None:
            log.info("publisher %s in room %r ends: %s", one_line(name), room, one_line(reason))
            self._names.discard(place)
            self._resources.pop(id_, None)
            first.end(CloseCode.NORMAL_CLOSURE, reason[:100])  # of one that sent nothing, nobody has had it

        try:
            first = enter()
        except BaseException:
            self._names.discard(place)
            raise
        try:
            answer, ingested = await self._ingest.take(
                offer, InsideClient(first, enter), name, ended, self._named(claims)
            )
        except BaseException as error:
            self._names.discard(place)
            await first.close()
            if isinstance(error, SynopticonError):
                raise Refused(HTTPStatus.BAD_REQUEST, "bad_offer", one_line(str(error))) from error
            raise
        return answer, _Publishing(id_, "", _user(offer), ingested=ingested)

    # What was opened

    async def _change(self, request: Request, segments: list[str]) -> Response:
        resource = self._resources.get(segments[0]) if len(segments) == 1 else None
        if resource is None:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", "There is no such session (any more)")
        if not hmac.compare_digest(resource.token.encode(), _token(request).encode()):
            raise Refused(HTTPStatus.FORBIDDEN, "not_allowed", "This session was opened with another token")
        if request.method == "DELETE":
            await self._end(resource)
            return respond(HTTPStatus.OK, headers=FRESH)
        text = _read_body(request, FRAGMENT)
        match = request.headers.get("If-Match")
        if match is None:
            raise Refused(HTTPStatus.PRECONDITION_REQUIRED, "no_tag", "If-Match names the ETag of the session")
        user = USER.search(text)
        if match == "*" or (user is not None and user[1] != resource.user):
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY, "no_restart", "ICE is not restarted here: open another session"
            )
        if match != resource.tag:
            raise Refused(HTTPStatus.PRECONDITION_FAILED, "wrong_tag", "If-Match names another ETag")
        if candidates := _read_fragment(text):
            await resource.add(candidates)
        return respond(HTTPStatus.NO_CONTENT, headers=FRESH)

    async def _end(self, resource: _Resource) -> None:
        self._resources.pop(resource.id, None)
        await resource.close()


async def _answer_to(guest: Guest, peer: str) -> str:
    """Wait for the answer of a broadcaster."""
    while True:
        try:
            message = _read(await guest.recv())
        except ConnectionClosed as error:
            reason = error.rcvd.reason if error.rcvd is not None else ""
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "closed", one_line(reason) or "The session ended") from None
        match message:
            case Answer(source_session=session, sdp=sdp) if session == peer:
                return sdp.sdp
            case Ice(source_session=session, bye=bye, refused=refused) if session == peer and bye is not None:
                status = HTTPStatus.FORBIDDEN if refused else HTTPStatus.BAD_REQUEST
                raise Refused(status, "refused", f"The broadcaster refuses: {one_line(bye)}")
            case PeerLeft() | Error(error_code="target_not_found"):
                raise Refused(HTTPStatus.NOT_FOUND, "not_found", "The broadcaster has just left")
            case Error(error_code="not_allowed", error=text):
                raise Refused(HTTPStatus.FORBIDDEN, "not_allowed", one_line(text))
            case _:
                continue


def _read(text: str) -> AnyMessage | None:
    try:
        return decode(text)
    except InvalidMessage:
        return None


def _read_body(request: Request, kind: str) -> str:
    """Return the content of a request, if it is of this kind.

    Raises:
        Refused: It is of another, or empty.
    """
    said = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if said != kind:
        raise Refused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "bad_type", f"Send {kind} here, not {one_line(said[:100]) or 'nothing'}"
        )
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        text = ""
    if not text.strip():
        raise Refused(HTTPStatus.BAD_REQUEST, "bad_request", "There is nothing in the request, or no text")
    return text


def _read_fragment(text: str) -> list[Candidate]:
    """Read the candidates of a fragment of a description (RFC 8840, 9)."""
    mid: str | None = None
    found: list[Candidate] = []
    for line in text.splitlines():
        if line.startswith("a=mid:"):
            mid = line[6:].strip()
        elif line.startswith("a=candidate:") and len(found) < MOST_CANDIDATES:
            found.append(Candidate(line[2:].strip(), mid))
    return found


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.query.get("token", "")


def _user(offer: str) -> str:
    match = USER.search(offer)
    return match[1] if match else ""
