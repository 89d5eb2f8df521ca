"""What errors show of the addresses of others."""

import pytest

from synopticon_rtc.errors import without_login, without_password


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


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:s3@cret@host/x", "rtsp://host/x"),
        ("rtsp://admin:s3/cret@host/x", "rtsp://host/x"),
        ("http://admin:s3?cret#@host/x", "http://host/x"),
        ("http://host/@user/film.mp4", "http://host/@user/film.mp4"),
        ("srt://host:9000?passphrase=s3cret&mode=caller", "srt://host:9000?passphrase=...&mode=caller"),
        ("https://host/x?access_token=s3cret", "https://host/x?access_token=..."),
        ("https://host/x?a=1&X-Amz-Signature=s3cret", "https://host/x?a=1&X-Amz-Signature=..."),
        ("http://host/x.cgi?loginuse=admin&loginpas=s3cret", "http://host/x.cgi?loginuse=admin&loginpas=..."),
        ("rtsp://host/user=admin_password=s3cret_channel=1", "rtsp://host/user=admin_password=..."),
    ],
)
def test_a_source_is_shown_without_what_is_secret_in_its_address(address: str, shown: str) -> None:
    assert without_password(address) == shown
