"""Faces on their way to one peer: in which format, how often, and how many times."""

import random
from types import SimpleNamespace
from typing import Any

import pytest
from turned import elapse, turned

from synopticon_rtc.faces.wire import FacesMessage, decode, decode_json
from synopticon_rtc.peers.faces_channel import COPY_AFTER, LOSSY, FacesChannel, WrittenFaces

SECONDS = 60
FOUND = WrittenFaces(FacesMessage((), 640, 480, 90_000, 1.0, detected=True))
LEFT_OUT = WrittenFaces(FacesMessage((), 640, 480, 90_000, 1.0, detected=False))


class Link:
    """Stands for a connection: one data channel, which keeps what is sent, and one sender of video."""

    is_open = True

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.sent: list[str | bytes] = []
        self.sender = SimpleNamespace(loss=0.0)
        self.senders = (self.sender,)

    def add_channel(self, label: str, **options: Any) -> "Link":
        self.options = {"label": label, **options}
        return self

    def send(self, data: str | bytes) -> bool:
        self.sent.append(data)
        return True


def channel(link: Any, *, binary: bool) -> FacesChannel:
    return FacesChannel(link, binary=binary)


def sent(times: list[float]) -> list[float]:
    """Find faces at these times, and return when they were sent to a page."""
    link = Link()
    page = channel(link, binary=False)
    went = []
    for now in times:
        before = len(link.sent)
        page.send(FOUND, now)
        went += [now] * (len(link.sent) - before)
    return went


@pytest.mark.parametrize("uneven", [0.0, 0.3])
@pytest.mark.parametrize(("fps", "expected"), [(5, 5), (12, 12), (15, 12), (24, 12), (25, 12), (30, 12), (60, 12)])
def test_a_page_gets_twelve_a_second_at_any_frame_rate(fps: int, expected: int, uneven: float) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    frames = [1000 + (number + chance.uniform(-uneven, uneven)) / fps for number in range(SECONDS * fps)]
    times = sent(frames)
    assert len(times) / SECONDS == pytest.approx(expected, abs=0.05)
    for begin in range(1000, 1000 + SECONDS):
        assert sum(begin <= time < begin + 1 for time in times) <= expected + 1


def test_what_was_not_sent_in_a_pause_is_not_made_up_for() -> None:
    times = sent([number / 60 for number in range(60)] + [60 + number / 60 for number in range(600)])
    assert sum(60 <= time < 61 for time in times) <= 13


def test_a_page_is_told_in_json_of_frames_that_were_looked_at_alone() -> None:
    link = Link()
    page = channel(link, binary=False)
    page.send(LEFT_OUT, 1.0)
    page.send(FOUND, 2.0)
    (message,) = link.sent
    assert isinstance(message, str)
    assert decode_json(message).faces == ()
    assert (link.options["label"], link.options["protocol"]) == ("faceData", "")


def test_a_peer_of_this_package_is_told_of_every_frame() -> None:
    link = Link()
    peer = channel(link, binary=True)
    peer.send(LEFT_OUT, 1.0)
    peer.send(FOUND, 1.0)
    assert [isinstance(data, bytes) and decode(data).detected for data in link.sent] == [False, True]
    assert (link.options["label"], link.options["protocol"]) == ("faces", "faces/1")


def test_nothing_is_sent_before_the_channel_is_open() -> None:
    link = Link()
    link.is_open = False
    channel(link, binary=True).send(FOUND, 1.0)
    assert link.sent == []


@turned
async def test_faces_are_sent_once_more_for_a_while_after_a_loss() -> None:
    link = Link()
    peer = channel(link, binary=True)
    counts = []
    for now, loss in ((0.0, 0.0), (1.0, 0.1), (0.9 + LOSSY, 0.0), (1.1 + LOSSY, 0.0)):
        link.sender.loss = loss
        peer.send(FOUND, now)
        await elapse(2 * COPY_AFTER)
        counts.append(len(link.sent))
    assert counts == [1, 3, 5, 6]


def test_a_message_is_written_once_for_all_who_read_it() -> None:
    faces = WrittenFaces(FacesMessage((), 640, 480))
    links = [Link(), Link()]
    for link in links:
        channel(link, binary=True).send(faces, 1.0)
    assert links[0].sent[0] is links[1].sent[0]
