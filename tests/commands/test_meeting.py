"""Where a broadcaster meets its receivers: at its own server, at one that is named, or at another broadcaster's."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from rtc_network import free_port

from synopticon_rtc.commands import meeting
from synopticon_rtc.commands.meeting import Meeting
from synopticon_rtc.errors import PortInUse, SignalingError
from synopticon_rtc.signaling import SignalingServer

AWAY: Any = SimpleNamespace(session=None)
"""A client whose server has gone."""


@pytest.fixture(autouse=True)
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Where a broadcaster serves by default."""
    port = free_port()
    monkeypatch.setattr(meeting, "DEFAULT_ADDRESS", ("127.0.0.1", port))
    monkeypatch.setattr(meeting, "DEFAULT_URL", f"ws://localhost:{port}/ws")
    monkeypatch.setattr(meeting, "LOOK_EVERY", 0.01)
    return port


def at(url: str | None = None, serve: tuple[str, int] | None = None, make: Any = SignalingServer) -> Meeting:
    return Meeting(url, serve, make, room="lab", name="card", tls=None)


async def test_where_nobody_serves_it_does_itself(port: int) -> None:
    async with at() as alone:
        assert alone.server is not None
        assert alone.server.port == port
        assert (alone.url, alone.others) == (alone.server.url, False)
        assert alone.viewer.endswith("?room=lab")
        assert not await alone.take_over(AWAY)


async def test_it_takes_the_place_of_another_that_ends(port: int) -> None:
    async with at(serve=("127.0.0.1", port)), at() as second:
        assert (second.server, second.others) == (None, True)
        await second.find_viewer()
        assert second.viewer == f"http://localhost:{port}/?room=lab&from=card"
        waiting = asyncio.create_task(second.take_over(SimpleNamespace(session="ws_1")))  # type: ignore[arg-type]
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        waiting.cancel()
    async with at(serve=("127.0.0.1", port)) as first, at() as second:
        waiting = asyncio.create_task(second.take_over(AWAY))
        await first._stack.aclose()
        async with asyncio.timeout(20):
            assert await waiting
        assert second.server is not None
        assert second.server.port == port


async def test_one_that_is_named_is_not_replaced(port: int) -> None:
    async with at(url=f"ws://localhost:{port}/ws") as named:
        assert (named.server, named.others) == (None, False)
        assert not await named.take_over(AWAY)
        await named.find_viewer()
        assert named.viewer == ""


async def test_one_who_is_slower_than_a_third_goes_on_looking(caplog: pytest.LogCaptureFixture) -> None:
    errors = [PortInUse("a third one was faster"), PortInUse("again"), SignalingError("no such address")]

    def fail(host: str, port: int) -> SignalingServer:  # noqa: ARG001 - as it is called
        raise errors.pop(0)

    async with at(make=fail) as slow:
        assert (slow.server, slow.others) == (None, True)
        async with asyncio.timeout(20):
            assert not await slow.take_over(AWAY)
    assert errors == []
    assert [record.message for record in caplog.records] == ["no such address"]
