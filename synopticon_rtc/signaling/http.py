"""Plain HTTP on the port of the signaling: what is asked for, by whom, and what is answered."""

import email.utils
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import msgspec
from multidict import CIMultiDict
from picows import WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from synopticon_rtc.errors import SignalingError

Response = WSUpgradeResponseWithListener
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")  # what gives away a proxy
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; "
        "img-src 'self' data: blob:; media-src 'self' blob: mediastream:"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address of a page may hold a token
}


@dataclass(frozen=True)
class Request:
    """A GET request.

    Attributes:
        path: Without the query, decoded.
        query: The last value of each key.
        headers: As they came.
        address: Where the client is, without the port: the connection's other end, or what a trusted proxy says.
        secure: Whether TLS protects it all the way, again as far as the server or a trusted proxy knows.
        local: Whether it comes from this machine, and not by a proxy that nobody has told the server of.
    """

    path: str
    query: Mapping[str, str]
    headers: CIMultiDict[str]
    address: str
    secure: bool
    local: bool


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

    def read(self, request: WSUpgradeRequest, peer: str, *, secure: bool) -> Request:
        """Read a request that came from ``peer``, and believe ``X-Forwarded-For`` and ``-Proto`` if it is a proxy."""
        address, trusted = peer, self._trusts(peer)
        if trusted:
            hops = [hop.strip() for value in request.headers.getall("X-Forwarded-For", []) for hop in value.split(",")]
            # Each proxy adds whom it heard from; the last that is no proxy of ours is as far as our knowledge goes.
            while hops and self._trusts(address):
                address = hops.pop()
            protocol = request.headers.get("X-Forwarded-Proto", "").strip().lower()
            secure = protocol in {"https", "wss"} if protocol else secure
        path, _, query = request.path.decode("latin-1").partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        local = is_loopback(address) and (trusted or not any(name in request.headers for name in FORWARDED))
        return Request(unquote(path), dict(pairs), request.headers, address, secure, local)

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def is_loopback(host: str) -> bool:
    """Whether a host can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def respond(
    status: HTTPStatus,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    content_type: str = "text/plain; charset=utf-8",
) -> Response:
    """Answer a request, and close its connection."""
    response = WSUpgradeResponse()
    response.version = b"HTTP/1.1"
    response.status = status
    response.body = body
    response.headers = CIMultiDict(
        {
            "Date": email.utils.formatdate(usegmt=True),
            "Content-Type": content_type,
            **SECURITY,
            **(headers or {}),
        }
    )
    if not body:  # picows writes it where there is one
        response.headers["Content-Length"] = "0"
    return Response(response, None)


def refuse(status: HTTPStatus, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Turn a request down, and say why to programs and people."""
    body = msgspec.json.encode({"error": code, "message": message})
    return respond(status, body, {"Cache-Control": "no-store", **(headers or {})}, "application/json")
