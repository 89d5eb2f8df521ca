"""What errors show of the addresses of others."""

import pytest

from synopticon_rtc.errors import without_login


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ws://host/ws", "ws://host/ws"),
        ("ws://admin:s3cret@", "ws://"),
        ("wss://admin:s/3@cret@host:port/ws", "wss://host:port/ws"),
        ("nats://user:s/ec@ret@localhost:99999", "nats://localhost:99999"),
        ("turn:1774000000:alice:s3cret@host:3478", "turn:host:3478"),
        ("turn:user:s3\ncret@host", "turn:host"),
        ("//user:s3cret@host/", "//host/"),
        ("s3cret@host", "host"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_login(address: str, shown: str) -> None:
    assert without_login(address) == shown
