"""Faces as a stream of the lab streaming layer, by the real liblsl: what it says of itself, its stamps, its gaps."""

import dataclasses
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import blocked_until

from synopticon_rtc import Face, LSLOutlet, Moment
from synopticon_rtc.errors import MissingExtra, SynopticonError
from synopticon_rtc.faces.wire import BLENDSHAPES
from synopticon_rtc.recording import lsl

pylsl = pytest.importorskip("pylsl", reason="the extra lsl is not installed")

HEAD = np.array([[1, 0, 0, 3.0], [0, 1, 0, -2.0], [0, 0, 1, -50.0], [0, 0, 0, 1]], np.float32)
FACE = Face(np.linspace(0, 1, 478 * 3, dtype=np.float32).reshape(478, 3), dict.fromkeys(BLENDSHAPES, 0.25), HEAD, id=3)
# Ports of their own, so that nothing else on this machine hears of the streams under test.
SETTINGS = "[multicast]\nResolveScope = machine\n[ports]\nMulticastPort = 26571\nBasePort = 26572\nIPv6 = disable\n"


@pytest.fixture(autouse=True, scope="module")
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have liblsl look for streams on this machine alone. It reads its settings once a process."""
    path = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    path.write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSLAPICFG", str(path))
        yield


def moment(*faces: Face, detected: bool = True) -> Moment[None]:
    return Moment(None, faces, detected, 1.0, 0)


def inlet_of(name: str) -> Any:
    (found,) = pylsl.resolve_byprop("name", name, timeout=10)
    inlet = pylsl.StreamInlet(found)
    inlet.open_stream(10)
    return inlet


def sample(inlet: Any) -> tuple[dict[str, float], float]:
    """Return the next sample by the names of its channels, and its stamp."""
    values, stamp = inlet.pull_sample(10)
    return dict(zip(inlet.info(10).get_channel_labels(), values, strict=True)), stamp


async def test_channels_have_names_types_and_units() -> None:
    async with LSLOutlet("what it says"):
        info = inlet_of("what it says").info(10)
        assert (info.type(), info.nominal_srate(), info.channel_format()) == ("MoCap", 0, pylsl.cf_float32)
        described = list(
            zip(info.get_channel_labels(), info.get_channel_types(), info.get_channel_units(), strict=True)
        )
        assert described[:8] == [
            ("detected", "Detected", "boolean"),
            ("face_id", "ObjectId", "none"),
            ("head_x", "PositionX", "meters"),
            ("head_y", "PositionY", "meters"),
            ("head_z", "PositionZ", "meters"),
            ("head_yaw", "OrientationH", "degrees"),
            ("head_pitch", "OrientationP", "degrees"),
            ("head_roll", "OrientationR", "degrees"),
        ]
        assert described[8:] == [(name, "Expression", "normalized") for name in BLENDSHAPES]
        assert info.desc().child("acquisition").child_value("model").startswith("synopticon-rtc ")


async def test_landmarks_are_markers_of_the_face() -> None:
    async with LSLOutlet("with landmarks", landmarks=True) as outlet:
        inlet = inlet_of("with landmarks")
        info = inlet.info(10)  # kept, as its elements are no more once it goes
        last = info.desc().child("channels").last_child()
        described = [last.child_value(name) for name in ("label", "type", "unit", "object", "marker")]
        assert described == ["landmark_477_z", "PositionZ", "normalized", "face", "477"]
        outlet.push(moment(FACE), 0)
        values, _ = sample(inlet)
        assert [values[f"landmark_2_{axis}"] for axis in "xyz"] == FACE.landmarks[2].tolist()
        outlet.push(moment(dataclasses.replace(FACE, landmarks=FACE.landmarks[:468])), 0)  # without irises
        values, _ = sample(inlet)
        assert (values["landmark_467_z"], math.isnan(values["landmark_468_x"])) == (FACE.landmarks[467, 2], True)


async def test_a_sample_is_stamped_with_the_time_of_capture() -> None:
    async with LSLOutlet("stamps") as outlet:
        inlet = inlet_of("stamps")
        for age in (0.0, 0.12, 3.0):
            captured = pylsl.local_clock()
            outlet.push(moment(FACE), age)
            _, stamp = sample(inlet)
            assert stamp == pytest.approx(captured - age, abs=0.005)


async def test_what_is_known_of_a_face_is_given_and_what_is_not_is_nan() -> None:
    async with LSLOutlet("gaps") as outlet:
        inlet = inlet_of("gaps")
        outlet.push(moment(dataclasses.replace(FACE, id=7, blendshapes={}), FACE), 0)  # who has been there longest
        values, _ = sample(inlet)
        assert (values["detected"], values["face_id"], values["jawOpen"]) == (1, 3, 0.25)
        assert [values[f"head_{axis}"] for axis in "xyz"] == pytest.approx([0.03, -0.02, -0.5])
        assert [values[f"head_{turn}"] for turn in ("yaw", "pitch", "roll")] == [0, 0, 0]
        outlet.push(moment(Face(FACE.landmarks, {})), 0)  # neither --blendshapes nor --matrix
        values, _ = sample(inlet)
        assert {name for name, value in values.items() if not math.isnan(value)} == {"detected", "face_id"}
        for gap, detected in (
            (moment(), 1),  # nobody is there
            (moment(detected=False), 0),  # nobody has looked, or it was lost
            (moment(FACE, detected=False), 0),  # a face of another frame
        ):
            outlet.push(gap, 0)
            values, _ = sample(inlet)
            assert values.pop("detected") == detected
            assert all(map(math.isnan, values.values()))


async def test_a_recorder_goes_on_when_the_stream_comes_again() -> None:
    async with LSLOutlet("again") as outlet:
        inlet = inlet_of("again")
        outlet.push(moment(FACE), 0)
        assert sample(inlet)[0]["face_id"] == 3
    async with LSLOutlet("again") as outlet:
        blocked_until(outlet._outlet.have_consumers, 30)  # the threads of liblsl tell nobody
        outlet.push(moment(dataclasses.replace(FACE, id=4)), 0)
        assert sample(inlet)[0]["face_id"] == 4


async def test_a_frame_of_unknown_age_has_no_stamp_and_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async with LSLOutlet("a page") as outlet:
        with caplog.at_level(logging.WARNING):
            assert not any(outlet.push(moment(FACE), None) for _ in range(3 * lsl.UNKNOWN))
        assert [record.getMessage() for record in caplog.records] == [
            "nothing is given to LSL: the broadcaster does not tell when it has captured its frames, as pages do not"
        ]
    async with LSLOutlet("begins without") as outlet:  # as each broadcaster does, until the clocks are aligned
        assert [outlet.push(moment(FACE), age) for age in (None, 0.1, None)] == [False, True, False]


async def test_it_is_entered_once_and_used_meanwhile() -> None:
    outlet = LSLOutlet("once")
    with pytest.raises(RuntimeError, match="is not open"):
        outlet.push(moment(FACE), 0)
    async with outlet:
        assert outlet.seen_by == "programs on this machine alone"
    with pytest.raises(RuntimeError, match="entered only once"):
        await outlet.__aenter__()
    with pytest.raises(RuntimeError, match="is not open"):
        outlet.push(moment(FACE), 0)


@pytest.mark.parametrize("name", ["", "Ann's", "two\nlines"])
def test_a_name_by_which_nobody_could_find_it_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the name of an LSL stream"):
        LSLOutlet(name)


async def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylsl", None)
    with pytest.raises(MissingExtra, match=r"an LSL stream needs an extra: .*\[lsl\]"):
        await LSLOutlet("nowhere").__aenter__()


async def test_a_machine_without_liblsl_is_told_where_to_have_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pylsl.py").write_text("raise RuntimeError('LSL binary library file was not found.\\nand so on')")
    monkeypatch.delitem(sys.modules, "pylsl")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SynopticonError, match=r"not found\.\); where pylsl has none .* PYLSL_LIB"):
        await LSLOutlet("nowhere").__aenter__()


async def test_where_it_cannot_be_kept_on_this_machine_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SynopticonError, match=r"darwin has no filters .* ResolveScope = link, into ~/lsl_api"):
        await LSLOutlet("elsewhere").__aenter__()
    assert not pylsl.resolve_byprop("name", "elsewhere", timeout=0.5)


async def test_where_liblsl_does_not_tell_its_ports_it_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pylsl.StreamInfo, "as_xml", lambda _: "<info></info>")
    with pytest.raises(SynopticonError, match="does not tell on which ports"):
        await LSLOutlet("somewhere").__aenter__()


async def test_what_liblsl_refuses_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("could not create stream outlet.")

    monkeypatch.setattr(pylsl, "StreamOutlet", refuse)
    with pytest.raises(SynopticonError, match="the LSL stream full cannot be offered: could not create"):
        await LSLOutlet("full").__aenter__()
