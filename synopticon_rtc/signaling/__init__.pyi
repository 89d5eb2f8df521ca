from .client import SignalingClient
from .server.limits import Limits
from .server.server import SignalingServer

__all__ = ["Limits", "SignalingClient", "SignalingServer"]
