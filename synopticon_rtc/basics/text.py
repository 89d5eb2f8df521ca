"""Text of others, made fit to be printed."""

LINE = 4096  # characters of a line: more is no message, but an attack on whoever reads it
WORDS = 200  # of what somebody else says in it
NAME = 80  # of what somebody else is called
JOINERS = "\u200c\u200d"  # invisible, and part of how some languages and emoji are written


def is_unicode(text: str) -> bool:
    """Whether others can be told a text: Python keeps what is no UTF-8 as halves of characters, which none can send."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


def check_text(option: str, text: object) -> None:
    """Refuse what is no text that others can be told.

    Args:
        option: What it was given as.
        text: What may be one.

    Raises:
        TypeError: It is no text.
        ValueError: It has halves of characters.
    """
    if not isinstance(text, str):
        raise TypeError(f"{option} must be a text, not {text!r:.100}")
    if not is_unicode(text):
        raise ValueError(f"{option} must be a text that UTF-8 can write, not {text!r:.100}")


def visible(text: str, width: int = LINE) -> str:
    """Return a text as a terminal may be given it: as it is, but with each control character as Python writes it.

    Those are what moves the cursor, rings, colours, turns the direction of writing round or begins a new line, and
    halves of characters, which no terminal can be given. What is longer than ``width`` characters is cut.
    """
    shown = "".join(
        each if each.isprintable() or each in JOINERS else each.encode("unicode_escape").decode()
        for each in text[: width + 1]
    )
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"
