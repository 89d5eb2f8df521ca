"""What those who run a server ask it: is it alive, does it take new sessions, what does it do."""

from http import HTTPStatus

from synopticon_rtc.signaling.server.http import FRESH, Request, Response, refuse, respond
from synopticon_rtc.signaling.server.hub import Hub
from synopticon_rtc.signaling.server.metrics import CONTENT_TYPE, Metrics


class Operations:
    """Answers ``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        hub: What there is to be told.
        public: Whether metrics are for everybody, instead of for this machine alone.
    """

    def __init__(self, hub: Hub, *, public: bool) -> None:
        self._hub = hub
        self._public = public
        self._metrics = Metrics(hub)

    def respond(self, request: Request) -> Response | None:
        """Answer a request, if it is for one of these."""
        match request.path:
            case "/healthz":
                return respond(HTTPStatus.OK, b"alive\n", FRESH)
            case "/readyz":
                return self._respond_ready()
            case "/metrics" if self._public or request.local:
                return respond(HTTPStatus.OK, self._metrics.render(), FRESH, CONTENT_TYPE)
            case "/metrics":
                return refuse(HTTPStatus.FORBIDDEN, "metrics_local", "Metrics are for this machine alone")
            case _:
                return None

    def _respond_ready(self) -> Response:
        if self._hub.draining:
            return respond(HTTPStatus.SERVICE_UNAVAILABLE, b"draining\n", FRESH)
        if not self._hub.cluster.connected:
            return respond(HTTPStatus.SERVICE_UNAVAILABLE, b"cut off from the backplane\n", FRESH)
        return respond(HTTPStatus.OK, b"ready\n", FRESH)
