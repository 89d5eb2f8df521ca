"""The summary: right rates, however short it was, and in how many frames faces were looked for."""

import json
from pathlib import Path

import pytest
from field_helpers import run, running
from rtc_network import free_port

from synopticon_rtc.commands import status

pytestmark = pytest.mark.field


def broadcast(*args: str) -> list[str]:
    return ["broadcast", "--serve", str(free_port()), "--source", "test", "--size", "160x90", *args]


def test_rates_are_right_after_half_a_second() -> None:
    done = run(*broadcast("--faces", "0", "--duration", "0.5", "--json"))
    summary = json.loads(done.out.splitlines()[-1])
    frames, seconds = summary["frames"], summary["seconds"]
    assert seconds >= 0.5
    assert summary["fps"] == pytest.approx((frames - 1) / seconds, rel=0.1)  # seconds are rounded
    assert summary["fps"] < 33  # on a busy machine the first frame may come late


def test_it_says_that_nobody_watched(face_model: Path) -> None:
    done = run(*broadcast("--duration", "0.5", "--model", str(face_model)))
    assert "faces were looked for in none of them: no receiver asked for any" in done.out.splitlines()[-1]


def test_it_says_nothing_of_faces_where_none_are_looked_for() -> None:
    done = run(*broadcast("--duration", "0.5", "--faces", "0"))
    assert "faces" not in done.out.splitlines()[-1]


def test_it_says_in_how_many_frames_faces_were_looked_for_and_found(face_model: Path, tmp_path: Path) -> None:
    port = str(free_port())
    args = ["--serve", port, "--source", "portrait", "--size", "320x180", "--blendshapes", "--matrix"]
    args += ["--model", str(face_model), "--faces-fps", "10"]
    path = tmp_path / "faces.jsonl"
    with running("broadcast", *args, until="signaling"):
        more = ["--faces-out", str(path), "--faces-wait", "1", "--frames", "90"]
        done = run("receive", "--url", f"ws://127.0.0.1:{port}/ws", *more)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    looked, found = (sum(bool(line[key]) for line in lines) for key in ("detected", "faces"))
    assert 0 < looked < 90
    assert f"faces were looked for in {looked} of them, and found in {found}" in done.out
    face = next(line["faces"][0] for line in lines if line["faces"])
    assert face["id"] == 0
    assert len(face["blendshapes"]) == 52
    assert abs(face["pose"]["yaw"]) < 45
    assert len(face["matrix"]) == 4


def test_it_says_when_faces_came_too_late(face_model: Path) -> None:
    port = str(free_port())
    args = ["--serve", port, "--source", "portrait", "--size", "640x360", "--model", str(face_model)]
    with running("broadcast", *args, until="signaling"):
        url = f"ws://127.0.0.1:{port}/ws"
        late = run("receive", "--url", url, "--faces-wait", "0", "--frames", "90")
        latest = run("receive", "--url", url, "--sync", "latest", "--frames", "90")
    assert "came too late for them: --faces-wait" in late.out
    assert "too late" not in latest.out + latest.err


def test_it_never_says_that_faces_were_found_in_more_frames_than_were_looked_at() -> None:
    assert status.found(60, 58) == "faces were looked for in 60 of them, and found in 58"
    assert status.found(43, 135) == "faces were looked for in 43 of them, and 135 came with the newest faces"


def test_where_there_was_no_frame_it_says_no_more() -> None:
    received = run("receive", "--url", f"ws://127.0.0.1:{free_port()}/ws", "--duration", "0.5")
    assert received.out.splitlines()[-1] == "no frames"
    sent = run("broadcast", "--serve", str(free_port()), "--source", "/dev/video63", "--faces", "0")
    assert (sent.code, sent.out) == (1, "no frames\n")


def test_a_state_and_its_reason_are_said_once_where_they_are_the_same() -> None:
    port = str(free_port())
    with running("broadcast", "--serve", port, "--source", "test", "--faces", "0", until="signaling"):
        done = run("receive", "--url", f"ws://127.0.0.1:{port}/ws", "--frames", "3")
    assert done.out.splitlines()[0] == "looking for a broadcaster"
    assert done.out.splitlines()[-2] == "closed"
