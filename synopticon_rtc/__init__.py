"""Real-time face streaming over WebRTC: video on a track, face landmarks on a data channel beside it."""

import lazy_loader

# What is public stands in __init__.pyi. It is imported when it is asked for: a signaling server needs no video.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
