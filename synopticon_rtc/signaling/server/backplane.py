"""What joins several signaling servers: a way to publish to the others and to hear from them."""

from collections.abc import Callable, Sequence
from typing import Protocol


class Backplane(Protocol):
    """Messages by subject, at most once each, in the order in which one server published them.

    A subject is a few words with dots between. In a subscription ``*`` stands for one word, and ``>`` at the end for
    one or more, as in NATS. What is published while it is not connected is lost; nothing ever waits for it.
    """

    @property
    def connected(self) -> bool:
        """Whether what is published now reaches the others."""
        ...

    async def open(
        self,
        subjects: Sequence[str],
        on_message: Callable[[str, bytes], None],
        on_connected: Callable[[bool], None],
    ) -> None:
        """Subscribe, and stay connected until closed.

        Returns at once; it may be connected later, lose the connection and have it again, and every time tells so.
        Messages come only while it is connected.

        Args:
            subjects: What to hear of. Messages of one of them come in order; those of two may overtake each other.
            on_message: Called with the subject and the payload of each message that another server published.
            on_connected: Called with True when all subscriptions stand, with False when the connection is lost.
        """
        ...

    def publish(self, subject: str, payload: bytes) -> None:
        """Send to all who subscribed to the subject, without waiting."""
        ...

    async def close(self) -> None:
        """Send what is published already, and disconnect."""
        ...


class LocalBackplane:
    """The backplane of a server that is alone: there is nobody to publish to."""

    connected = True

    async def open(
        self,
        subjects: Sequence[str],
        on_message: Callable[[str, bytes], None],
        on_connected: Callable[[bool], None],
    ) -> None:
        """Nobody will be heard."""

    def publish(self, subject: str, payload: bytes) -> None:
        """Nobody hears it."""

    async def close(self) -> None:
        """There is nothing to close."""
