"""What objects that live in an ``async with`` say to those who use them outside of it."""


def entered_before(what: object) -> RuntimeError:
    """Make the error for one that can be entered only once."""
    kind = type(what).__name__
    return RuntimeError(f"a {kind} can be entered only once: make another one for each `async with`")


def not_open(what: object) -> RuntimeError:
    """Make the error for one that was not entered yet, or was left."""
    kind = type(what).__name__
    starts = ", or after `await ....start()`" if hasattr(what, "start") else ""
    return RuntimeError(f"this {kind} is not open: use it inside `async with {kind}(...) as ...:`{starts}")
