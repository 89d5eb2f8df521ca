"""Benchmarks come to an end."""

import asyncio

import pytest

from benchmarks.faces import inherent


@pytest.mark.usefixtures("face_model")
async def test_the_detector_and_the_encoder_are_measured_alone() -> None:
    async with asyncio.timeout(60):
        found = await inherent(3)
    assert set(found) == {"face landmarker alone", "VP8 encoder alone"}
    assert all(milliseconds > 0 for milliseconds in found.values())
