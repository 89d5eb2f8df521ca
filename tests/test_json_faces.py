"""Faces in JSON, as pages read them: how many a second."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from synopticon_rtc import Broadcaster, TestPattern
from synopticon_rtc.broadcaster import _Watcher
from synopticon_rtc.faces.wire import FacesMessage

SECONDS = 60
NOTHING = FacesMessage((), 640, 480)


class Page:
    """A channel to a page, which takes note of when messages came."""

    is_open = True

    def __init__(self, clock: SimpleNamespace) -> None:
        self.times: list[float] = []
        self._clock = clock

    def send(self, _message: str) -> bool:
        self.times.append(self._clock.now)
        return True


def sent(times: list[float]) -> list[float]:
    """Find faces at these times, and return when they were sent to a page."""
    broadcaster: Any = Broadcaster("ws://127.0.0.1:1/ws", TestPattern())
    clock = SimpleNamespace(now=0.0)
    broadcaster._loop = SimpleNamespace(time=lambda: clock.now)
    page: Any = Page(clock)
    broadcaster._watchers[1] = _Watcher(page, binary=False, connection=SimpleNamespace(senders=()))  # type: ignore[arg-type]
    for clock.now in times:
        broadcaster._send_faces(NOTHING)
    return list(page.times)


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
