"""What happens to each peer, written down."""

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from waiting import until

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern, tracing
from synopticon_rtc.errors import TraceError
from synopticon_rtc.tracing import KINDS, Figures, Keyframe, Trace


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def of_kind(path: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(path) if line["event"] == event]


async def call(tmp_path: Path, frames: int = 45) -> tuple[Path, Path]:
    sent, received = tmp_path / "broadcaster.jsonl", tmp_path / "receiver.jsonl"
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((160, 120)), name="lab", trace=sent),
        Receiver(server.url, trace=received) as receiver,
    ):
        got = 0
        async for _ in receiver:
            got += 1
            if got == frames:
                break
    return sent, received


async def test_both_ends_of_a_call_are_told(tmp_path: Path) -> None:
    sent, received = await call(tmp_path)
    for path, role in (sent, "broadcaster"), (received, "receiver"):
        first, *_, last = lines(path)
        assert (first["event"], first["role"], last["event"]) == ("begin", role, "end")
        states = [line["state"] for line in of_kind(path, "state")]
        assert states[-3:] == ["connecting", "connected", "closed"]
        assert "chosen" in [line["state"] for line in of_kind(path, "pair")]
        (peer,) = {line["peer"] for line in of_kind(path, "figures")}
        assert peer.startswith("ws_")
        times = [line["at"] for line in lines(path)]
        assert times == sorted(times)
    assert of_kind(sent, "figures")[-1]["frames_sent"] > 20
    assert of_kind(received, "figures")[-1]["packets_received"] > 20
    assert of_kind(received, "pairing")[-1]["frames"] >= 45
    kinds = [line["message"]["type"] for line in of_kind(received, "signal")]
    assert kinds.index("webrtc_offer") < kinds.index("webrtc_answer")


async def test_no_secret_is_in_it(tmp_path: Path) -> None:
    sent, received = await call(tmp_path, frames=5)
    for path in sent, received:
        assert set(re.findall(r"a=ice-pwd:(\S*?)\\r", path.read_text())) == {"..."}


async def test_without_a_file_nothing_is_written() -> None:
    async with Trace(None, "receiver") as trace:
        trace.watch(pytest.fail)
        assert trace.of("somebody") is tracing.ignore
        trace.write(Figures())
        assert not trace.is_on


async def test_a_file_that_cannot_be_written_is_told_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be written: No such file"):
        async with Receiver("ws://127.0.0.1:9/ws", trace=tmp_path / "nowhere" / "trace.jsonl"):
            pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it is a device of Linux")
async def test_a_full_disk_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Trace("/dev/full", "receiver") as trace:
        for _ in range(5):
            trace.write(Figures())
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "no more is written to /dev/full: No space left on device"
    ]


async def test_a_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST_BYTES", 2000)
    path = tmp_path / "trace.jsonl"
    async with Trace(path, "receiver") as trace:
        for _ in range(100):
            trace.write(Keyframe(reason="somebody joins"), "ws_1")
    assert path.stat().st_size < 2100
    assert lines(path)[-1]["reason"] == "the file is full"


async def test_what_a_disk_is_too_slow_for_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "WAITING", 10)
    path = tmp_path / "trace.jsonl"
    async with Trace(path, "receiver") as trace:
        for _ in range(500):
            trace.write(Keyframe(reason="somebody joins"))
        await until(lambda: not trace._lines.qsize())
    assert len(of_kind(path, "keyframe")) + lines(path)[-1].get("left_out", 0) == 500


async def test_figures_are_asked_for_once_a_second_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "INTERVAL", 0.01)
    asked = asyncio.Event()
    counts: list[int] = []

    def watch() -> None:
        counts.append(len(counts))
        if len(counts) == 3:
            asked.set()

    async with Trace(tmp_path / "trace.jsonl", "receiver") as trace:
        trace.watch(watch)
        await asked.wait()
        before = len(counts)
    assert len(counts) == before + 1


@pytest.mark.parametrize("kind", get_args(KINDS), ids=lambda kind: kind.__name__)
def test_each_field_of_each_event_has_a_line_of_words(kind: type[tracing.Event]) -> None:
    words = f"{kind.__doc__}{tracing.Event.__doc__}"
    assert all(f"        {field}: " in words for field in kind.__struct_fields__)
