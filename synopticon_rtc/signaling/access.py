"""What an application that admits participants itself imports; it lives in :mod:`synopticon_rtc.signaling.server`."""

from synopticon_rtc.signaling.server.access import CanConnect, Participant, Role, roles_meet

__all__ = ["CanConnect", "Participant", "Role", "roles_meet"]
