"""The signaling server: lets peers into rooms, and relays what they tell each other."""

from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.server import SignalingServer

__all__ = ["Limits", "SignalingServer"]
