"""The clock of the machine is set while video runs: delays and capture times go on as if nothing had happened."""

import asyncio
import itertools
import time

import pytest

from synopticon_rtc import Broadcaster, Receiver, SignalingServer, TestPattern
from synopticon_rtc.peers.control import PING_INTERVAL

pytestmark = pytest.mark.field


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_delays_and_capture_times_do_not_jump(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    real = time.time
    async with (
        SignalingServer(port=0) as server,
        Broadcaster(server.url, TestPattern((320, 180), 30)) as broadcaster,
        Receiver(server.url, timeout=15) as receiver,
    ):
        async for moment in receiver:  # until the clocks are aligned
            if receiver.age(moment) is not None:
                break
        monkeypatch.setattr(time, "time", lambda: real() + step)
        ages, captured = [], []
        async with asyncio.timeout(15):
            async for moment in receiver:
                ages.append(receiver.age(moment))
                captured.append(moment.captured)
                if len(ages) > 4 * PING_INTERVAL * 30:
                    break
        (sent,) = broadcaster.peer_stats().values()
    assert all(age is not None and -0.1 < age < 5 for age in ages)
    assert all(
        one is not None and other is not None and 0 < other - one < 5 for one, other in itertools.pairwise(captured)
    )
    delay = receiver.stats.delay
    assert delay is not None
    assert -0.1 < delay < 5
    assert sent.rtt is None or sent.rtt < 5
