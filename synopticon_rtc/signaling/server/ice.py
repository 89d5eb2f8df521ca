"""The STUN and TURN servers that the server names to its clients, with credentials that end soon."""

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence

from synopticon_rtc.errors import InvalidIceServer, SignalingError


class TurnServers:
    """STUN and TURN servers, and a secret that is shared with the latter.

    Credentials are made as in *A REST API For Access To TURN Services* (draft-uberti-behave-turn-rest-00), which coturn
    checks with ``use-auth-secret``: the username is when they end, and for whom they are; the password its HMAC-SHA1.

    Args:
        stun: ``stun:`` and ``stuns:`` URLs (RFC 7064).
        turn: ``turn:`` and ``turns:`` URLs (RFC 7065).
        secret: What is shared with the TURN servers.
        ttl: Seconds that credentials last.

    Raises:
        InvalidIceServer: An address is of another kind.
        SignalingError: There are TURN servers, and no secret.
    """

    def __init__(
        self, *, stun: Sequence[str] = (), turn: Sequence[str] = (), secret: bytes = b"", ttl: float = 3600
    ) -> None:
        for urls, schemes in ((stun, ("stun:", "stuns:")), (turn, ("turn:", "turns:"))):
            for url in urls:
                if not url.startswith(schemes) or url in schemes:
                    raise InvalidIceServer(f"{url!r} is no {schemes[0]} address: give one like {schemes[0]}HOST:PORT")
        if turn and not secret:
            raise SignalingError("TURN servers want credentials: give the secret that is shared with them")
        self._stun = list(stun)
        self._turn = list(turn)
        self._secret = secret
        self._ttl = int(ttl)

    def offer(self, whom: str) -> dict[str, object]:
        """Name the servers to a client, each like W3C's RTCIceServer (WebRTC 4.2.2), and how long they hold (s)."""
        servers: list[dict[str, object]] = []
        if self._stun:
            servers.append({"urls": self._stun})
        if self._turn:
            username = f"{int(time.time()) + self._ttl}:{whom}"
            digest = hmac.digest(self._secret, username.encode(), hashlib.sha1)
            credential = base64.b64encode(digest).decode()
            servers.append({"urls": self._turn, "username": username, "credential": credential})
        return {"iceServers": servers, "iceServersTtl": self._ttl}
