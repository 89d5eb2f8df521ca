"""What is said of a moment that does not come."""

import pytest

from synopticon_rtc.errors import ConnectionLost, NobodyAnswered
from synopticon_rtc.receiving.overdue import What, overdue
from synopticon_rtc.signaling.client import as_client
from synopticon_rtc.signaling.receiver_handshake import ReceiverHandshake
from synopticon_rtc.signaling.session import Signaling

URL = "ws://127.0.0.1:1/ws"


@pytest.fixture
def client() -> Signaling:
    client = as_client(URL)
    client.session = "ours"
    return client


@pytest.fixture
def handshake() -> ReceiverHandshake:
    return ReceiverHandshake(want=None, taken=frozenset, accept={}, timestamp=lambda: 0)


def told(
    client: Signaling,
    handshake: ReceiverHandshake,
    *,
    wanted: str | None = None,
    video: bool = True,
    begun: bool = False,
) -> str:
    what: What = "video" if video else "faces"
    error = overdue(client, handshake, broadcaster=wanted, what=what, begun=begun, timeout=2.5)
    assert isinstance(error, ConnectionLost if begun else NobodyAnswered)
    return str(error)


def test_without_a_server_the_address_is_doubted(client: Signaling, handshake: ReceiverHandshake) -> None:
    client.session = None
    assert f"the signaling server {URL} was not there within 2.5 s" in told(client, handshake)


def test_where_nobody_answered_it_is_asked_whether_anybody_runs(
    client: Signaling, handshake: ReceiverHandshake
) -> None:
    assert told(client, handshake) == f"no broadcaster answered within 2.5 s at {URL}: is one running there?"


def test_where_another_than_the_wanted_one_was_heard_it_is_named(
    client: Signaling, handshake: ReceiverHandshake
) -> None:
    handshake.heard["s1"] = "lab\x1b[2J"
    assert told(client, handshake, wanted="hall") == (
        "no broadcaster 'hall' answered within 2.5 s; there are: lab\\x1b[2J (s1)"
    )


def test_what_the_server_says_is_passed_on(client: Signaling, handshake: ReceiverHandshake) -> None:
    handshake.refusal = "not allowed"
    assert told(client, handshake).endswith(f"{URL} says: not allowed")


@pytest.mark.parametrize(("video", "what"), [(True, "no frame within 2.5 s"), (False, "no faces within 2.5 s")])
def test_one_that_was_there_before_is_gone(
    client: Signaling, handshake: ReceiverHandshake, *, video: bool, what: str
) -> None:
    assert told(client, handshake, video=video, begun=True) == f"{what}: the broadcaster is gone"
