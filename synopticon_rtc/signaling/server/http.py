"""Plain HTTP on the port of the signaling (RFC 9110, RFC 9112): what is asked for, by whom, and what is answered."""

import email.utils
import ipaddress
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import msgspec
from multidict import CIMultiDict

from synopticon_rtc.errors import SignalingError
from synopticon_rtc.signaling.addresses import is_loopback, read_address
from synopticon_rtc.signaling.server.limits import BODY_BYTES, HEAD_BYTES, HEAD_FIELDS

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e\x80-\xff]+) HTTP/(\d)\.(\d)" % TOKEN.pattern)
CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
ABSOLUTE = re.compile(rb"(?i:https?|wss?)://([^/?#]*)(.*)")
HOST = re.compile(r"(\[[0-9A-Za-z:.%_~-]+\]|[^\[\]:/?#@\s]+?)\.?(?::\d*)?")
METHODS = frozenset({"GET", "HEAD"})
OTHER_METHODS = frozenset({"POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
RESOURCES = (b"/whip/", b"/whep/", b"/sessions/")
"""What paths begin with where other methods may be answered, too."""
WEBSOCKET_VERSIONS = frozenset({"13", "8"})  # 8 is a draft with the same frames, which old clients ask for
KEY_BYTES = 16

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")  # what gives away a proxy
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; "
        "img-src 'self' data: blob:; media-src 'self' blob: mediastream:"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address of a page may hold a token
}


FRESH = {"Cache-Control": "no-store"}


class Refused(Exception):
    """A request is turned down.

    Attributes:
        status: The HTTP status.
        code: Why, for programs.
        message: Why, for people.
        headers: What else is told.
    """

    def __init__(self, status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers


@dataclass(frozen=True)
class Head:
    """What stands before the empty line of a request.

    Attributes:
        method: ``GET`` or ``HEAD``, or for paths of :data:`RESOURCES` another one.
        target: What is asked for: path and query, as they came.
        upgrades: Whether it asks for an upgrade to a WebSocket (RFC 6455, 4.2.1).
        headers: As they came, but for a host that the target names.
    """

    method: str
    target: str
    upgrades: bool
    headers: CIMultiDict[str]

    @property
    def length(self) -> int:
        """Bytes that follow.

        Raises:
            Refused: Nobody can tell, or they are too many.
        """
        if "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "length_required", "A request says how long it is")
        try:
            (said,) = set(self.headers.getall("Content-Length", ["0"]))
            length = int(said) if said.isascii() and said.isdigit() else -1
        except ValueError:
            length = -1
        if length < 0:
            raise Refused(HTTPStatus.BAD_REQUEST, "bad_request", "The length of the request is none")
        if length > BODY_BYTES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"A request has at most {BODY_BYTES} bytes of content"
            )
        return length


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        path: Without the query, decoded.
        query: The last value of each key.
        headers: As they came.
        upgrades: Whether it asks for an upgrade to a WebSocket.
        address: Where the client is, without the port: the connection's other end, or what a trusted proxy says.
        secure: Whether TLS protects it all the way, again as far as the server or a trusted proxy knows.
        method: What is to be done.
        body: What came with it.
        local: Whether it comes from this machine, by a name of this machine, and not by a proxy that nobody has told
            the server of. A page elsewhere can have its own name lead here (DNS rebinding).
    """

    path: str
    query: Mapping[str, str]
    headers: CIMultiDict[str]
    upgrades: bool
    address: str
    secure: bool
    local: bool
    method: str = "GET"
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """An answer.

    Attributes:
        status: The HTTP status.
        headers: All but what the connection adds.
        body: What follows.
    """

    status: HTTPStatus
    headers: Mapping[str, str]
    body: bytes

    def write(self, method: str) -> list[bytes]:
        """Write it, as the last thing that its connection carries."""
        fields = {"Date": email.utils.formatdate(usegmt=True), **self.headers, "Connection": "close"}
        if self.status is not HTTPStatus.NOT_MODIFIED:  # it would be the length of what is not sent (RFC 9110, 8.6)
            fields["Content-Length"] = str(len(self.body))
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{key}: {fields[key]}" for key in fields)]
        head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
        return [head] if method == "HEAD" else [head, self.body]


def read_head(data: bytes) -> Head:
    """Read a request, up to its empty line.

    Raises:
        Refused: It is none, or none that is answered here.
    """
    if len(data) > HEAD_BYTES:
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "The request is too large")
    line, *fields = data.split(b"\r\n")
    match = REQUEST_LINE.fullmatch(line)
    if not match:
        raise Refused(HTTPStatus.BAD_REQUEST, "bad_request", "This is no HTTP request")
    if match[3] != b"1":
        raise Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "bad_version", "HTTP/1.1 and HTTP/1.0 are spoken here")
    if len(fields) > HEAD_FIELDS:
        raise Refused(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", f"A request may have {HEAD_FIELDS} header fields"
        )
    headers = _read_fields(fields)
    method, target, newest = match[1].decode(), match[2], match[4] != b"0"
    hosts = headers.getall("Host", [])
    if len(hosts) > 1 or (newest and not hosts) or not all(HOST.fullmatch(host) for host in hosts if host):
        raise Refused(HTTPStatus.BAD_REQUEST, "bad_request", "A request names one Host (RFC 9112, 3.2)")
    if absolute := ABSOLUTE.fullmatch(target):  # whoever takes this server for a proxy: its word counts (3.2.2)
        headers["Host"], target = absolute[1].decode("latin-1"), absolute[2]
    if method in OTHER_METHODS and not target.startswith(RESOURCES):
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "bad_method", "Ask by GET or HEAD", {"Allow": "GET, HEAD"})
    if method not in METHODS | OTHER_METHODS:
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, "bad_method", "There is no such method")
    upgrades = (
        newest  # RFC 9110, 7.8
        and method == "GET"
        and "upgrade" in _listed(headers, "Connection")
        and "websocket" in _listed(headers, "Upgrade")
    )
    return Head(method, target.decode("latin-1"), upgrades, headers)


def _read_fields(fields: Sequence[bytes]) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for field in fields:
        name, colon, value = field.partition(b":")
        if not colon or not TOKEN.fullmatch(name) or CONTROLS.search(value):
            raise Refused(HTTPStatus.BAD_REQUEST, "bad_request", "A header field is malformed")
        headers.add(name.decode(), value.strip(b" \t").decode("latin-1"))
    return headers


def _listed(headers: CIMultiDict[str], name: str) -> set[str]:
    return {item.strip().lower() for value in headers.getall(name, []) for item in value.split(",")}


def check_upgrade(request: Request) -> None:
    """Check that an upgrade to a WebSocket is asked for as it should be.

    Raises:
        Refused: It is not.
    """
    headers = request.headers
    if not request.upgrades:
        raise Refused(
            HTTPStatus.UPGRADE_REQUIRED, "upgrade_required", "A WebSocket opens here", {"Upgrade": "websocket"}
        )
    if headers.get("Sec-WebSocket-Version") not in WEBSOCKET_VERSIONS:
        raise Refused(
            HTTPStatus.UPGRADE_REQUIRED,
            "upgrade_required",
            "A WebSocket of version 13 opens here",
            {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
        )
    try:
        (key,) = headers.getall("Sec-WebSocket-Key", [])
        length = len(b64decode(key, validate=True))
    except ValueError:
        length = 0
    body = "Transfer-Encoding" in headers or set(headers.getall("Content-Length", ["0"])) != {"0"}
    if length != KEY_BYTES or body:
        raise Refused(HTTPStatus.BAD_REQUEST, "bad_request", "An upgrade has a Sec-WebSocket-Key, and no body")


class Proxies:
    """The reverse proxies whose word counts.

    Args:
        addresses: Addresses and networks, like ``127.0.0.1`` or ``10.0.0.0/8``.

    Raises:
        SignalingError: One of them is no address and no network.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._networks: list[Network] = []
        for address in addresses:
            try:
                self._networks.append(ipaddress.ip_network(address))
            except ValueError:
                raise SignalingError(
                    f"{address!r} is no address of a proxy: give one like 127.0.0.1, or a network like 10.0.0.0/8"
                ) from None

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def read(self, head: Head, peer: str, *, secure: bool, body: bytes = b"") -> Request:
        """Read a request that came from ``peer``, and believe ``X-Forwarded-For`` and ``-Proto`` if it is a proxy."""
        headers, address, trusted = head.headers, peer, peer in self
        if trusted:
            hops = [hop for value in headers.getall("X-Forwarded-For", []) for hop in value.split(",")]
            # Each proxy adds whom it heard from; the last that is no proxy of ours is as far as our knowledge goes.
            while hops and address in self:
                address = read_address(hops.pop())
            protocol = headers.get("X-Forwarded-Proto", "").strip().lower()
            secure = protocol in {"https", "wss"} if protocol else secure
        path, _, query = head.target.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        direct = trusted or not any(name in headers for name in FORWARDED)
        local = is_loopback(address) and direct and _is_of_this_machine(headers.get("Host"))
        path = unquote(path) or "/"
        return Request(path, dict(pairs), headers, head.upgrades, address, secure, local, head.method, body)


def _is_of_this_machine(host: str | None) -> bool:
    """Whether a ``Host`` header names this machine; only clients that are no browsers send none."""
    match = HOST.fullmatch(host or "localhost")
    return match is not None and is_loopback(match[1].strip("[]").lower())


def lead_to_tls(head: Head) -> Response:
    """Answer whoever speaks plain HTTP where TLS is spoken: a page is led on, a WebSocket is told.

    Raises:
        Refused: There is no page to lead to.
    """
    host = head.headers.get("Host", "")
    if head.upgrades or not host or not head.target.startswith("/"):
        raise Refused(
            HTTPStatus.FORBIDDEN, "tls_required", "TLS is spoken here: use wss://, and https:// for pages and links"
        )
    words = b"This address begins with https:// here, not with http://\n"
    return respond(HTTPStatus.PERMANENT_REDIRECT, words, {"Location": f"https://{host}{head.target}", **FRESH})


def respond(
    status: HTTPStatus,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    content_type: str = "text/plain; charset=utf-8",
) -> Response:
    """Answer a request."""
    return Response(status, {"Content-Type": content_type, **SECURITY, **(headers or {})}, body)


def refuse(status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Turn a request down, and say why to programs and people."""
    body = msgspec.json.encode({"error": code, "message": message})
    return respond(status, body, FRESH | dict(headers or {}), "application/json")
