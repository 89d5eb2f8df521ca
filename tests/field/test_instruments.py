"""Faces beside other instruments of a lab: who sees them there, and when they were captured."""

import contextlib
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from networks import PORT, Host, connect, far_apart, hosts

pytestmark = pytest.mark.field
pytest.importorskip("pylsl", reason="the extra lsl is not installed")

# Looks for streams for some seconds, by LSL's own library, and says what they are and which channels a sample has.
LOOK = """
import json, sys, pylsl
for found in pylsl.resolve_byprop("type", "MoCap", timeout=float(sys.argv[1])):
    inlet = pylsl.StreamInlet(found, recover=False)
    info = inlet.info(10)
    values, stamp = inlet.pull_sample(10)
    told = dict(zip(info.get_channel_labels(), values))
    print(json.dumps({"name": info.name(), "age": pylsl.local_clock() - stamp, "detected": told["detected"]}))
"""

# Broadcasts frames whose brightness is their number, and faces that are as many centimetres to the right; and prints
# when each frame was there, by the clock that all on this machine have.
NUMBERED = """
import asyncio, json, time
import av, numpy as np
from synopticon_rtc import Broadcaster, Face, SignalingServer

async def frames():
    for number in range(100_000):
        frame = av.VideoFrame.from_ndarray(np.full((120, 160), 16 + number % 200, np.uint8), format="gray8")
        await asyncio.sleep(1 / 30)
        print(json.dumps([number % 200, time.monotonic()]), flush=True)
        yield frame

class Numbers:
    async def detect(self, frame):
        matrix = np.eye(4, dtype=np.float32)
        matrix[0, 3] = int(frame.to_ndarray(format="gray8")[0, 0]) - 16
        return [Face(np.full((478, 3), 0.5, np.float32), {}, matrix)]

async def main():
    async with SignalingServer("10.0.0.1", 8081, insecure=True) as server:
        async with Broadcaster(server.url, frames(), faces=Numbers(), name="far") as broadcaster:
            await broadcaster.wait_closed()

asyncio.run(main())
"""

# Reads so many samples, and prints the number and the stamp of each.
READ = """
import json, pylsl, sys
(found,) = pylsl.resolve_byprop("name", "far", timeout=20)
inlet = pylsl.StreamInlet(found)
at = inlet.info(10).get_channel_labels().index("head_x")
for _ in range(int(sys.argv[1])):
    values, stamp = inlet.pull_sample(20)
    print(json.dumps([values[at] * 100, stamp]), flush=True)
"""


def look(host: Host, settings: Path, seconds: float) -> list[dict[str, object]]:
    """Look for streams on a machine, whose settings are these."""
    told = host.run("env", f"LSLAPICFG={settings}", sys.executable, "-c", LOOK, str(seconds))
    return [json.loads(line) for line in told.splitlines()]


@contextlib.contextmanager
def laboratory(settings: Path) -> Iterator[tuple[Host, Host, str]]:
    """Give faces to LSL on one machine, as its settings say, with another one beside it; and say who sees them."""
    with hosts(2) as (lab, other):
        connect(lab, "10.0.0.1/24", other, "10.0.0.2/24")
        serve = ("--serve", f"127.0.0.1:{PORT}", "--json", "--source", "test", "--faces", "0", "--name", "lab-1")
        receive = f"{sys.executable} -m synopticon_rtc.receive --lsl --from lab-1 --json"
        with (
            lab.started("synopticon_rtc.broadcast", *serve) as sending,
            lab.run_shell(f"LSLAPICFG={settings} exec {receive}") as receiving,
        ):
            sending.event("ready")
            yield lab, other, receiving.event("lsl")["seen_by"]


def test_faces_given_to_lsl_stay_on_this_machine(tmp_path: Path) -> None:
    knowing = tmp_path / "knowing.cfg"
    knowing.write_text("[lab]\nKnownPeers = {10.0.0.1}\n")  # it asks that machine on every port that LSL has
    with laboratory(tmp_path / "none.cfg") as (lab, other, seen_by):
        assert seen_by == "programs on this machine alone"
        (found,) = look(lab, tmp_path / "none.cfg", 10)
        assert (found["name"], found["detected"]) == ("lab-1", 0)
        assert not look(other, knowing, 2)


def test_settings_of_the_lab_let_others_see_them(tmp_path: Path) -> None:
    link = tmp_path / "link.cfg"
    link.write_text("[multicast]\nResolveScope = link\n")
    with laboratory(link) as (_, other, seen_by):
        assert seen_by.startswith("everybody who reaches this machine over the network")
        (found,) = look(other, link, 10)
        assert found["name"] == "lab-1"


def test_a_long_way_changes_no_stamp(tmp_path: Path) -> None:
    """The true time of capture is known, as both machines have one clock here."""
    numbered, read = tmp_path / "numbered.py", tmp_path / "read.py"
    numbered.write_text(NUMBERED)
    read.write_text(READ)
    receive = f"{sys.executable} -m synopticon_rtc.receive --url ws://10.0.0.1:{PORT}/ws --json --no-video --lsl far"
    with (
        hosts(2) as (here, there),
        far_apart(here, "10.0.0.1/24", there, "10.0.0.2/24", 0.05),
        here.run_shell(f"exec {sys.executable} {numbered} >{tmp_path}/captured"),
        there.run_shell(f"LSLAPICFG=none exec {receive}") as receiving,
    ):
        receiving.event("lsl")
        samples = [json.loads(line) for line in there.run(sys.executable, str(read), "60").splitlines()]
    captured = [json.loads(line) for line in (tmp_path / "captured").read_text().splitlines()]
    off = [
        stamp - min((at for number, at in captured if number == round(shown)), key=lambda at: abs(at - stamp))
        for shown, stamp in samples
    ]
    assert abs(statistics.median(off)) < 0.005
