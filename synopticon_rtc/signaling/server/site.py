"""The viewer's files, over plain HTTP on the port of the signaling server."""

import hashlib
from http import HTTPStatus
from pathlib import Path

from synopticon_rtc.signaling.server.http import Request, Response, respond

WEB = Path(__file__).parents[2] / "web"

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


class Site:
    """A folder, read once, of which only what was found in it can be asked for; ``/name`` is its ``name.html``."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            f"/{path.relative_to(folder).as_posix()}": (CONTENT_TYPES[path.suffix], path.read_bytes())
            for path in folder.rglob("*")
            if path.suffix in CONTENT_TYPES
        }
        pages = [path for path in self._files if path.endswith(".html")]
        self._files |= {path.removesuffix(".html"): self._files[path] for path in pages}
        if index := self._files.get("/index.html"):
            self._files["/"] = index

    def respond(self, request: Request) -> Response:
        """Answer a request (RFC 9110); ``no-cache`` with an ``ETag`` shows an upgrade at once."""
        file = self._files.get(request.path)
        if file is None:
            return respond(HTTPStatus.NOT_FOUND, b"Not found\n")
        content_type, body = file
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        known = ", ".join(request.headers.getall("If-None-Match", []))
        if known == "*" or tag in known:
            return respond(HTTPStatus.NOT_MODIFIED, b"", headers)
        return respond(HTTPStatus.OK, body, headers, content_type)
