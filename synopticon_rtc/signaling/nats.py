"""What an application that joins servers imports; it lives in :mod:`synopticon_rtc.signaling.server`."""

from synopticon_rtc.signaling.server.nats import NatsBackplane

__all__ = ["NatsBackplane"]
