"""Requests of HTTP, as few as an engine needs: bounded, by the proxy of the environment, in a thread of their own."""

import asyncio
import http.client
import ssl as ssl_module
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from synopticon_rtc.signaling.route import find_proxy

ANSWER_WITHIN = 10.0  # seconds
MOST = 2**17  # bytes of an answer that are read
REDIRECTS = 5
SCHEMES = frozenset({"http", "https"})
MOVED = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
"""Answers after which the same is asked elsewhere (RFC 9110, 15.4)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answers.

    Attributes:
        url: Who answered, after all redirects.
        status: Of HTTP.
        headers: As they came.
        text: What follows; what is no UTF-8 is replaced.
    """

    url: str
    status: int
    headers: Message
    text: str


def is_as_secure(target: str, url: str) -> bool:
    """Whether what is for a server at one address may go to another one, where the first has sent us."""
    return urlsplit(target).scheme in {"https", urlsplit(url).scheme}


class Web:
    """Asks servers.

    Args:
        ssl: Which certificates to trust; None for those of the system, and of ``SSL_CERT_FILE``.
    """

    def __init__(self, ssl: ssl_module.SSLContext | None = None) -> None:
        self._ssl = ssl

    async def ask(self, method: str, url: str, headers: Mapping[str, str], text: str = "") -> Reply:
        """Ask, and ask where a server sends us; a secured address never sends us to one that is not.

        Raises:
            OSError: There is no answer, or it is none of HTTP, or too long, or it leads in a circle.
        """
        for _ in range(REDIRECTS):
            reply = await asyncio.to_thread(self._ask, method, url, dict(headers), text.encode())
            where = reply.headers.get("Location")
            if reply.status not in MOVED or where is None:
                return reply
            target = urljoin(url, where)
            if not is_as_secure(target, url):
                raise ConnectionError(f"it sends us to {urlsplit(target).scheme}://, which is not secured")
            url = target
        raise ConnectionError(f"it sends us elsewhere more than {REDIRECTS} times")

    def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Reply:
        scheme = urlsplit(url).scheme
        if scheme not in SCHEMES:  # urllib reads files, too
            raise ConnectionError(f"{scheme!r:.20} is no way to ask a server")
        if scheme == "https" and self._ssl is None:
            self._ssl = ssl_module.create_default_context()
        proxy = find_proxy(f"ws{url[4:]}")
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({scheme: proxy} if proxy else {}),
            urllib.request.HTTPSHandler(context=self._ssl),
            _AsItComes(),
        )
        request = urllib.request.Request(url, body or None, headers, method=method)  # noqa: S310 - checked by the engine
        try:
            with opener.open(request, timeout=ANSWER_WITHIN) as answer:
                data = answer.read(MOST + 1)
                if len(data) > MOST:
                    raise ConnectionError(f"its answer is longer than {MOST} bytes")
                return Reply(url, answer.status, answer.headers, data.decode(errors="replace"))
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else ConnectionError(str(error.reason)) from None
        except (http.client.HTTPException, ValueError) as error:
            raise ConnectionError(f"that is no HTTP, or no address of it ({error!r:.200})") from error


class _AsItComes(urllib.request.HTTPErrorProcessor):
    """Takes every answer for one, so that the engine reads errors and redirects itself."""

    def http_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> http.client.HTTPResponse:
        """Return it."""
        del request
        return response

    https_response = http_response
