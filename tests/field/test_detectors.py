"""Detectors that break, and machines on which there is no place to write."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from field_helpers import run
from rtc_network import free_port

from synopticon_rtc import Broadcaster, DetectorEvent, Face, FaceLandmarker, Receiver, SignalingServer, TestPattern
from synopticon_rtc.detecting import detection as detection_module

pytestmark = pytest.mark.field

CARD = TestPattern((160, 90), 30)


class Sometimes:
    """Gives one face, but each third time something else."""

    def __init__(self, bad: object) -> None:
        self._bad = bad
        self._calls = 0

    async def detect(self, frame: av.VideoFrame) -> Any:  # noqa: ARG002 - whichever it is
        self._calls += 1
        if self._calls % 3:
            return [Face(np.full((478, 3), 0.5, np.float32), {})]
        if isinstance(self._bad, BaseException):
            raise self._bad
        return self._bad


class Never:
    async def detect(self, frame: av.VideoFrame) -> Sequence[Face]:
        raise ValueError(f"cannot see {frame.width} pixels")


@pytest.mark.parametrize(
    "bad", [ValueError("once"), [Face(np.full((478, 3), np.nan, np.float32), {})], [None] * 50, None], ids=str
)
async def test_a_bad_result_costs_its_frame_and_nothing_else(bad: object) -> None:
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, CARD, faces=Sometimes(bad)),
        Receiver(server.url, timeout=15, faces_wait=0.5) as receiver,
    ):
        looked, not_looked = 0, 0
        async for moment in receiver:
            looked += moment.detected
            not_looked += not moment.detected and looked > 0
            assert len(moment.faces) == moment.detected
            if looked > 10 and not_looked > 3:
                break


async def test_one_that_keeps_failing_ends_detection_and_not_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_module, "TOLERATED", 0.5)
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, CARD, faces=Never()) as broadcaster,
        Receiver(server.url, timeout=15) as receiver,
        asyncio.timeout(20),
    ):
        receiving = asyncio.create_task(anext(receiver))
        event = await anext(aiter(broadcaster.detector_events))
        assert isinstance(event, DetectorEvent)
        assert event.state == "ended"
        assert "cannot see 160 pixels" in event.reason
        await receiving
        for _ in range(30):
            assert not (await anext(receiver)).detected
        assert broadcaster.peers


@pytest.mark.parametrize("wrong", [FaceLandmarker, lambda _: [], "faces", 1])
def test_what_is_no_detector_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"faces must be a detector"):
        Broadcaster("ws://127.0.0.1:9/ws", CARD, faces=wrong)


@pytest.mark.parametrize("wrong", ["vp8", (), ("vp9",), ("VP8",), (1,), None])
def test_codecs_that_nobody_has_are_refused_at_once(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="codec"):
        Broadcaster("ws://127.0.0.1:9/ws", CARD, codecs=wrong)


DETECT = """
import asyncio
from synopticon_rtc import FaceLandmarker, TestPattern
async def main():
    async with FaceLandmarker() as landmarker:
        print("found", await landmarker.detect(TestPattern((160, 90), 30).draw(0)))
asyncio.run(main())
"""
# All that is mounted becomes read-only, for this process and what it starts.
READ_ONLY = (
    "mount --make-rprivate / && for each in $(cut -d ' ' -f 2 /proc/mounts | grep -Ev '^/(proc|sys|dev)' | sort -u); "
    'do mount -o remount,bind,ro "$each" 2>/dev/null; done; ! touch /tmp/written 2>/dev/null && cd / && exec "$@"'
)
cannot_mount = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("unshare") or os.geteuid() != 0, reason="needs root on Linux"
)


@cannot_mount
def test_faces_are_found_where_nothing_can_be_written(face_model: Path) -> None:
    child = [sys.executable, "-B", "-c", DETECT]
    env = os.environ | {"SYNOPTICON_FACE_MODEL": str(face_model), "HOME": "/nonexistent"}
    command = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", *child]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "found ()" in done.stdout


def test_a_home_that_cannot_be_written_is_named_as_the_reason() -> None:
    args = ["broadcast", "--serve", str(free_port()), "--source", "test", "--size", "160x90"]
    done = run(*args, env={"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "SYNOPTICON_FACE_MODEL": ""})
    assert (done.code, len(done.err.splitlines())) == (1, 1), done.err
    assert "/dev/null/cache" in done.err
    assert "cannot be written to" in done.err
    assert "http" not in done.err
