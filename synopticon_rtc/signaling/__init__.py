"""Signaling: how broadcasters and receivers find each other through a Synopticon server."""

from synopticon_rtc.signaling.client import SignalingClient
from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.server import SignalingServer

__all__ = ["Limits", "SignalingClient", "SignalingServer"]
