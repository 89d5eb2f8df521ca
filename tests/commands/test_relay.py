"""``python -m synopticon_rtc.relay``, as a user runs it."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE

import pytest

from synopticon_rtc import Broadcaster, Receiver, SignalingClient, SignalingServer, TestPattern
from synopticon_rtc.commands.relay import main

LONG = 30.0


def test_two_rooms_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    address = "ws://127.0.0.1:1/ws"
    with pytest.raises(SystemExit):
        main(["--from", address, "--room", "lab", "--to", address])
    said = "relay: a relay leads from one room, or server, to another: these are the same. Try --help\n"
    assert capsys.readouterr().err == said


async def test_it_sends_on_and_tells_of_it() -> None:
    async with SignalingServer(port=0) as server:
        options = ["--from", server.url, "--room", "here", "--to", server.url, "--to-room", "there", "--name", "hall"]
        relay = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "synopticon_rtc.relay", *options, "--json", "--duration", "3", stdout=PIPE
        )
        here, there = (SignalingClient(server.url, room=room) for room in ("here", "there"))
        async with (
            asyncio.timeout(LONG),
            Broadcaster(here, TestPattern((320, 240)), name="card"),
            Receiver(there) as receiver,
        ):
            await anext(receiver)
            assert receiver.origin.name == "card"
            out, _ = await relay.communicate()
    events = [json.loads(line) for line in out.splitlines()]
    assert relay.returncode == 0
    ready = events[0]
    assert ready["event"] == "ready"
    assert ready["relay"].startswith("hall#")
    states = [event["state"] for event in events if event["event"] == "broadcaster"]
    assert states[:3] == ["seeking", "connecting", "connected"]
    assert "connected" in {event["state"] for event in events if event["event"] == "peer"}
    assert {event["name"] for event in events if event["event"] == "stream"} <= {"camera"}
    stats = [event for event in events if event["event"] == "stats"]
    assert stats[-1]["streams"] == ["camera"]
    assert stats[-1]["peers"] == 1
    assert stats[-1]["relays"] == [ready["relay"]]
    assert events[-1]["event"] == "summary"
    assert events[-1]["frames"] > 0
