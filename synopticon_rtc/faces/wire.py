"""What a faces message is on the wire: the binary format ``faces/1`` (docs/faces-1.md), and the JSON of the pages.

A face's landmarks are written as the pose of a mean face, 96 coefficients of a linear face model, and what the model
leaves over where that is more than the tolerance. Almost all of it is small integers, in Rice codes.
"""

import base64
import math
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from synopticon_rtc.basics.products import unwarned
from synopticon_rtc.errors import InvalidFaces
from synopticon_rtc.faces.face import Face

PROTOCOL = "faces/1"
"""Of the data channel on which binary messages come."""
MAX_FACES = 32
MAX_BYTES = 1 << 21
"""Longer messages are refused unread."""

BLENDSHAPES = tuple(
    """
    _neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
    eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft
    eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft
    mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight
    mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft
    mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft
    noseSneerRight
    """.split()  # noqa: SIM905 - a tuple of literals takes fifty lines
)
"""MediaPipe's names, in MediaPipe's order."""

_POINTS, _POINTS_WITHOUT_IRISES = 478, 468
_FARTHEST = 8.0  # of a landmark, in frames
_LATEST = 1e12  # of a capture time, in seconds since the epoch

_Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FacesMessage:
    """The faces that were found in one frame.

    Attributes:
        faces: At most 32; empty where the detector ran and found none.
        width: Of that frame in pixels, 0 where unknown (as from a page that does not tell).
        height: As ``width``.
        rtp_timestamp: Of that frame, 0 to 2**32 - 1, None where unknown.
        capture_time: When it was captured, in seconds since the epoch on the sender's clock, None where unknown.
        detected: Whether faces were looked for in it; False says early that there will be none.
    """

    faces: tuple[Face, ...]
    width: int
    height: int
    rtp_timestamp: int | None = None
    capture_time: float | None = None
    detected: bool = True


def _check(message: FacesMessage) -> None:
    if message.faces and not message.detected:
        raise InvalidFaces("a message cannot have faces and say that none were looked for")
    if len(message.faces) > MAX_FACES:
        raise InvalidFaces(f"{len(message.faces)} faces are more than the {MAX_FACES} of a message; send fewer")
    if message.capture_time is not None and not abs(message.capture_time) <= _LATEST:
        raise InvalidFaces(f"a capture time of {message.capture_time} is no time")


def _checked(landmarks: npt.NDArray[np.floating]) -> _Floats:
    if landmarks.shape not in {(_POINTS, 3), (_POINTS_WITHOUT_IRISES, 3)}:
        raise InvalidFaces(f"a face has landmarks of shape {landmarks.shape}, not (478, 3) or (468, 3)")
    if not np.abs(landmarks).max() <= _FARTHEST:  # as it is where one is not a number
        raise InvalidFaces(f"a landmark is not finite, or more than {_FARTHEST:.0f} frames away")
    return landmarks.astype(np.float32, copy=False)


def check_faces(faces: tuple[Face, ...]) -> None:
    """Check that faces can be sent.

    Raises:
        InvalidFaces: As for :func:`encode`; or something else is among them.
    """
    _check(FacesMessage(faces, 0, 0))
    for face in faces:
        if not isinstance(face, Face):
            raise InvalidFaces(f"{face!r:.100} is no Face")
        _checked(np.asarray(face.landmarks))
        _checked_blendshapes(face.blendshapes)
        if face.matrix is not None:
            _checked_matrix(face.matrix)


def _checked_blendshapes(scores: dict[str, float]) -> None:
    if unknown := scores.keys() - set(BLENDSHAPES):
        raise InvalidFaces(f"MediaPipe has no blendshape {min(unknown)!r}; only its 52 can be sent")
    if not all(0 <= score <= 1 for score in scores.values()):
        raise InvalidFaces("the score of a blendshape is not in 0..1")


def _checked_matrix(matrix: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InvalidFaces("a facial transformation matrix is 4x4 finite numbers")
    return matrix


# --- faces/1 ----------------------------------------------------------------------------------------------------------

_MAGIC, _VERSION = 0xFA, 1
_HAS_TIMESTAMP, _HAS_CAPTURE_TIME, _NOT_DETECTED = 1, 2, 4
_NO_IRISES, _HAS_BLENDSHAPES, _HAS_MATRIX = 1, 2, 4
_HEADER = struct.Struct("<4B2H")
_FACE = struct.Struct("<B5H6s")
_TIMESTAMP, _CAPTURE_TIME = struct.Struct("<I"), struct.Struct("<d")
_MATRIX = np.dtype("<f4")
_ABSENT = 255

# In tolerances. What lies within _DEAD of the model is not written; the rest of the way to 1 is left to float32.
_DEAD, _XY_STEP, _Z_STEP = 0.99, 1.4, 1.96
_POSE_STEP, _COEFFICIENT_STEP = 0.5, 2.0
_POSE, _COEFFICIENTS, _BLOCK = 5, 96, 16
_MODELLED = _POSE + _COEFFICIENTS


class _Model(NamedTuple):
    """Mean and principal components of aligned faces, in face heights: x of all landmarks, then y, then z."""

    mean: _Floats
    """(3n,), each axis centred on 0."""
    basis: _Floats
    """(96, 3n)"""
    solver: _Floats
    """(96, 96), which takes the products with the basis to the coefficients: their product is its pseudo-inverse."""
    poser: _Floats
    """(5, 3n), of a face: the similarity that takes the mean to it, least squares (real, imaginary), and its centre."""


@cache
@unwarned()
def _model(points: int) -> _Model:
    text = (Path(__file__).parents[1] / "web" / "basis.js").read_text(encoding="ascii")
    data = base64.b64decode(text.split('"')[1])
    rows, length, precise = 1 + _COEFFICIENTS, 3 * _POINTS, 17
    scale = np.frombuffer(data, "<f4", rows)
    head = np.frombuffer(data, "<i2", precise * length, scale.nbytes)
    tail = np.frombuffer(data, "i1", offset=scale.nbytes + head.nbytes)
    table = np.concatenate([head, tail]).reshape(rows, length) * scale[:, None]
    table = table.reshape(rows, 3, _POINTS)[:, :, :points]
    mean = table[0] - table[0].mean(axis=1, keepdims=True)
    basis = np.ascontiguousarray(table[1:].reshape(_COEFFICIENTS, -1))
    solver = np.linalg.inv((basis @ basis.T).astype(np.float64)).astype(np.float32)
    poser = np.zeros((_POSE, 3, points), np.float32)
    x, y = mean[:2] / np.square(mean[:2]).sum()
    poser[0, :2] = x, y
    poser[1, :2] = -y, x
    poser[[2, 3, 4], [0, 1, 2]] = 1 / points
    return _Model(mean.ravel(), basis, solver, poser.reshape(_POSE, -1))


_model(_POINTS)  # takes 5 ms, which the first frame should not wait for


@unwarned()
def encode(message: FacesMessage) -> bytes:
    """Write a message in ``faces/1``.

    No landmark ends further from where it was than 0.25 pixels of the frame (x and y together), or 1/1500 of the height
    of the face where that is more; z, on x's scale, than 0.5 pixels, or that 1/1500 where it is more. A frame of
    unknown size counts as 1280x720.

    Raises:
        InvalidFaces: It cannot be written: a number that is not finite or far out of range, a shape other than (478, 3)
            or (468, 3), a blendshape that MediaPipe does not have, too many faces.
    """
    _check(message)
    faces, timestamp, captured = message.faces, message.rtp_timestamp, message.capture_time
    flags = (timestamp is not None) * _HAS_TIMESTAMP | (captured is not None) * _HAS_CAPTURE_TIME
    flags |= (not message.detected) * _NOT_DETECTED
    try:
        parts = [_HEADER.pack(_MAGIC, _VERSION, flags, len(faces), message.width, message.height)]
        if timestamp is not None:
            parts.append(_TIMESTAMP.pack(timestamp))
    except struct.error as error:
        raise InvalidFaces(f"a frame size takes 16 bits and an RTP timestamp 32: {error}") from None
    if captured is not None:
        parts.append(_CAPTURE_TIME.pack(captured))
    size = _frame(message.width, message.height)
    for face in faces:
        _encode_face(face, size, parts)
    return b"".join(parts)


@unwarned()
def decode(data: bytes) -> FacesMessage:
    """Read a message in ``faces/1``.

    Raises:
        InvalidFaces: The bytes are no such message, whatever they are.
    """
    if len(data) > MAX_BYTES:
        raise InvalidFaces(f"a faces message of {len(data)} bytes is longer than {MAX_BYTES}")
    reader = _Reader(data)
    magic, version, flags, count, width, height = reader.take(_HEADER)
    if magic != _MAGIC:
        raise InvalidFaces("the bytes are no faces/1 message: they do not begin with 0xFA")
    if version != _VERSION or flags & ~(_HAS_TIMESTAMP | _HAS_CAPTURE_TIME | _NOT_DETECTED):
        raise InvalidFaces(f"the faces message is of a newer format than faces/1 (version {version}, flags {flags:#x})")
    detected = not flags & _NOT_DETECTED
    if count and not detected:
        raise InvalidFaces("the faces message has faces, and says that none were looked for")
    if count > MAX_FACES:
        raise InvalidFaces(f"the faces message claims {count} faces, more than {MAX_FACES}")
    timestamp = reader.take(_TIMESTAMP)[0] if flags & _HAS_TIMESTAMP else None
    captured = reader.take(_CAPTURE_TIME)[0] if flags & _HAS_CAPTURE_TIME else None
    if captured is not None and not abs(captured) <= _LATEST:
        raise InvalidFaces(f"a capture time of {captured} is no time")
    size = _frame(width, height)
    faces = tuple(_decode_face(reader, size) for _ in range(count))
    if reader.left:
        raise InvalidFaces(f"the faces message goes on for {reader.left} bytes after its last face")
    return FacesMessage(faces, width, height, timestamp, captured, detected)


def restamp(data: bytes, rtp_timestamp: int) -> bytes:
    """Return a message of ``faces/1`` that names another RTP timestamp; what names none, or is none, as it is."""
    if len(data) < _HEADER.size + _TIMESTAMP.size or not data[2] & _HAS_TIMESTAMP:
        return data
    return data[: _HEADER.size] + _TIMESTAMP.pack(rtp_timestamp) + data[_HEADER.size + _TIMESTAMP.size :]


def _frame(width: int, height: int) -> tuple[int, int]:
    return (width, height) if width and height else (1280, 720)


def _encode_face(face: Face, size: tuple[int, int], parts: list[bytes]) -> None:
    landmarks = _checked(face.landmarks)
    points = len(landmarks)
    model = _model(points)
    height = float(np.ptp(landmarks[:, 1])) * size[1]
    code = min(max(int(height * 256 / 1500), 64), 0xFFFF)
    tolerance = code / 256
    rest = np.array(landmarks.T, order="C")
    rest *= np.array([[size[0] / tolerance], [size[1] / tolerance], [size[0] / tolerance]], np.float32)

    # What the mean face leaves over, in its own direction, and what the components leave over of that; in tolerances.
    pose = np.rint(model.poser @ rest.reshape(-1) / _POSE_STEP)
    rotation, scale, centre = _placed(pose)
    rest -= centre
    rest[:2] = rotation.T @ rest[:2]
    flat = rest.reshape(-1)
    flat -= model.mean * scale
    coefficients = np.rint(model.solver @ (model.basis @ flat) / _COEFFICIENT_STEP)
    flat -= (coefficients * _COEFFICIENT_STEP) @ model.basis

    residuals = np.rint(rest / _steps(tolerance))
    residuals[:2] *= rest[0] ** 2 + rest[1] ** 2 > _DEAD**2
    residuals = residuals.reshape(-1)
    places = np.flatnonzero(residuals)
    in_xy = int(np.searchsorted(places, 2 * points))
    in_z = len(places) - in_xy

    values = np.concatenate([pose, coefficients, residuals[places]]).astype(np.int64)
    values = values << 1 ^ values >> 63  # 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4 ...
    values[_MODELLED:] -= 1
    gaps = places.copy()
    gaps[1:] -= places[:-1] + 1
    lengths = _lengths(in_xy, in_z)
    orders, stream = _pack(np.concatenate([values, gaps]), lengths)

    flags = (points != _POINTS) * _NO_IRISES
    flags |= bool(face.blendshapes) * _HAS_BLENDSHAPES | (face.matrix is not None) * _HAS_MATRIX
    parts += [_FACE.pack(flags, face.id & 0xFFFF, code, in_xy, in_z, len(stream), orders), stream]
    if face.blendshapes:
        parts.append(_encode_blendshapes(face.blendshapes))
    if face.matrix is not None:
        parts.append(_checked_matrix(face.matrix).astype(_MATRIX).tobytes())


def _decode_face(reader: "_Reader", size: tuple[int, int]) -> Face:
    flags, id_, code, in_xy, in_z, length, orders = reader.take(_FACE)
    points = _POINTS_WITHOUT_IRISES if flags & _NO_IRISES else _POINTS
    if flags & ~(_NO_IRISES | _HAS_BLENDSHAPES | _HAS_MATRIX):
        raise InvalidFaces(f"a face is of a newer format than faces/1 (flags {flags:#x})")
    if not code or in_xy > 2 * points or in_z > points:
        raise InvalidFaces("a face has no tolerance, or more residuals than landmarks")
    symbols = _unpack(reader.bytes(length), orders, _lengths(in_xy, in_z))
    values, gaps = symbols[: _MODELLED + in_xy + in_z], symbols[_MODELLED + in_xy + in_z :]
    values[_MODELLED:] += 1
    values = values >> 1 ^ -(values & 1)
    places = np.cumsum(gaps + 1) - 1
    if (in_xy and places[in_xy - 1] >= 2 * points) or (in_z and places[-1] >= 3 * points):
        raise InvalidFaces("a face of the faces message has a residual for a landmark that it has not")

    tolerance = code / 256
    model = _model(points)
    rotation, scale, centre = _placed(values[:_POSE].astype(np.float32))
    flat = (values[_POSE:_MODELLED] * np.float32(_COEFFICIENT_STEP)).astype(np.float32) @ model.basis
    flat += model.mean * scale
    residuals = np.zeros_like(flat)
    residuals[places] = values[_MODELLED:]
    rest = flat.reshape(3, points)
    rest += residuals.reshape(3, points) * _steps(tolerance)
    rest[:2] = rotation @ rest[:2]
    rest += centre
    rest *= np.array([[tolerance / size[0]], [tolerance / size[1]], [tolerance / size[0]]], np.float32)
    landmarks = np.ascontiguousarray(rest.T)

    blendshapes = _decode_blendshapes(reader.bytes(len(BLENDSHAPES))) if flags & _HAS_BLENDSHAPES else {}
    if not flags & _HAS_MATRIX:
        return Face(landmarks, blendshapes, id=id_)
    matrix = np.frombuffer(reader.bytes(64), _MATRIX).astype(np.float32).reshape(4, 4)
    if not np.isfinite(matrix).all():
        raise InvalidFaces("a facial transformation matrix holds what is no number")
    return Face(landmarks, blendshapes, matrix, id_)


def _placed(pose: _Floats) -> tuple[_Floats, np.float32, _Floats]:
    """Rotation (2, 2), size and centre (3, 1) of the mean face, in tolerances."""
    real, imaginary, x, y, z = (pose * np.float32(_POSE_STEP)).tolist()
    length = math.hypot(real, imaginary)
    cosine, sine = (real / length, imaginary / length) if length else (1.0, 0.0)
    rotation = np.array([[cosine, -sine], [sine, cosine]], np.float32)
    return rotation, np.float32(length), np.array([[x], [y], [z]], np.float32)


def _steps(tolerance: float) -> _Floats:
    """Of the residuals, (3, 1), in tolerances; z may be off by 0.5 pixels."""
    return np.array([[_XY_STEP], [_XY_STEP], [_Z_STEP * max(1, 0.5 / tolerance)]], np.float32)


def _lengths(in_xy: int, in_z: int) -> list[int]:
    """Of the blocks of symbols that have an order each: pose, coefficients, residuals, gaps before them."""
    return [_POSE, *[_BLOCK] * (_COEFFICIENTS // _BLOCK), in_xy, in_z, in_xy, in_z]


def _pack(symbols: _Integers, lengths: list[int]) -> tuple[bytes, bytes]:
    """Rice codes: the unary parts of all symbols, then the binary parts of all, most significant bit first.

    A block's order, 0 to 15, is chosen by its mean, so that the unary parts stay short whatever the symbols are.
    """
    totals = symbols.cumsum()[np.cumsum(lengths) - 1].tolist()
    means = [(end - start) / max(length, 1) for start, end, length in zip([0, *totals], totals, lengths, strict=False)]
    orders = [min(int(mean * 0.69).bit_length(), 15) for mean in means]
    packed = bytes(low | high << 4 for low, high in zip(orders[::2], [*orders[1::2], 0], strict=True))

    order = np.array(orders).repeat(lengths)
    ends = ((symbols >> order) + 1).cumsum()
    unary = np.zeros(ends[-1], np.uint8)
    unary[ends - 1] = 1
    binary = (symbols.repeat(order) >> _shifts(order) & 1).astype(np.uint8)
    return packed, np.packbits(np.concatenate([unary, binary])).tobytes()


def _unpack(data: bytes, orders: bytes, lengths: list[int]) -> _Integers:
    order = np.array([nibble for byte in orders for nibble in (byte & 15, byte >> 4)][: len(lengths)]).repeat(lengths)
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    ones = np.flatnonzero(bits.view(np.bool_))[: len(order)]
    shifts = _shifts(order)
    if len(ones) < len(order) or len(bits) - ones[-1] <= len(shifts):
        raise InvalidFaces("a face of the faces message is cut short")
    begin = ones[-1] + 1
    symbols = ones.copy()
    symbols[1:] -= ones[:-1] + 1
    symbols <<= order
    binary = bits[begin : begin + len(shifts)].astype(np.int64) << shifts
    symbols += np.bincount(np.arange(len(order)).repeat(order), binary, len(order)).astype(np.int64)
    return symbols


def _shifts(order: _Integers) -> _Integers:
    """How far left each binary digit stands in its symbol."""
    stops = order.cumsum()
    return stops.repeat(order) - np.arange(1, stops[-1] + 1)


def _encode_blendshapes(scores: dict[str, float]) -> bytes:
    _checked_blendshapes(scores)
    return bytes(round(scores[name] * 254) if name in scores else _ABSENT for name in BLENDSHAPES)


def _decode_blendshapes(data: bytes) -> dict[str, float]:
    return {name: byte / 254 for name, byte in zip(BLENDSHAPES, data, strict=True) if byte != _ABSENT}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    @property
    def left(self) -> int:
        return len(self._data)

    def bytes(self, count: int) -> bytes:
        if count > len(self._data):
            raise InvalidFaces("the faces message is cut short")
        taken, self._data = self._data[:count], self._data[count:]
        return bytes(taken)

    def take(self, form: struct.Struct) -> tuple[Any, ...]:
        return form.unpack(self.bytes(form.size))


# --- JSON -------------------------------------------------------------------------------------------------------------

_POINT = '{"x":%.4f,"y":%.4f,"z":%.4f}'
_LONGEST_NUMBER = 32  # characters
_MOST_LISTS = 1024
_MOST_OBJECTS = MAX_FACES * _POINTS + 1024
"""More are refused before they are made: two megabytes of empty lists take a second, and ten times the memory."""


class _Point(msgspec.Struct, gc=False):
    x: float
    y: float
    z: float = 0.0


_NOTHING = msgspec.Raw(b"null")


class _Page(msgspec.Struct, rename="camel"):
    """As pages write it. Whatever they leave out or get wrong beside the landmarks is not missed."""

    landmarks: list[list[_Point]]
    timestamp: msgspec.Raw = _NOTHING
    video_width: msgspec.Raw = _NOTHING
    video_height: msgspec.Raw = _NOTHING
    rtp_timestamp: msgspec.Raw = _NOTHING


_PAGE = msgspec.json.Decoder(_Page)
_NUMBER = msgspec.json.Decoder(int | float)


def encode_json(message: FacesMessage) -> str:
    """Write a message as the pages read it: landmarks alone, to 4 decimals.

    Raises:
        InvalidFaces: A landmark is not finite, or not one of 468 or 478.
    """
    _check(message)
    keys = ['"type":"face_landmarks"']
    if message.capture_time is not None:
        keys.append(f'"timestamp":{round(message.capture_time * 1000)}')
    faces = []
    for face in message.faces:
        landmarks = _checked(face.landmarks)
        faces.append("[" + ",".join([_POINT] * len(landmarks)) % tuple(landmarks.ravel().tolist()) + "]")
    keys.append(f'"landmarks":[{",".join(faces)}]')
    keys.append(f'"videoWidth":{message.width},"videoHeight":{message.height}')
    if message.rtp_timestamp is not None:
        keys.append(f'"rtpTimestamp":{message.rtp_timestamp}')
    return "{" + ",".join(keys) + "}"


def decode_json(text: str | bytes) -> FacesMessage:
    """Read a message as the pages write it: ``landmarks`` must be there, all else may be missing.

    Raises:
        InvalidFaces: It is no such message, whatever it is.
    """
    if len(text) > MAX_BYTES:
        raise InvalidFaces(f"a faces message of {len(text)} characters is longer than {MAX_BYTES}")
    lists, objects = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if text.count(lists) > _MOST_LISTS or text.count(objects) > _MOST_OBJECTS:  # type: ignore[arg-type]
        raise InvalidFaces("the text is no faces message: it has more lists or objects than faces and landmarks can be")
    try:
        page = _PAGE.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidFaces(f"the text is no faces message: {error}") from None
    if len(page.landmarks) > MAX_FACES:
        raise InvalidFaces(f"the faces message holds {len(page.landmarks)} faces, more than {MAX_FACES}")
    return FacesMessage(
        tuple(Face(_landmarks(points), {}) for points in page.landmarks),
        _whole(page.video_width, 16) or 0,
        _whole(page.video_height, 16) or 0,
        _whole(page.rtp_timestamp, 32),
        None if (milliseconds := _number(page.timestamp)) is None else milliseconds / 1000,
    )


def _landmarks(points: list[_Point]) -> _Floats:
    return _checked(np.array([(point.x, point.y, point.z) for point in points]).reshape(-1, 3))


def _number(raw: msgspec.Raw) -> float | None:
    try:
        value = _NUMBER.decode(raw) if len(raw) <= _LONGEST_NUMBER else None
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return float(value) if value is not None and abs(value) <= _LATEST * 1000 else None


def _whole(raw: msgspec.Raw, bits: int) -> int | None:
    number = _number(raw)
    return int(number) if number is not None and number.is_integer() and 0 <= number < 1 << bits else None
