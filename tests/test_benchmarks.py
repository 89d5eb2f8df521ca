"""Benchmarks come to an end."""

import asyncio
from pathlib import Path

from benchmarks.faces import inherent


async def test_the_detector_and_the_encoder_are_measured_alone(face_model: Path) -> None:
    assert face_model.exists()
    async with asyncio.timeout(60):
        found = await inherent(3)
    assert set(found) == {"MediaPipe alone", "VP8 encoder alone"}
    assert all(milliseconds > 0 for milliseconds in found.values())
