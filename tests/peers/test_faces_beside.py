"""Faces that travel inside the video find their frame, whatever becomes of RTP timestamps on the way."""

import dataclasses
from types import SimpleNamespace
from typing import cast

import pytest

from synopticon_rtc.faces.wire import FacesMessage, decode
from synopticon_rtc.peers import faces_beside
from synopticon_rtc.peers.faces_beside import WAITING, FacesBeside
from synopticon_rtc.peers.faces_channel import WrittenFaces
from synopticon_rtc.rtc import EncodedVideoFrame, FanoutSender
from synopticon_rtc.rtc.nal import START_CODE


def written(timestamp: int, **fields: object) -> WrittenFaces:
    return WrittenFaces(dataclasses.replace(FacesMessage((), 640, 480, timestamp, 1.5), **fields))  # type: ignore[arg-type]


def carried(units: list[bytes], timestamp: int) -> EncodedVideoFrame:
    return EncodedVideoFrame("h264", b"".join(START_CODE + unit for unit in units), timestamp, False, 0.0)


@pytest.fixture
def sender() -> FanoutSender:
    return cast("FanoutSender", SimpleNamespace(beside=None))


@pytest.mark.parametrize("shift", [0, 7, 2**31, -5])
def test_a_server_that_shifts_all_timestamps_shifts_those_of_faces(sender: FanoutSender, shift: int) -> None:
    way = FacesBeside(sender)
    way.send(written(2**32 - 1000), 0)
    assert sender.beside is not None
    (data,) = faces_beside.read(carried(sender.beside(2000), (2000 + shift) % 2**32))
    message = decode(data)
    assert message.rtp_timestamp == (2**32 - 1000 + shift) % 2**32
    assert (message.width, message.capture_time) == (640, 1.5)


def test_each_goes_once_and_of_many_that_wait_the_newest(sender: FanoutSender) -> None:
    way = FacesBeside(sender)
    for timestamp in range(WAITING + 3):
        way.send(written(timestamp), 0)
    assert sender.beside is not None
    found = [decode(data).rtp_timestamp for data in faces_beside.read(carried(sender.beside(9), 9))]
    assert found == list(range(3, WAITING + 3))
    assert sender.beside(10) == []
    way.close()
    assert sender.beside is None
