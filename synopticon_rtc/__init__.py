"""Real-time face streaming over WebRTC: video on a track, face landmarks on a data channel beside it."""
