"""The life of each peer in a trace, in words and as a picture."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synopticon_rtc.commands.trace import draw, read, tell
from synopticon_rtc.errors import TraceError
from synopticon_rtc.tracing import (
    Begin,
    End,
    Event,
    Figures,
    Keyframe,
    Layer,
    Pair,
    Pairing,
    Rate,
    Signal,
    State,
)

BEGIN = Begin(role="broadcaster", time="2026-11-27T12:00:00+00:00", version="0.1.0", python="3.11", system="Linux")
CALL: list[Event] = [
    BEGIN,
    Signal(at=0.1, peer="ws_1", sent=True, message={"type": "webrtc_offer", "name": "lab"}),
    Signal(at=0.2, peer="ws_1", sent=False, message={"type": "webrtc_ice", "bye": "closed"}),
    Pair(at=0.2, peer="ws_1", local="host 10.0.0.1:1", remote="relay 10.0.0.2:2", state="chosen"),
    State(at=0.3, peer="ws_1", state="connected", reason="connected with ws_1"),
    Figures(at=1.0, peer="ws_1", packets_sent=100, frames_sent=30, bitrate=1e6, fps=30.0, rtt=0.02),
    Figures(at=2.0, peer="ws_1", packets_sent=200, frames_sent=60, retransmits=7, bitrate=9e5, fps=29.5, loss=0.04),
    Rate(at=2.1, peer="ws_1", bearable=500_000.0, reason="packets are lost"),
    Layer(at=2.2, peer="ws_1", scale=2, bitrate=400_000),
    Keyframe(at=2.2, peer="ws_1", reason="the peer asks for it"),
    Figures(at=3.0, peer="ws_1", packets_sent=250, frames_sent=80, retransmits=7, bitrate=4e5, fps=20.0, bearable=5e5),
    Pairing(at=3.0, frames=80, frames_with_faces=70, faces_messages=75, faces_late=5, invalid_faces=0, delay=0.05),
    End(at=3.5),
]


def written(path: Path, events: list[Event] = CALL, more: bytes = b"") -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events) + more)
    return path


def told(events: list[Event]) -> list[str]:
    return [line.strip() for line in tell(events)]


def test_a_life_is_told_in_order() -> None:
    lines = told(CALL)
    at = lines.index("peer ws_1")
    assert lines[at + 1 : at + 11] == [
        "0.10 s  sent webrtc_offer of lab",
        "0.20 s  received webrtc_ice, a goodbye: closed",
        "0.20 s  the way from host 10.0.0.1:1 to relay 10.0.0.2:2 is chosen",
        "0.30 s  connected: connected with ws_1",
        "2.00 s  sent 60 frames in 200 packets, 29.5 fps at 900 kbit/s, 7 packets sent again, 4.0% lost",
        "2.10 s  the link is thought to bear 500 kbit/s: packets are lost",
        "2.20 s  to be sent the video in 1/2 of its sides at 400 kbit/s",
        "2.20 s  a keyframe is asked for: the peer asks for it",
        "3.00 s  sent 20 frames in 50 packets, 20 fps at 400 kbit/s, bears 500 kbit/s",
        *lines[at + 10 : at + 11],
    ]
    assert "3.00 s  paired 80 frames, 70 with faces, 5 came before their faces, 50 ms from capture" in lines
    assert "3.50 s  the trace ends: closed" in lines


def test_figures_are_summed_up_for_ten_seconds_and_no_longer() -> None:
    figures = [Figures(at=float(second), peer="ws_1", packets_sent=10 * second) for second in range(1, 25)]
    lines = told([BEGIN, *figures, End(at=25.0)])
    assert [line.split(" s  ")[0] for line in lines if "packets" in line] == ["9.00", "19.00", "24.00"]


def test_a_program_that_was_killed_is_told() -> None:
    assert told(CALL[:-1])[-1] == "It breaks off after 3.0 s: the program did not end by itself."


def test_what_others_are_called_is_no_command_to_a_terminal() -> None:
    evil = "\x1b[2J\u202e"
    events = [Signal(peer=evil, sent=True, message={"type": evil, "name": evil}), State(peer=evil, state=evil)]
    assert all(line.isprintable() for line in tell([BEGIN, *events]))


def test_lines_that_are_none_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "trace.jsonl", CALL[:-1], b'nonsense\n{"event":"unheard of"}\n{"event":"en')
    assert list(read(path)) == CALL[:-1]
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        f"line {number} is left out" for number in (13, 14, 15)
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n", "is no trace: its first line is no event"),
        (b'{"event":"end"}\n', "is no trace: its first line does not say who wrote it"),
    ],
)
def test_what_is_no_trace_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=words):
        list(read(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(CALL) - 1), st.integers(0, 300), st.binary(max_size=3)), max_size=8))
def test_a_damaged_trace_is_told_as_far_as_it_goes(tmp_path: Path, damage: list[tuple[int, int, bytes]]) -> None:
    lines = [msgspec.json.encode(event) for event in CALL]
    for which, at, what in damage:
        lines[which] = lines[which][:at] + what + lines[which][at + len(what) :]
    path = tmp_path / "damaged"
    path.write_bytes(b"\n".join(lines))
    try:
        list(tell(list(read(path))))
    except TraceError:
        assert damage


def test_it_is_drawn(tmp_path: Path) -> None:
    draw(CALL, tmp_path / "call.png")
    assert (tmp_path / "call.png").read_bytes().startswith(b"\x89PNG")


def test_where_there_is_nothing_to_draw_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="nothing to draw"):
        draw([BEGIN], tmp_path / "call.png")


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be written: No such file"):
        draw(CALL, tmp_path / "nowhere" / "call.png")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synopticon_rtc.trace", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_tells_of_one_peer(tmp_path: Path) -> None:
    other = [msgspec.structs.replace(event, peer="ws_2") for event in CALL[4:6]]
    path = written(tmp_path / "trace.jsonl", [*CALL[:-1], *other, CALL[-1]])
    done = run(str(path), "--peer", "ws_2", "--plot", str(tmp_path / "call.png"))
    assert done.returncode == 0
    assert "peer ws_2" in done.stdout
    assert "peer ws_1" not in done.stdout
    assert f"drawn to {tmp_path / 'call.png'}" in done.stdout


def test_the_command_says_that_there_is_no_such_peer(tmp_path: Path) -> None:
    done = run(str(written(tmp_path / "trace.jsonl")), "--peer", "ws_3")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no session of a peer in" in done.stderr


def test_the_command_prints_events_as_they_are(tmp_path: Path) -> None:
    done = run(str(written(tmp_path / "trace.jsonl")), "--json")
    assert [msgspec.json.decode(line)["event"] for line in done.stdout.splitlines()][:2] == ["begin", "signal"]


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(b"no trace\n")
    done = run(str(path))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
