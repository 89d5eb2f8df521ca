"""A data channel that never queues without limit."""

import logging
from collections.abc import Callable

from aiortc import RTCDataChannel

from synopticon_rtc.basics.faults import Faults
from synopticon_rtc.rtc.association import Association

logger = logging.getLogger(__name__)

MAX_BUFFERED = 65_536


class Channel:
    """A data channel.

    Args:
        channel: aiortc's channel.
        max_buffered: Bytes that may wait to be sent before messages are dropped.
        faults: What counts errors that nobody foresaw, as in what is called here.
    """

    def __init__(
        self, channel: RTCDataChannel, *, max_buffered: int = MAX_BUFFERED, faults: Faults | None = None
    ) -> None:
        self.on_open: Callable[[], None] | None = None
        """Called when the channel opens."""
        self.on_message: Callable[[bytes | str], None] | None = None
        """Called with each message."""
        self.on_close: Callable[[], None] | None = None
        """Called when it is closed, by either end or with the connection."""
        self._channel = channel
        self._max_buffered = max_buffered
        self._faults = faults or Faults()
        self._told = False  # that a message is too large: there may be one a frame
        channel.on("open", self._opened)
        channel.on("message", self._received)
        channel.on("close", self._closed)

    @property
    def label(self) -> str:
        """The name that its creator gave it."""
        return self._channel.label

    @property
    def protocol(self) -> str:
        """The subprotocol that its creator named, or nothing."""
        return self._channel.protocol

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._channel.readyState == "open"

    def send(self, message: bytes | str) -> bool:
        """Send a message, or drop it.

        Returns:
            Whether it was sent: not when the channel is not open, when too much waits before it, or when it is larger
            than the peer takes.
        """
        if not self.is_open or self._channel.bufferedAmount > self._max_buffered:
            return False
        try:
            self._channel.send(message)
        except ValueError as error:
            logger.log(
                logging.DEBUG if self._told else logging.WARNING, "a message on %r is dropped: %s", self.label, error
            )
            self._told = True
            return False
        return True

    @property
    def came(self) -> int:
        """Datagrams that the peer has sent so far over the connection, whatever is in them."""
        return self._association.came

    def make_patient(self, on_progress: Callable[[], None]) -> None:
        """Have it yield to all other channels of the connection: it sends only while there is :attr:`room`.

        Args:
            on_progress: Called when there may be more room, or all has arrived; once where several channels of a
                connection give the same.
        """
        self._association.make_patient(self._channel, on_progress)

    @property
    def room(self) -> float:
        """Bytes that all patient channels of the connection may send now."""
        return self._association.room

    @property
    def piece(self) -> int:
        """Bytes that a patient channel best sends at once, so that others wait no longer than they must."""
        return self._association.window.piece

    @property
    def outstanding(self) -> int:
        """Bytes that patient channels of the connection have sent, and that have not arrived as far as is known."""
        return self._association.outstanding

    @property
    def _association(self) -> Association:
        association = self._channel.transport
        assert isinstance(association, Association)  # noqa: S101 - or PeerConnection has not adopted it
        return association

    def close(self) -> None:
        """Close the channel at both ends."""
        self._channel.close()

    def _opened(self) -> None:
        self._faults.call(self.on_open)

    def _closed(self) -> None:
        self._faults.call(self.on_close)
        self.on_open = self.on_message = self.on_close = None  # they hold who holds this

    def _received(self, message: bytes | str) -> None:
        self._faults.call(self.on_message, message)
