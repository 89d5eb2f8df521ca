"""Peers that wait for long on the published servers, whose clocks run faster here, are still found."""

import asyncio
import logging

import pytest
from pairs import our_broadcaster, receives
from published import V062, V063, Profile, PublishedServer
from waiting import until

from synopticon_rtc import Receiver, SignalingClient
from synopticon_rtc.signaling import client as client_module

IDLE = 300.0  # seconds, on the published clocks


def run_faster(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    for name in ("KEEPALIVE", "SILENCE"):
        monkeypatch.setattr(client_module, name, getattr(client_module, name) / times)


async def broadcaster_waits(profile: Profile, seconds: float) -> None:
    async with PublishedServer(profile) as server, our_broadcaster(server) as broadcaster:
        session = broadcaster.signaling.session
        await asyncio.sleep(seconds)
        assert broadcaster.signaling.session == session
        async with Receiver(server.url, timeout=10) as receiver:
            await receives(receiver, points=478)


async def receiver_waits(profile: Profile, seconds: float) -> None:
    async with PublishedServer(profile) as server, Receiver(server.url) as receiver:
        session = await receiver.signaling.wait_open()
        await asyncio.sleep(seconds)
        assert receiver.signaling.session == session
        async with our_broadcaster(server), asyncio.timeout(10):
            await receives(receiver, points=478)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [pytest.param(30), pytest.param(1, marks=pytest.mark.slow)])
async def test_peers_that_waited_for_long_find_each_other(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    run_faster(monkeypatch, times)
    async with asyncio.TaskGroup() as tasks:
        for profile in (V062.faster(times), V063.faster(times)):
            tasks.create_task(broadcaster_waits(profile, IDLE / times))
            tasks.create_task(receiver_waits(profile, IDLE / times))


@pytest.mark.parametrize("profile", [V062, V063], ids=lambda profile: profile.version)
async def test_a_session_that_went_deaf_is_left_for_a_new_one(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, caplog: pytest.LogCaptureFixture
) -> None:
    run_faster(monkeypatch, 30)
    async with PublishedServer(profile) as server, SignalingClient(server.url) as client:
        session = await client.wait_open()
        server.sessions[session].deaf = True
        with caplog.at_level(logging.WARNING):
            await until(lambda: client.session not in (session, None), 15 / 30 + 0.4)
        assert "no sign of life" in caplog.text
        assert list(server.sessions) == [client.session]
