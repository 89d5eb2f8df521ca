"""Calling what users pass in."""

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)


def call(callback: Callable[..., object] | None, *arguments: object) -> None:
    """Call a callback, if there is one; its exceptions are logged, as they would end tasks that others live on."""
    if callback is None:
        return
    try:
        callback(*arguments)
    except Exception:
        logger.exception("a callback failed: %r", callback)
