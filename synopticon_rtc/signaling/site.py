"""The viewer's files, over plain HTTP on the port of the signaling server."""

import email.utils
import hashlib
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

WEB = Path(__file__).parent.parent / "web"

# Not the system's table, which may call a module "text/plain"; a kind that is not here is not served.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
}
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; "
        "img-src 'self' data: blob:; media-src 'self' blob: mediastream:"
    ),
    "X-Content-Type-Options": "nosniff",
}


class Site:
    """A folder, read once, of which only what was found in it can be asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            f"/{path.relative_to(folder).as_posix()}": (CONTENT_TYPES[path.suffix], path.read_bytes())
            for path in folder.rglob("*")
            if path.suffix in CONTENT_TYPES
        }
        if index := self._files.get("/index.html"):
            self._files["/"] = index

    def respond(self, request: Request) -> Response:
        """Answer a GET or HEAD request (RFC 9110); ``no-cache`` with an ``ETag`` shows an upgrade at once."""
        if request.method not in {"GET", "HEAD"}:
            return _response(request, HTTPStatus.METHOD_NOT_ALLOWED, b"GET only\n", {"Allow": "GET, HEAD"})
        file = self._files.get(unquote(request.path.partition("?")[0]))
        if file is None:
            return _response(request, HTTPStatus.NOT_FOUND, b"Not found\n")
        content_type, body = file
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if tag in ", ".join(request.headers.get_all("If-None-Match")):
            return _response(request, HTTPStatus.NOT_MODIFIED, b"", headers)
        return _response(request, HTTPStatus.OK, body, {"Content-Type": content_type, **headers})


def _response(request: Request, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> Response:
    fields = {
        "Date": email.utils.formatdate(usegmt=True),
        "Connection": "close",
        "Content-Length": str(len(body)),
        "Content-Type": "text/plain; charset=utf-8",
        **SECURITY,
        **(headers or {}),
    }
    return Response(status.value, status.phrase, Headers(fields), b"" if request.method == "HEAD" else body)
