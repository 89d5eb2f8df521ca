"""Who sees LSL streams is read from the lab's settings as liblsl reads them; without any, it is this machine alone."""

import socket
from pathlib import Path

import pytest

from synopticon_rtc.errors import SynopticonError
from synopticon_rtc.recording.lab import LabSettings, keep_on_this_machine

UNUSED = socket.SOCK_SEQPACKET
"""A kind of socket that there is none of."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has no settings, in a folder that has none."""
    monkeypatch.delenv("LSLAPICFG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "lsl_api").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_without_settings_it_is_this_machine_alone() -> None:
    settings = LabSettings.read()
    assert (settings.path, settings.seen_by) == (None, "programs on this machine alone")


def test_settings_that_name_no_scope_let_nobody_else_see(home: Path) -> None:
    (home / "lsl_api" / "lsl_api.cfg").write_text("; of the lab\n[lab]\nSessionID = room 3\n[ports]\nMulticastPort=5\n")
    settings = LabSettings.read()
    assert (settings.scope, settings.session, settings.multicast_port) == ("machine", "room 3", 5)
    assert settings.seen_by == "programs on this machine alone, in the LSL session room 3"


def test_settings_say_who_sees_it(home: Path) -> None:
    path = home / "lsl_api" / "lsl_api.cfg"
    path.write_text("[multicast]\nResolveScope = link\n")
    assert LabSettings.read().seen_by == (
        f"everybody who reaches this machine over the network, as {path} has ResolveScope = link"
    )


def test_the_nearest_settings_count(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[multicast]\nResolveScope = {}\n"
    (home / "lsl_api" / "lsl_api.cfg").write_text(text.format("global"))
    assert LabSettings.read().scope == "global"
    Path("lsl_api.cfg").write_text(text.format("site"))
    assert LabSettings.read().scope == "site"
    Path("named.cfg").write_text(text.format("link"))
    monkeypatch.setenv("LSLAPICFG", "named.cfg")
    assert LabSettings.read().scope == "link"
    monkeypatch.setenv("LSLAPICFG", "gone.cfg")
    assert LabSettings.read().scope == "site"


@pytest.mark.parametrize("bad", [b"ResolveScope = global\n", b"[ports]\nMulticastPort = many\n", b"\xff\xfe"])
def test_settings_that_nobody_understands_let_nobody_else_see(bad: bytes) -> None:
    Path("lsl_api.cfg").write_bytes(bad)
    assert LabSettings.read() == LabSettings()


def test_where_there_is_nothing_to_keep_on_this_machine_it_says_so() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        kinds = {(socket.AF_INET, kind): frozenset({free.getsockname()[1]}) for kind in (socket.SOCK_DGRAM, UNUSED)}
        with pytest.raises(SynopticonError, match="not all of its sockets are found"):
            keep_on_this_machine(kinds)


def test_what_is_kept_on_this_machine_still_hears_this_machine() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kept,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        kept.bind(("127.0.0.1", 0))
        keep_on_this_machine({(socket.AF_INET, socket.SOCK_DGRAM): frozenset({kept.getsockname()[1]})})
        kept.settimeout(10)
        other.sendto(b"hello", kept.getsockname())
        assert kept.recv(16) == b"hello"
