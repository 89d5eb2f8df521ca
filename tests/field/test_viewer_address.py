"""The address of the viewer that is printed works for whom the server is for."""

import socket

import pytest
from calls import PICTURE, run, running
from field_helpers import running as running_for_people

pytestmark = pytest.mark.field


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        address: str = probe.getsockname()[0]
        return address


def test_a_broadcaster_for_all_prints_where_others_find_its_viewer() -> None:
    address = own_address()
    with running("broadcast", *PICTURE, "--serve", "0.0.0.0:0", "--insecure", "--room", "lab") as broadcast:
        ready = broadcast.next("ready")
    assert ready["viewer"].startswith(f"http://{address}:")
    assert ready["viewer"].endswith("/?room=lab")
    assert ready["url"].startswith("ws://127.0.0.1:")


@pytest.mark.parametrize(
    "command",
    [
        ("broadcast", *PICTURE, "--serve", "0.0.0.0:0", "--room", "lab"),
        ("signaling", "--host", "0.0.0.0", "--port", "0"),  # noqa: S104 - what is printed then is the matter
    ],
    ids=lambda command: command[0],
)
def test_people_are_told_the_address_of_signaling_that_others_need_too(command: tuple[str, ...]) -> None:
    address = own_address()
    with running_for_people(*command, "--insecure", until="signaling  ") as line:
        assert line.split()[1].startswith(f"ws://{address}:")
        assert ("?room=lab" in line) == (command[0] == "broadcast")


def test_a_broadcaster_for_this_machine_prints_an_address_of_this_machine() -> None:
    with running("broadcast", *PICTURE, "--serve", "0") as broadcast:
        assert broadcast.next("ready")["viewer"].startswith("http://127.0.0.1:")


def test_people_are_told_of_a_server_of_another_and_its_viewer() -> None:
    with running("signaling", "--port", "0") as server:
        url = server.next("ready")["url"]
        _, out, _ = run("broadcast", *PICTURE, "--url", url, "--name", "lab-1", "--duration", "2")
    assert f"viewer     http{url[2:-2]}?from=lab-1" in out.splitlines()
    assert f"signaling  {url}" in out
