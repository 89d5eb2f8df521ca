"""Both of our tables, for Python and for the viewer, against MediaPipe's own."""

import json
import re
from collections.abc import Iterable
from importlib import resources

import numpy as np
import pytest
from mediapipe.tasks.python.vision import FaceLandmarksConnections

from synopticon_rtc.faces import topology

NAMES = [
    "LIPS",
    "LEFT_EYE",
    "RIGHT_EYE",
    "LEFT_EYEBROW",
    "RIGHT_EYEBROW",
    "LEFT_IRIS",
    "RIGHT_IRIS",
    "FACE_OVAL",
    "CONTOURS",
    "TESSELATION",
]


def edges(pairs: Iterable[Iterable[int]]) -> list[tuple[int, ...]]:
    """Lines in one order, whichever way they were drawn."""
    return sorted(tuple(sorted(pair)) for pair in pairs)


def mediapipes(name: str) -> list[tuple[int, ...]]:
    table = getattr(FaceLandmarksConnections, f"FACE_LANDMARKS_{name}")
    # MediaPipe names each edge of the tesselation once for each of its triangles.
    return sorted(set(edges((line.start, line.end) for line in table)))


def viewers(name: str) -> list[int]:
    source = resources.files("synopticon_rtc").joinpath("web/topology.js").read_text()
    body = re.search(rf"^export const {name} = \[(.*?),?\s*\];$", source, re.MULTILINE | re.DOTALL)
    assert body is not None
    numbers: list[int] = []
    for part in body[1].split(","):
        spread = re.fullmatch(r"\s*\.\.\.(\w+)", part)
        numbers += viewers(spread[1]) if spread else [json.loads(part)]
    return numbers


@pytest.mark.parametrize("name", NAMES)
def test_a_table_joins_what_mediapipe_joins(name: str) -> None:
    assert edges(getattr(topology, name).tolist()) == mediapipes(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_viewers_table_joins_what_mediapipe_joins(name: str) -> None:
    flat = viewers(name)
    assert edges(zip(flat[::2], flat[1::2], strict=True)) == mediapipes(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_a_read_only_index_into_478_landmarks(name: str) -> None:
    table = getattr(topology, name)
    assert np.zeros((478, 3))[table].shape == (len(table), 2, 3)
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 0


def test_irises_alone_lie_beyond_a_mesh_of_468() -> None:
    for name in NAMES:
        table = getattr(topology, name)
        assert (table >= 468).all() if "IRIS" in name else (table < 468).all()
