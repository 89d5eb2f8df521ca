"""Errors that nobody foresaw, in what a peer can repeat at will."""

import logging

logger = logging.getLogger(__name__)


class Surprise:
    """Tells an error with its trace the first time, and quietly from then on: a peer must not fill a log."""

    def __init__(self) -> None:
        self._told = False

    def tell(self, what: str) -> None:
        """Tell of the error that is being handled."""
        logger.log(logging.DEBUG if self._told else logging.ERROR, "%s", what, exc_info=True)
        self._told = True
