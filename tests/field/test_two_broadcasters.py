"""Two broadcasters: on one machine without a word of servers, and with one name."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from calls import PICTURE, PLAIN, Peer, receives, run, running
from rtc_network import free_port

pytestmark = pytest.mark.field

# The command as it is, but for the port of the server that it looks for: others on this machine have the usual one.
ELSEWHERE = """
import synopticon_rtc.commands.meeting as meeting
meeting.DEFAULT_ADDRESS = "127.0.0.1", {port}
meeting.DEFAULT_URL = "ws://localhost:{port}/ws"
from synopticon_rtc.broadcast import main
main()
"""


@contextlib.contextmanager
def broadcasting(port: int, name: str) -> Iterator[Peer]:
    """Run ``broadcast`` without ``--url`` and ``--serve``."""
    process = subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE.format(port=port), *PICTURE, "--name", name, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=PLAIN,
    )
    try:
        yield Peer(process)
    finally:
        process.kill()
        process.communicate()


def test_the_second_uses_the_server_of_the_first_and_takes_its_place() -> None:
    port = free_port()
    url = f"ws://localhost:{port}/ws"
    with broadcasting(port, "first") as first:
        ready = first.next("ready")
        assert (ready["serving"], ready["viewer"]) == (True, f"http://127.0.0.1:{port}/")
        with broadcasting(port, "second") as second:
            ready = second.next("ready")
            assert (ready["url"], ready["serving"]) == (url, False)
            assert ready["viewer"] == f"http://localhost:{port}/?from=second"
            with running("receive", "--url", url, "--from", "second") as receiver:
                receiver.next("state", state="connected")
                first.interrupt()
                assert second.next("serving")["viewer"] == f"http://127.0.0.1:{port}/"
                assert second.next("signaling", connected=True)["url"] == url
                assert receives("--url", url, "--from", "second") == 5
                receiver.interrupt()


def test_a_receiver_finds_the_second_when_the_first_ends() -> None:
    port = free_port()
    with broadcasting(port, "first") as first:
        first.next("ready")
        with running("receive", "--url", f"ws://localhost:{port}/ws") as receiver:
            assert receiver.next("state", state="connected")["name"] == "first"
            with broadcasting(port, "second") as second:
                second.next("ready")
                first.interrupt()
                assert receiver.next("state", state="connected")["name"] == "second"


def test_two_of_one_name_are_told_and_listed() -> None:
    with running("signaling", "--port", "0") as server:
        url = server.next("ready")["url"]
        with (
            running("broadcast", *PICTURE, "--url", url, "--name", "lab") as first,
            running("broadcast", *PICTURE, "--url", url, "--name", "other"),
        ):
            sessions = {first.next("ready")["session"]}
            with running("broadcast", *PICTURE, "--url", url, "--name", "lab") as second:
                sessions.add(second.next("ready")["session"])
                code, out, _ = run("receive", "--url", url, "--from", "lab", "--frames", "1", "--json")
                reasons = [event["reason"] for event in map(json.loads, out.splitlines()) if event["event"] == "state"]
                assert code == 0
                (listed,) = [reason for reason in reasons if "2 broadcasters" in reason]
                assert all(f"lab ({session})" in listed for session in sessions)
                second.process.terminate()
                _, err = second.process.communicate(timeout=20)
            first.process.terminate()
            _, silence = first.process.communicate(timeout=20)
    (line,) = err.splitlines()
    assert "called lab too" in line
    assert not silence


def test_a_receiver_that_takes_any_lists_whom_there_is_to_choose_from() -> None:
    with running("signaling", "--port", "0") as server:
        url = server.next("ready")["url"]
        with (
            running("broadcast", *PICTURE, "--url", url, "--name", "one") as one,
            running("broadcast", *PICTURE, "--url", url, "--name", "two") as two,
        ):
            one.next("ready")
            two.next("ready")
            _, out, _ = run("receive", "--url", url, "--frames", "1")
    assert "of 2 broadcasters: " in out
    assert "one (ws_" in out
    assert "two (ws_" in out


def test_one_that_lost_signaling_is_not_its_own_namesake() -> None:
    port = free_port()
    with running("signaling", "--port", str(port)) as server:
        server.next("ready")
        with running("broadcast", *PICTURE, "--url", f"ws://127.0.0.1:{port}/ws", "--name", "lab") as broadcast:
            broadcast.next("ready")
            server.interrupt()
            with running("signaling", "--port", str(port)):
                broadcast.next("signaling", connected=True)
                time.sleep(0.2)  # for what should not come
                broadcast.process.terminate()
                _, err = broadcast.process.communicate(timeout=20)
    assert "called lab" not in err
