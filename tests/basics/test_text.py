"""What others say and are called, as it is printed."""

import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synopticon_rtc import Broadcaster, Receiver, Relay, SignalingClient
from synopticon_rtc.basics.text import LINE, visible
from synopticon_rtc.commands.cli import _json, _Lines
from synopticon_rtc.errors import NoCandidates, SynopticonError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("talk [final].mp4", "talk [final].mp4"),
        ("[/x] Łódź 東京 👩\u200d🔬", "[/x] Łódź 東京 👩\u200d🔬"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("one\r\ntwo", r"one\r\ntwo"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("film\udcff.mp4", r"film\udcff.mp4"),  # a file's name that is not UTF-8
    ],
)
def test_text_is_shown_as_it_is_with_control_characters_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_what_is_too_long_is_cut() -> None:
    assert visible("x" * 20, 10) == "x" * 9 + "…"
    assert visible("x" * 10, 10) == "x" * 10
    assert len(visible("\x1b" * 10**6)) == LINE


@pytest.mark.parametrize(
    "make",
    [
        lambda url, text: Broadcaster(url, name=text),
        lambda url, text: Receiver(url, name=text),
        lambda url, text: Receiver(url, broadcaster=text),
        lambda url, text: Receiver(url, streams=[text]),
        lambda url, text: Relay(url, url.replace("a", "b"), name=text),
        lambda url, text: SignalingClient(url, room=text),
    ],
)
def test_half_of_a_character_is_refused_before_anybody_is_to_be_told_it(make: Callable[[str, str], object]) -> None:
    with pytest.raises(ValueError, match=r"name of a stream must be a text|must be a text that UTF-8 can write"):
        make("ws://a.invalid/ws", "Zo\udceb")


@given(st.text(st.characters(), max_size=300), st.integers(1, 200))
def test_whatever_it_is_it_can_be_printed_in_one_line_of_that_width(text: str, width: int) -> None:
    shown = visible(text, width)
    assert len(shown) <= width
    assert len(shown.splitlines()) <= 1
    assert shown.replace("\u200c", "").replace("\u200d", "").isprintable()
    shown.encode()


@pytest.mark.parametrize("kind", [SynopticonError, NoCandidates])
def test_an_error_is_one_line_whatever_names_are_in_it(kind: type[SynopticonError]) -> None:
    assert str(kind("no broadcaster '\x1b[2J'\n  answered")) == r"no broadcaster '\x1b[2J' answered"


def test_a_line_of_the_log_is_one_line_and_a_trace_keeps_its_own() -> None:
    record = logging.LogRecord(
        "x", logging.ERROR, "", 0, "peer %s", ("a\nb\x1b",), (ValueError, ValueError("\x1b[2J"), None)
    )
    first, *lines = _Lines("%(message)s").format(record).splitlines()
    assert first == r"peer a\nb\x1b"
    assert lines == [r"ValueError: \x1b[2J"]


def test_json_holds_no_control_character() -> None:
    assert _json({"name": "\x9b\u202e\x1b"}) == r'{"name":"\u009b\u202e\u001b"}'
    assert _json({"name": "Łódź"}) == '{"name":"Łódź"}'
