"""Links with a token, and how they are shown."""

import sys
import time
from urllib.parse import parse_qs, urlsplit

import click
import cv2
import numpy as np
import pytest

from synopticon_rtc.commands.cli import Output
from synopticon_rtc.commands.invitation import Invitation, check_base, code, origin_of
from synopticon_rtc.signaling.server.access import Role
from synopticon_rtc.signaling.server.tokens import TokenKeys

SECRET = b"a secret of this test alone: 32 bytes or more"


def make(base: str = "https://lab.example.org/", role: Role = "broadcast", room: str = "lab") -> Invitation:
    return Invitation.make(base, SECRET, role=role, room=room, lasts=90_000, name="Anna")


def test_a_link_to_broadcast_is_for_one_person_and_one_to_watch_for_many() -> None:
    for role, path, alone in (("broadcast", "/cam/camera", True), ("receive", "/cam/", False)):
        link = urlsplit(make("https://lab.example.org/cam/", role).url)  # type: ignore[arg-type]
        assert (link.path, parse_qs(link.query)["room"]) == (path, ["lab"])
        claims = TokenKeys(secret=SECRET).check(parse_qs(link.query)["token"][0])
        assert (claims.room, claims.roles, claims.name) == ("lab", frozenset({role}), "Anna")
        assert bool(claims.invitation) == alone
        assert claims.expires == pytest.approx(time.time() + 90_000, abs=60)


def test_a_link_says_who_invites() -> None:
    made = Invitation.make("https://lab/", SECRET, role="broadcast", room="", lasts=60, lab="Perception Lab")
    assert parse_qs(urlsplit(made.url).query)["lab"] == ["Perception Lab"]


def test_a_link_that_nobody_could_be_given_is_refused() -> None:
    with pytest.raises(click.UsageError, match=r"would have \d{4} characters, and 2048 are the most"):
        make(room="\U0001f600" * 100)
    text = make(room="\xe9" * 100).url
    assert code(text)


def test_each_link_is_another_one() -> None:
    assert make().url != make().url


def test_the_room_without_a_name_is_not_in_the_link_and_yet_in_its_token() -> None:
    query = parse_qs(urlsplit(make(room="").url).query)
    assert list(query) == ["token"]
    assert TokenKeys(secret=SECRET).check(query["token"][0]).room == ""


@pytest.mark.parametrize(
    ("base", "role", "words"),
    [
        ("https://lab.example.org/", "broadcast", "good for one person, until 20"),
        ("https://lab.example.org/", "receive", "good for everybody who has it, until 20"),
        ("http://192.0.2.7:8081/", "broadcast", "browsers give it no camera"),
        ("http://192.0.2.7:8081/", "receive", "others on the way can read it"),
        ("http://127.0.0.1:8081/", "broadcast", "on this machine alone"),
    ],
)
def test_it_is_told_with_what_there_is_to_know(
    base: str, role: Role, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(base, role)
    made.tell(Output(json=False), "and a note")
    said = capsys.readouterr().out
    assert made.url in said.splitlines()[0]
    assert words in said
    assert "and a note" in said
    assert "█" not in said  # nobody looks at a terminal


def test_in_a_terminal_there_is_a_code_where_it_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    made = make()
    made.tell(Output(json=False))
    said = capsys.readouterr().out
    assert all(line in said for line in code(made.url).splitlines())
    monkeypatch.setenv("COLUMNS", "40")
    made.tell(Output(json=False))
    assert "█" not in capsys.readouterr().out


def test_a_code_is_read_as_the_link_that_it_is_of() -> None:
    made = make()
    halves = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    lines = code(made.url).splitlines()
    rows = [[halves[block][half] for block in line] for line in lines for half in (0, 1)]
    picture = np.pad(np.array(rows, np.uint8).repeat(8, 0).repeat(8, 1), 32, constant_values=255)
    assert cv2.QRCodeDetector().detectAndDecode(picture)[0] == made.url


@pytest.mark.parametrize(
    "url",
    [
        "lab.example.org",
        "ws://lab/ws",
        "https://",
        "https://lab/?x=1",
        "https://lab/#x",
        "https://[::1/",
        "https://lab:99999/",
        "https://lab:0/",
        "https://lab:port/",
        "https://ex\u2100mple.org/",  # which Unicode takes for a/c
        "https://me:word@lab/",
        "https://lab/\udcff",
    ],
)
def test_what_is_no_address_of_pages_is_refused(url: str) -> None:
    with pytest.raises(click.UsageError, match="is no address of pages"):
        check_base(url)


def test_a_link_goes_below_the_address_of_the_pages() -> None:
    assert check_base("https://lab.example.org/cam") == "https://lab.example.org/cam/"
    assert origin_of("https://lab.example.org:8443/cam/") == "https://lab.example.org:8443"
