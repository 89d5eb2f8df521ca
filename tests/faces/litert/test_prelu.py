"""Narrow PReLUs are widened, and nothing else changes."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.prelu import NARROW, widened

MESH = "face_landmarks_detector.tflite"


def loaded(model: bytes, *, optimised: bool = True) -> Interpreter:
    resolver = OpResolverType.AUTO if optimised else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter


def given(model: bytes, *, optimised: bool) -> npt.NDArray[np.float32]:
    """What it makes of noise."""
    interpreter = loaded(model, optimised=optimised)
    (takes,) = interpreter.get_input_details()
    interpreter.set_tensor(takes["index"], np.random.default_rng(1).random(takes["shape"], np.float32))
    interpreter.invoke()
    return np.concatenate([interpreter.get_tensor(one["index"]).ravel() for one in interpreter.get_output_details()])


@pytest.mark.parametrize("optimised", [True, False])
def test_the_landmark_model_finds_the_same_bit_by_bit(face_model: Path, *, optimised: bool) -> None:
    model = Bundle(face_model).part(MESH)
    assert np.array_equal(given(widened(model), optimised=optimised), given(model, optimised=optimised))


def test_no_narrow_one_is_left(face_model: Path) -> None:
    def channels(model: bytes) -> list[int]:
        interpreter = loaded(model, optimised=False)
        shapes = {one["index"]: one["shape"] for one in interpreter.get_tensor_details()}
        operators = interpreter._get_ops_details()
        return [shapes[one["inputs"][0]][-1] for one in operators if one["op_name"] == "PRELU"]

    model = Bundle(face_model).part(MESH)
    before, after = channels(model), channels(widened(model))
    assert before.count(8) == 4
    assert after == [128 * 8 if count < NARROW else count for count in before]


def test_all_of_it_is_still_run_by_xnnpack(face_model: Path) -> None:
    operators = loaded(widened(Bundle(face_model).part(MESH)))._get_ops_details()
    assert [one["op_name"] for one in operators].count("DELEGATE") == 1


@pytest.mark.parametrize("part", ["face_detector.tflite", "face_blendshapes.tflite"])
def test_a_model_without_any_is_as_it_was(face_model: Path, part: str) -> None:
    model = Bundle(face_model).part(part)
    assert widened(model) is model


def test_without_what_reads_models_they_are_as_they_were(face_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Bundle(face_model).part(MESH)
    for missing in ("flatbuffers", "ai_edge_litert.schema_py_generated"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            assert widened(model) is model
