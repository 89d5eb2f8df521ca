"""A server of a command's own: whom it lets in, by which certificate, and at which address others find it."""

from pathlib import Path
from typing import Any

import click
import pytest
from rtc_network import write_certificate

from synopticon_rtc.commands import serving as serving_module
from synopticon_rtc.commands.cli import Output
from synopticon_rtc.commands.serving import Serving, Tls, reached_at, served_addresses
from synopticon_rtc.errors import SignalingError

HERE = ("127.0.0.1", 0)
NO_TLS = Tls(None, None, own=False)


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Those of this machine, which has a way to the internet by the first."""
    found = ["192.0.2.7", "10.0.0.7", "2001:db8::7"]
    monkeypatch.setattr(serving_module, "own_addresses", lambda: found)
    monkeypatch.setattr(serving_module, "seen_by_others", lambda host: {"0.0.0.0": found[0]}.get(host, host))  # noqa: S104
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return found


def serving(where: tuple[str, int] | None = HERE, **options: Any) -> Serving:
    given: dict[str, Any] = {
        "insecure": False,
        "origins": (),
        "proxies": (),
        "tls": NO_TLS,
        "secret_file": None,
        "invite": None,
        "lasts": 60.0,
    }
    return Serving("broadcast", where, **given | options)


@pytest.mark.parametrize(
    ("where", "options", "words"),
    [
        (None, {"invite": ""}, "--serve"),
        (None, {"tls": Tls(None, None, own=True)}, "--serve"),
        (None, {"secret_file": Path("secret")}, "--serve"),
        (HERE, {"invite": "", "proxies": ["127.0.0.1"]}, "--invite URL"),
        (HERE, {"invite": "lab"}, "no address of pages"),
    ],
)
def test_what_does_not_go_together_is_refused(
    where: tuple[str, int] | None, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(click.UsageError, match=words):
        serving(where, **options)


def test_a_certificate_comes_from_one_place(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(cert, key)
    with pytest.raises(click.UsageError, match="go together"):
        Tls(cert, None, own=False)
    with pytest.raises(click.UsageError, match="give one of them"):
        Tls(cert, key, own=True)
    with pytest.raises(click.UsageError, match="no certificate and its key"):
        Tls(key, cert, own=False).context("127.0.0.1")
    assert Tls(cert, key, own=False).context("127.0.0.1")
    assert not NO_TLS.context("127.0.0.1")


def test_a_link_leads_to_where_others_reach_the_machine(addresses: list[str]) -> None:
    every = "0.0.0.0"  # noqa: S104 - of the test
    assert reached_at("10.0.0.7", ["203.0.113.5"]) == "10.0.0.7"
    assert reached_at(every, ["203.0.113.5"]) == "203.0.113.5"
    assert reached_at(every, []) == "192.0.2.7"
    assert served_addresses(every) == ["192.0.2.7", "10.0.0.7"]
    assert served_addresses("::") == ["2001:db8::7"]
    assert served_addresses("127.0.0.1") == []
    addresses[0] = "127.0.0.1"  # no way to the internet
    assert reached_at(every, []) in {"127.0.0.1", "10.0.0.7"}
    addresses.remove("127.0.0.1")


def test_of_a_machine_without_a_way_to_the_internet_it_is_no_address_of_loopback(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    monkeypatch.setattr(serving_module, "seen_by_others", lambda _: "127.0.0.1")
    assert reached_at("0.0.0.0", []) == "192.0.2.7"  # noqa: S104
    addresses.clear()
    assert reached_at("0.0.0.0", []) == "127.0.0.1"  # noqa: S104


async def test_the_command_itself_is_let_in_by_whatever_certificate(capsys: pytest.CaptureFixture[str]) -> None:
    tls = Tls(None, None, own=True)
    async with (
        serving(invite="", tls=tls) as own,
        await own.meet(None, "lab", None, None, (), Output(json=False)) as client,
    ):
        assert await client.wait_open()
    said = capsys.readouterr().out
    assert tls.made is not None
    assert f"SHA-256 {tls.made.fingerprint}" in said
    assert "invitation https://127.0.0.1:" in said
    assert "on this machine alone" in said


async def test_without_an_invitation_it_says_where_the_pages_are(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as own, await own.meet(None, "", None, None, (), Output(json=False)) as client:
        assert await client.wait_open()
    said = capsys.readouterr().out
    assert "signaling  ws://127.0.0.1:" in said
    assert "/camera\n" in said


async def test_a_server_elsewhere_is_used_as_ever() -> None:
    async with serving(None) as own:
        client = await own.meet("ws://lab/ws", "", None, None, (), Output(json=False))
        assert client.url == "ws://lab/ws"
    async with serving() as own:
        with pytest.raises(click.UsageError, match="exclude each other"):
            await own.meet("ws://lab/ws", "", None, None, (), Output(json=False))


async def test_others_on_the_network_are_let_in_with_tls_alone() -> None:
    server = serving(("0.0.0.0", 0), invite="").make("0.0.0.0", 0)  # noqa: S104
    with pytest.raises(SignalingError, match="--tls-self makes a certificate"):
        await server.__aenter__()


async def test_a_link_of_a_tunnel_leads_there_and_its_page_may_connect(capsys: pytest.CaptureFixture[str]) -> None:
    own = serving(invite="https://x.tunnel.example")
    async with own.make(*HERE) as server:
        url = own.invite(server, "lab", (), Output(json=False))
        assert "https://x.tunnel.example" in server._gate.origins
    assert url.startswith("https://x.tunnel.example/camera?room=lab&token=")
    assert url in capsys.readouterr().out


async def test_a_link_has_the_name_that_the_certificate_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(cert, key)
    every = "0.0.0.0"  # noqa: S104 - of the test
    own = serving((every, 0), invite="", tls=Tls(cert, key, own=False))
    async with own.make(every, 0) as server:
        assert own.invite(server, "", (), Output(json=False)).startswith(f"https://localhost:{server.port}/camera?")
    assert "in place of" not in capsys.readouterr().out


async def test_the_other_networks_of_the_machine_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    own = serving(("0.0.0.0", 0), invite="", tls=Tls(None, None, own=True))  # noqa: S104
    async with own.make("0.0.0.0", 0) as server:  # noqa: S104
        assert own.invite(server, "", (), Output(json=False)).startswith(f"https://192.0.2.7:{server.port}/camera?")
    assert "with 10.0.0.7 in place of 192.0.2.7" in capsys.readouterr().out
