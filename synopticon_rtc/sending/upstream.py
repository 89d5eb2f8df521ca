"""What a broadcaster that passes on the streams of another one knows of that."""

from typing import Protocol


class Upstream(Protocol):
    """The broadcaster whose streams are passed on."""

    @property
    def relays(self) -> tuple[str, ...]:
        """Who passes them on, from the first to us; no more than are told of."""
        ...  # pragma: no cover

    @property
    def recorded(self) -> bool:
        """Whether anybody records what it sends."""
        ...  # pragma: no cover

    def time(self) -> tuple[float, float]:
        """Return its time, seconds since the epoch, and by how much that may be wrong, seconds."""
        ...  # pragma: no cover
