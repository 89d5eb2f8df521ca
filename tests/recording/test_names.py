import datetime as dt
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synopticon_rtc.basics.filename import fit
from synopticon_rtc.errors import RecordingError
from synopticon_rtc.peers.tap import Origin
from synopticon_rtc.recording.names import LONGEST, Names

AT = dt.datetime(2026, 11, 27, 12, 30, tzinfo=dt.UTC)
SAID = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="./\\ ~-:$\0\n\u202ecCoOnNlLpPtT1\u00b9\u0301\ud800", max_size=12),
)


@settings(deadline=None, max_examples=300)
@given(name=SAID, session=SAID)
@example(name="..", session="../..")
@example(name="/etc/passwd", session="")
@example(name="C:\\Windows\\x", session="")
@example(name="nul.txt", session="")
@example(name="COM\u00b9 .x", session="")
@example(name="{session}{0.__class__}%s", session="")
@example(name="\U0001f600" * 300, session="")
@example(name="a\0b\x1b[31m", session="")
def test_no_words_of_a_stranger_lead_out_of_the_folder(name: str, session: str) -> None:
    with TemporaryDirectory() as folder:
        path = Names(f"{folder}/all/{{name}}/of-{{session}}.mkv")(Origin(name, session, None), AT)
        path.touch(exist_ok=False)
        assert path.resolve().parent.parent == Path(folder).resolve() / "all"
        for part in path.parts[-2:]:
            assert part not in {"", ".", ".."}
            assert part.isprintable()
            assert not set(part) & set('/\\:*?"<>|')
            assert part == part.strip(" .")
            assert len(part.encode()) < 255
            stem = part.split(".")[0].strip().lower()
            assert stem not in {"con", "prn", "aux", "nul", "com1", "lpt1", "com\u00b9"}


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("lab-1", "lab-1"),
        ("Frau Müller (links)", "Frau Müller (links)"),
        ("Mu\u0308ller", "Müller"),
        ("a/../b", "a_.._b"),
        (" .hidden. ", "hidden"),
        ("...", ""),
        ("///", ""),
        ("é" * 80, "é" * 50),
    ],
)
def test_a_name_stays_as_it_is_as_far_as_every_system_takes_it(said: str, written: str) -> None:
    assert fit(said, LONGEST) == written


def test_who_has_no_name_is_called_by_the_session(tmp_path: Path) -> None:
    names = Names(f"{tmp_path}/{{name}}.mkv")
    assert names(Origin("..", "ws_1", None), AT).name == "ws_1.mkv"
    assert names(Origin("", "", None), AT).name == "nobody.mkv"
    assert names(Origin("con", "", None), AT).name == "_con.mkv"


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    names = Names(f"{tmp_path}/{{name}}.mkv")
    first, second = (names(Origin("lab", "", None), AT) for _ in range(2))  # neither is there yet
    second.touch()
    (tmp_path / "lab-3.mkv").symlink_to(tmp_path / "nowhere")
    assert [path.name for path in (first, second, names(Origin("lab", "", None), AT))] == [
        "lab.mkv",
        "lab-2.mkv",
        "lab-4.mkv",
    ]


def test_the_time_has_the_format_that_the_pattern_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = AT.astimezone()
    made = Names(f"{tmp_path}/{{start:%Y/%m}}/{{start}}.mkv")(Origin("", "", None), AT)
    assert made == tmp_path / f"{local:%Y}" / f"{local:%m}" / f"{local:%Y-%m-%d_%H-%M-%S}.mkv"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Names("{name}.mkv").folder == Path()
    assert Names("~/all/x{name}.mkv").folder == tmp_path / "home" / "all"
    assert Names("a}}b/{name}.mkv").folder == Path("a}b")
    assert Names("/{name}.mkv").folder == Path("/")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{nmae}.mkv", "it may have {name}, {session}, {start:"),
        ("{name!r}.mkv", "it may have"),
        ("{name:>9999}.mkv", "it may have"),
        ("{name.__class__}.mkv", "it may have"),
        ("{start:{name}}.mkv", "it may have"),
        ("{name.mkv", "is no pattern"),
        ("{name}/../{start}.mkv", "there can be no"),
        ("{start:..}/{name}.mkv", "there can be no"),
        ("{start:%Y/..}/{name}.mkv", "there can be no"),
        ("a\0b.mkv", "there can be no"),
        ("{start:\udcff}.mkv", "is no pattern"),
        ("{name}.mp4", r"is a .mkv or .webm file"),
        ("{name}" * 3 + ".mkv", "too long"),
    ],
)
def test_what_is_no_pattern_is_an_error_that_says_why(pattern: str, words: str) -> None:
    with pytest.raises(RecordingError, match=words.replace("{", r"\{")):
        Names(pattern)


def test_a_folder_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    names = Names(f"{tmp_path}/file/below/{{name}}.mkv")
    with pytest.raises(RecordingError, match="cannot be made: Not a directory"):
        names.prepare()
    made = Names(f"{tmp_path}/all/{{name}}.mkv")
    made.prepare()
    assert os.access(made.folder, os.W_OK)


def test_a_pattern_may_have_the_slashes_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sep", "\\")
    names = Names("films\\{name}\\{start:%H-%M}.mkv")
    assert names.folder == Path("films")
