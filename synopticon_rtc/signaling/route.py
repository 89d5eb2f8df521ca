"""The way to a signaling server: by which proxy, trusting which certificates; and why it cannot be gone, in words."""

import ipaddress
import socket
import ssl
import urllib.request
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from websockets.client import process_exception
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.http11 import Response
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from synopticon_rtc.errors import without_login
from synopticon_rtc.signaling.addresses import PATH, source_for
from synopticon_rtc.signaling.entry import read_refusal
from synopticon_rtc.signaling.messages import one_line

PATIENCE = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
SERVER_ERROR = 500  # and above (RFC 9110, 15.6)
CLOCK = frozenset({9, 10})  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED
NAMES = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH


class Trouble(NamedTuple):
    """Why a server cannot be used.

    Attributes:
        verdict: What is to be said of the server: ``is not there``.
        reason: How that shows, and what to do about it.
        final: Whether another attempt will fail as well.
    """

    verdict: str
    reason: str
    final: bool


def find_proxy(url: str) -> str | None:
    """Find the proxy by which the environment wants a server to be asked; this machine's are asked by none."""
    host = urlsplit(url).hostname or ""
    if is_own(host) or _is_left_out(host):
        return None
    proxy = get_proxy(parse_uri(url))
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"  # as curl reads it


def is_own(host: str) -> bool:
    """Whether a host is this machine, as far as can be told without asking anybody."""
    name = host.lower().rstrip(".")
    own = socket.gethostname().lower()
    if name in {"localhost", own, f"{own}.local"} or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    address = _read_address(name)
    if address is None:
        return False
    if address.is_loopback or address.is_unspecified:
        return True
    return source_for(str(address)) == str(address)  # what is our own is reached from itself


def _read_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address in any spelling that the system knows, like ``127.1``."""
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        address = ipaddress.ip_address(infos[0][4][0])
    except (OSError, ValueError):
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_left_out(host: str) -> bool:
    """Whether ``NO_PROXY`` names a network that a host is in, which Python does not look for."""
    address = _read_address(host)
    for entry in urllib.request.getproxies().get("no", "").split(",") if address else ():
        try:
            if address in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                return True
        except ValueError:
            continue  # a name
    return False


def explain(error: Exception, url: str, proxy: str | None = None) -> Trouble:
    """Say why a server that was asked, perhaps by a proxy, cannot be used."""
    trouble = _explain(error, url)
    if proxy is None:
        return trouble
    return trouble._replace(
        reason=f"{trouble.reason}; it was asked by the proxy {without_login(proxy)}, as the environment says: "
        "NO_PROXY names what is asked without"
    )


def _explain(error: Exception, url: str) -> Trouble:  # noqa: C901, PLR0911 - a table
    final = process_exception(error) is not None
    text = one_line(str(error)) or type(error).__name__
    match error:
        case InvalidStatus(response=response):
            return _explain_answer(response, url)
        case ssl.SSLCertVerificationError():
            return Trouble("cannot be trusted", _explain_certificate(error), True)
        case ssl.SSLError():
            return Trouble("speaks no TLS that we do", f"{text}; is it a ws:// address, or another port?", True)
        case ConnectionResetError() | InvalidMessage(__cause__=EOFError()):
            hint = "; does it want wss://?" if url.startswith("ws:") else ""
            return Trouble("is not there", f"it closed the connection without an answer{hint}", False)
        case ConnectionClosed(rcvd=close) if close is not None:
            return Trouble(
                "turns us down", f"{one_line(close.reason) or 'it closed the session'} ({close.code})", False
            )
        case InvalidMessage():
            answer = one_line(str(error.__cause__ or error))
            return Trouble("is no signaling server", f"it answers otherwise ({answer}); is the port right?", True)
        case InvalidURI(uri=uri):
            return Trouble("has moved", f"it sends us to {without_login(one_line(uri))}: give its ws:// address", True)
        case InvalidProxy(msg=words):
            return Trouble("cannot be reached", f"that is no proxy: {words}", True)
        case InvalidProxyStatus(response=response):
            return _explain_proxy(response)
        case ProxyError():
            return Trouble("cannot be reached", text, False)
        case ImportError():
            return Trouble("cannot be reached", "SOCKS proxies need python-socks: pip install python-socks", True)
    return Trouble("is no signaling server" if final else "is not there", text, final)


def _explain_answer(response: Response, url: str) -> Trouble:
    status = response.status_code
    if refusal := read_refusal(response):
        said = str(refusal)
    elif response.headers.get("Content-Type", "").startswith("text/plain") and response.body:
        said = f"{_phrase(status)}: {one_line(bytes(response.body).decode('utf-8', 'replace'))}"
    else:
        said = _phrase(status)
    final = status < SERVER_ERROR and status not in PATIENCE
    if refusal is not None or status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Trouble("refuses", said, final)
    if not final:
        return Trouble("is not there", f"it answers {said}", False)
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    usual = parts._replace(path=path if path.endswith(PATH) else path + PATH)
    hint = "is the port right?" if usual.path == parts.path else f"is the path right? Most have it at {usual.geturl()}"
    return Trouble("is no signaling server", f"it answers {said}; {hint}", True)


def _explain_certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in CLOCK:
        advice = "have it renewed, or set this machine's clock"
    elif error.verify_code in NAMES:
        advice = "use a name that the certificate is for"
    else:
        advice = "give the certificate of its authority with --ca FILE, in SSL_CERT_FILE, or in the context ssl="
    return f"its certificate: {one_line(error.verify_message).rstrip('.')}; {advice}"


def _explain_proxy(response: Response) -> Trouble:
    status = response.status_code
    hint = "; put name and password into its address" if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else ""
    return Trouble("cannot be reached", f"the proxy answers {_phrase(status)}{hint}", status < SERVER_ERROR)


def _phrase(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"
