"""Who may watch: what an application is told of those who ask, before anything is sent to them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Visitor:
    """A receiver that asks for the streams of a broadcaster.

    Attributes:
        session: Its signaling session, for which the signaling server vouches.
        name: What it calls itself, for which nobody vouches; empty where it gives no name.
    """

    session: str
    name: str = ""


Admit: TypeAlias = Callable[[Visitor], Awaitable[bool]]
"""Tells whether a receiver may watch."""
