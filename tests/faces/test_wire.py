"""The wire format: the vectors, what comes back of what was sent, and what is refused."""

import contextlib
import hashlib
import json
import math
import re
import shutil
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import synopticon_rtc
from synopticon_rtc.errors import InvalidFaces
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.wire import (
    BLENDSHAPES,
    MAX_BYTES,
    MAX_FACES,
    FacesMessage,
    decode,
    decode_json,
    encode,
    encode_json,
)

HERE = Path(__file__).parent
WEB = Path(synopticon_rtc.__file__).parent / "web"
VECTORS = json.loads((HERE / "vectors.json").read_text())
NODE = shutil.which("node")
RECODE = """
import { readFileSync } from "node:fs";
import { decodeFaces, decodeJson } from "./web/faces.js";
const plain = (message) => ({
  ...message,
  faces: message.faces.map((face) => ({
    ...face, landmarks: Array.from(face.landmarks), matrix: face.matrix && Array.from(face.matrix),
  })),
});
const told = ({ message, name }) => ({ error: message, kind: name });
const read = (decode) => { try { return plain(decode()); } catch (error) { return told(error); } };
const { binary, json } = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify({
  binary: binary.map((hex) => read(() => decodeFaces(new Uint8Array(Buffer.from(hex, "hex")).buffer))),
  json: json.map((text) => read(() => decodeJson(text))),
}));
"""

Landmarks = npt.NDArray[np.float32]


def name_of(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def plain(message: FacesMessage) -> dict[str, Any]:
    """As in the vectors, but for the capture time."""
    return {
        "rtpTimestamp": message.rtp_timestamp,
        "captureTime": message.capture_time,
        "width": message.width,
        "height": message.height,
        "detected": message.detected,
        "faces": [
            {
                "id": face.id,
                "landmarks": face.landmarks.ravel().tolist(),
                "blendshapes": face.blendshapes or None,
                "matrix": None if face.matrix is None else face.matrix.ravel().tolist(),
            }
            for face in message.faces
        ],
    }


def assert_same(actual: dict[str, Any], expected: dict[str, Any], *, within: float = 1e-5) -> None:
    assert {key: value for key, value in actual.items() if key != "faces"} == {
        key: value for key, value in expected.items() if key != "faces"
    }
    assert len(actual["faces"]) == len(expected["faces"])
    for face, other in zip(actual["faces"], expected["faces"], strict=True):
        np.testing.assert_allclose(face["landmarks"], other["landmarks"], rtol=1e-5, atol=within)
        assert (face["blendshapes"] or {}) == pytest.approx(other["blendshapes"] or {}, abs=1e-5)
        assert (face["id"], face["matrix"]) == (other["id"], other["matrix"])


def in_page(binary: list[str], texts: list[str], folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what the page's decoder makes of them, with its capture times in seconds."""
    if NODE is None:
        pytest.skip("node is not installed")
    shutil.copytree(WEB, folder / "web")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "recode.js").write_text(RECODE)
    done = subprocess.run(
        [NODE, "recode.js"],
        cwd=folder,
        input=json.dumps({"binary": binary, "json": texts}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for message in results["binary"] + results["json"]:
        if message.get("captureTime") is not None:
            message["captureTime"] /= 1000
    return results["binary"], results["json"]


def real_faces() -> list[Landmarks]:
    return [
        np.array(face["landmarks"], np.float32).reshape(-1, 3)
        for vector in VECTORS["binary"]["valid"]
        for face in vector["message"]["faces"]
    ]


def sent(landmarks: Landmarks, width: int = 1280, height: int = 720) -> Landmarks:
    return decode(encode(FacesMessage((Face(landmarks, {}),), width, height))).faces[0].landmarks


def assert_within_tolerance(actual: Landmarks, landmarks: Landmarks, width: int = 1280, height: int = 720) -> None:
    error = (actual.astype(float) - landmarks) * [width, height, width]
    face_height = float(np.ptp(landmarks[:, 1].astype(float))) * height
    assert np.hypot(error[:, 0], error[:, 1]).max() <= max(0.25, face_height / 1500)
    assert np.abs(error[:, 2]).max() <= max(0.5, face_height / 1500)


@pytest.mark.parametrize("vector", VECTORS["binary"]["valid"], ids=name_of)
def test_a_vector_is_read(vector: dict[str, Any]) -> None:
    assert_same(plain(decode(bytes.fromhex(vector["hex"]))), vector["message"])


@pytest.mark.parametrize("vector", VECTORS["binary"]["invalid"], ids=name_of)
def test_an_invalid_vector_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidFaces, match=r"fac|time"):
        decode(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize("vector", VECTORS["json"]["valid"], ids=name_of)
def test_a_json_vector_is_read(vector: dict[str, Any]) -> None:
    assert_same(plain(decode_json(vector["text"])), vector["message"])
    assert_same(plain(decode_json(vector["text"].encode())), vector["message"])


@pytest.mark.parametrize("vector", VECTORS["json"]["invalid"], ids=name_of)
def test_an_invalid_json_vector_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidFaces, match=r"face|landmark"):
        decode_json(vector["text"])


def test_the_page_reads_all_vectors_and_refuses_the_invalid_ones(tmp_path: Path) -> None:
    vectors = [*VECTORS["binary"]["valid"], *VECTORS["binary"]["invalid"]]
    texts = [*VECTORS["json"]["valid"], *VECTORS["json"]["invalid"]]
    binary, json_ = in_page([vector["hex"] for vector in vectors], [vector["text"] for vector in texts], tmp_path)
    for vector, message in zip(vectors + texts, binary + json_, strict=True):
        if "message" in vector:
            assert_same(message, vector["message"])
        else:
            assert "error" in message, vector["name"]


def test_the_page_and_python_agree_on_damaged_messages(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    damaged = []
    for _ in range(300):
        data = bytearray.fromhex(random.choice([vector["hex"] for vector in VECTORS["binary"]["valid"]]))
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        damaged.append(bytes(data))
    read = 0
    for sample, message in zip(damaged, in_page([sample.hex() for sample in damaged], [], tmp_path)[0], strict=True):
        try:
            expected = plain(decode(sample))
        except InvalidFaces:
            assert "error" in message, sample.hex()
            continue
        read += 1
        scale = max((np.abs(face["landmarks"]).max() for face in expected["faces"]), default=0)
        assert_same(message, expected, within=1e-5 * max(1.0, float(scale)))
    assert 30 < read < 270


def test_the_page_reads_or_refuses_any_bytes(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    valid = [bytes.fromhex(vector["hex"]) for vector in VECTORS["binary"]["valid"]]
    hostile = [b"", b"\xfa", b"\xfa\x01", b"\xfa\x01\x00\x20" + bytes(4), b"\xfa\x01\x00\x20" + b"\xff" * 60_000]
    for start in (b"", b"\xfa\x01", b"\xfa\x01\x00\x01\x00\x05\x00\x04\x00\x40\x00"):
        hostile += [start + random.bytes(int(random.integers(0, 400))) for _ in range(300)]
    for data in valid:
        hostile += [data[: random.integers(len(data))] for _ in range(5)]
        hostile += [data + b"\x00", data + data]
    texts = [
        "[" * 100_000,
        '{"landmarks":' + "[" * 100_000,
        "null",
        "7",
        '{"landmarks":[[{}]]}',
        '{"landmarks":[null]}',
    ]
    binary, json_ = in_page([data.hex() for data in hostile], texts, tmp_path)
    assert {message["kind"] for message in binary if "error" in message} == {"Error"}  # and none of the engine's own
    assert all("error" in message for message in json_)


def test_the_landmarks_of_a_face_stay_within_the_tolerance() -> None:
    for landmarks in real_faces():
        for scale in (0.2, 0.5, 1.0, 1.3):
            scaled = landmarks * np.float32(scale)
            assert_within_tolerance(sent(scaled), scaled)
            assert_within_tolerance(sent(scaled, 640, 480), scaled, 640, 480)
            assert_within_tolerance(sent(scaled, 3840, 2160), scaled, 3840, 2160)


def test_a_face_turned_any_way_stays_within_the_tolerance() -> None:
    landmarks = real_faces()[0]
    for angle in np.linspace(0, 2 * np.pi, 16):
        cosine, sine = np.cos(angle) * 720 / 1280, np.sin(angle)
        turn = np.array([[np.cos(angle), sine * 1280 / 720, 0], [-sine * 720 / 1280, np.cos(angle), 0], [0, 0, 1]])
        turned = ((landmarks - landmarks.mean(axis=0)) @ turn + cosine).astype(np.float32)
        assert_within_tolerance(sent(turned), turned)


@given(
    hnp.arrays(np.float32, st.sampled_from([(478, 3), (468, 3)]), elements=st.floats(-2, 3, width=32)),
    st.sampled_from([(1280, 720), (320, 240), (720, 1280), (1920, 1080)]),
)
@settings(deadline=None, max_examples=100)
def test_landmarks_of_no_face_stay_within_the_tolerance(landmarks: Landmarks, size: tuple[int, int]) -> None:
    assert_within_tolerance(sent(landmarks, *size), landmarks, *size)


@pytest.mark.parametrize("size", [(1, 1), (1, 65535), (65535, 1), (65535, 65535)])
@pytest.mark.parametrize("axes", [[0], [1], [2], [0, 1, 2]])
def test_landmarks_at_the_limits_are_sent(size: tuple[int, int], axes: list[int]) -> None:
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[:, axes] = np.random.default_rng(3).choice([-8.0, 8.0], (478, len(axes)))
    error = np.abs(sent(landmarks, *size) - landmarks) * [size[0], size[1], size[0]]
    assert error.max() <= max(0.5, 16 * max(size) / 1000)


def test_a_face_fits_one_packet() -> None:
    for landmarks in [faces for faces in real_faces() if len(np.unique(faces)) > 1][:5]:
        for height in (200, 450, 600):
            scaled = landmarks * np.float32(height / 720 / np.ptp(landmarks[:, 1]))
            assert len(encode(FacesMessage((Face(scaled, {}),), 1280, 720, 1, 1.0))) < 500


def test_blendshapes_come_back_by_name_and_those_not_told_stay_untold() -> None:
    scores = {name: index / 51 for index, name in enumerate(BLENDSHAPES)}
    del scores["jawOpen"]
    face = Face(real_faces()[0], scores)
    (back,) = decode(encode(FacesMessage((face,), 1280, 720))).faces
    assert back.blendshapes == pytest.approx(scores, abs=1 / 508)


def test_a_matrix_comes_back_exactly() -> None:
    matrix = np.random.default_rng(4).normal(size=(4, 4)).astype(np.float32)
    (back,) = decode(encode(FacesMessage((Face(real_faces()[0], {}, matrix),), 1280, 720))).faces
    assert back.matrix is not None
    np.testing.assert_array_equal(back.matrix, matrix)


@pytest.mark.parametrize(("given", "back"), [(0, 0), (3, 3), (65535, 65535), (65536, 0), (65541, 5)])
def test_an_id_comes_back_modulo_65536(given: int, back: int) -> None:
    message = FacesMessage((Face(real_faces()[0], {}, id=given),), 1280, 720)
    assert decode(encode(message)).faces[0].id == back
    assert decode_json(encode_json(message)).faces[0].id == 0


def test_what_comes_back_is_float32_in_rows_and_writable() -> None:
    landmarks = sent(real_faces()[0])
    assert landmarks.dtype == np.float32
    assert landmarks.flags.c_contiguous
    assert landmarks.flags.writeable


def test_no_face_is_a_message_too() -> None:
    assert len(encode(FacesMessage((), 1280, 720, 1))) == 12
    assert decode(encode(FacesMessage((), 1280, 720, 1))).faces == ()
    assert decode_json(encode_json(FacesMessage((), 1280, 720, 1))).faces == ()
    assert json.loads(encode_json(FacesMessage((), 1280, 720)))["landmarks"] == []


def test_as_many_faces_as_may_be_come_back_and_one_more_is_refused() -> None:
    faces = (Face(real_faces()[0], {}),) * MAX_FACES
    message = FacesMessage(faces, 1280, 720)
    assert len(decode(encode(message)).faces) == MAX_FACES
    assert len(decode_json(encode_json(message)).faces) == MAX_FACES
    for write in (encode, encode_json):
        with pytest.raises(InvalidFaces, match="33 faces"):
            write(FacesMessage((*faces, faces[0]), 1280, 720))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 8.5])
def test_a_landmark_that_is_no_place_is_refused(value: float) -> None:
    landmarks = real_faces()[0].copy()
    landmarks[77, 1] = value
    for write in (encode, encode_json):
        with pytest.raises(InvalidFaces, match="not finite"):
            write(FacesMessage((Face(landmarks, {}),), 1280, 720))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (FacesMessage((), 65536, 720), "16 bits"),
        (FacesMessage((), -1, 720), "16 bits"),
        (FacesMessage((), 1280, 720, 1 << 32), "32"),
        (FacesMessage((), 1280, 720, 1, math.nan), "capture time"),
        (FacesMessage((Face(np.zeros((5, 3), np.float32), {}),), 1280, 720), "shape"),
        (FacesMessage((Face(np.zeros((478, 3), np.float32), {"wink": 0.5}),), 1280, 720), "wink"),
        (FacesMessage((Face(np.zeros((478, 3), np.float32), {"jawOpen": 1.5}),), 1280, 720), "0..1"),
        (FacesMessage((Face(np.zeros((478, 3), np.float32), {"jawOpen": math.nan}),), 1280, 720), "0..1"),
        (FacesMessage((Face(np.zeros((478, 3), np.float32), {}, np.eye(3, dtype=np.float32)),), 1280, 720), "4x4"),
        (
            FacesMessage((Face(np.zeros((478, 3), np.float32), {}, np.full((4, 4), np.nan, np.float32)),), 1280, 720),
            "finite",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(message: FacesMessage, why: str) -> None:
    with pytest.raises(InvalidFaces, match=why):
        encode(message)


def test_json_has_the_keys_and_the_decimals_that_the_pages_read() -> None:
    landmarks = real_faces()[0]
    text = encode_json(FacesMessage((Face(landmarks, {}),), 1280, 720, 90_000, 1_700_000_000.125))
    message = json.loads(text)
    assert list(message) == ["type", "timestamp", "landmarks", "videoWidth", "videoHeight", "rtpTimestamp"]
    assert message["type"] == "face_landmarks"
    assert message["timestamp"] == 1_700_000_000_125
    assert len(message["landmarks"][0]) == 478
    assert set(message["landmarks"][0][0]) == {"x", "y", "z"}
    assert not re.search(r"\.\d{5}", text)
    back = decode_json(text)
    np.testing.assert_allclose(back.faces[0].landmarks, landmarks, atol=5.1e-5)
    assert (back.width, back.height, back.rtp_timestamp, back.capture_time) == (1280, 720, 90_000, 1_700_000_000.125)


def test_what_is_too_long_is_refused_unread() -> None:
    with pytest.raises(InvalidFaces, match="longer"):
        decode(bytes(MAX_BYTES + 1))
    with pytest.raises(InvalidFaces, match="longer"):
        decode_json(" " * (MAX_BYTES + 1))


def as_long_as_may_be(before: str, piece: str, after: str) -> str:
    return before + piece * ((MAX_BYTES - len(before) - len(after)) // len(piece)) + after


@pytest.mark.parametrize(
    ("before", "piece", "after"),
    [
        ('{"landmarks":[', "[],", "[]]}"),
        ('{"landmarks":[[', '{"x":0,"y":0},', '{"x":0,"y":0}]]}'),
        ('{"landmarks":[', "[" * 1000 + "]" * 1000 + ",", "[]]}"),
        ('{"landmarks":[[', '{"x":{},"y":[]},', "{}]]}"),
        ('{"landmarks":[],"timestamp":[', "1,", "1]}"),
        ('{"landmarks":[],"timestamp":"', "x", '"}'),
        ('{"landmarks":[],"rtpTimestamp":', "1", "}"),
        ('{"landmarks":[[{"y":0,"x":', "1", "}]]}"),
        ('{"landmarks":[[{"y":0,', '"w":0,', '"x":0}]]}'),
    ],
)
def test_text_that_would_take_much_memory_takes_little(before: str, piece: str, after: str) -> None:
    text = as_long_as_may_be(before, piece, after)
    tracemalloc.start()
    try:
        with contextlib.suppress(InvalidFaces):
            decode_json(text)
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


def test_what_is_wrong_beside_the_landmarks_is_not_missed() -> None:
    for value in ("1e999", "-0.5", "[[{}]]", "null", "true", '"x"', "1" * 5000, "{}", "4294967296"):
        message = decode_json(f'{{"landmarks":[],"rtpTimestamp":{value},"videoWidth":{value}}}')
        assert (message.rtp_timestamp, message.width) == (None, 0)
    for bad in (b'"\xff"', b'"\\ud800"'):
        with contextlib.suppress(InvalidFaces):
            assert decode_json(b'{"landmarks":[],"timestamp":' + bad + b"}").capture_time is None


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for text in (data, b"\xfa\x01" + data, b"\xfa\x01\x00\x01\x00\x05\x00\x04\x00\x40\x00" + data):
        try:
            decode(text)
        except InvalidFaces:
            continue


@given(st.data())
@settings(deadline=None, max_examples=500)
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    message = bytearray.fromhex(data.draw(st.sampled_from([vector["hex"] for vector in VECTORS["binary"]["valid"]])))
    for _ in range(data.draw(st.integers(1, 6))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    for damaged in (bytes(message), bytes(message[:cut]), bytes(message[cut:] + message[:cut])):
        try:
            read = decode(damaged)
        except InvalidFaces:
            continue
        assert all(np.isfinite(face.landmarks).all() for face in read.faces)


@given(st.binary(max_size=20), st.sampled_from(["timestamp", "videoWidth", "rtpTimestamp", "landmarks", "type"]))
def test_any_value_is_read_or_refused(value: bytes, key: str) -> None:
    for text in (value, b'"' + value + b'"', b"[" + value + b"]"):
        try:
            decode_json(b'{"landmarks":[],"' + key.encode() + b'":' + text + b"}")
        except InvalidFaces:
            continue


@given(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(
                    st.sampled_from(["landmarks", "x", "y", "timestamp", "videoWidth", "rtpTimestamp"]),
                    inner,
                    max_size=4,
                )
            ),
        ).map(json.dumps),
    )
)
def test_any_text_is_read_or_refused(text: str | bytes) -> None:
    try:
        decode_json(text)
    except InvalidFaces:
        return


def test_deeply_nested_text_is_refused() -> None:
    with pytest.raises(InvalidFaces):
        decode_json('{"timestamp":' + "[" * 100_000)


def test_the_table_of_faces_1_never_changes() -> None:
    # A peer with another table would draw other faces: one that changes it is faces/2.
    digest = hashlib.sha256((WEB / "basis.js").read_bytes()).hexdigest()
    assert digest in (HERE.parents[1] / "docs" / "faces-1.md").read_text()
