"""Variables that others put into the environment."""

import pytest
from calls import run, running

pytestmark = pytest.mark.field


@pytest.mark.parametrize("value", ["tcp://10.0.0.1:8081", "udp://[fd00::1]:8081", "TCP://10.0.0.1:8081"])
def test_what_kubernetes_says_of_a_service_is_ignored_with_a_warning(value: str) -> None:
    links = {
        "SYNOPTICON_PORT": value,
        "SYNOPTICON_SERVICE_HOST": "10.0.0.1",
        "SYNOPTICON_SERVICE_PORT": "8081",
        "SYNOPTICON_PORT_8081_TCP": value,
        "SYNOPTICON_PORT_8081_TCP_PROTO": "tcp",
        "SYNOPTICON_PORT_8081_TCP_PORT": "8081",
        "SYNOPTICON_PORT_8081_TCP_ADDR": "10.0.0.1",
    }
    with running("signaling", "--host", "localhost", "--port", "0", **links) as server:
        assert server.next("ready")["url"].startswith("ws://localhost:")
        server.process.terminate()
        _, err = server.process.communicate(timeout=20)
    (line,) = err.splitlines()
    assert f"SYNOPTICON_PORT={value} is ignored" in line


def test_a_port_that_is_none_is_still_refused() -> None:
    code, _, err = run("signaling", SYNOPTICON_PORT="http")
    assert code == 2
    assert "http" in err
    assert len(err.splitlines()) == 1


def test_a_port_in_the_environment_counts() -> None:
    with running("signaling", SYNOPTICON_PORT="0") as server:
        assert server.next("ready")["url"].startswith("ws://127.0.0.1:")


@pytest.mark.parametrize(
    ("variable", "option"),
    [
        ("SYNOPTICON_ICE_SERVER", "--ice-server"),
        ("SYNOPTICON_UDP_PORT", "--udp-port"),
        ("SYNOPTICON_UDP_PORTS", "--udp-port"),
        ("SYNOPTICON_INTERFACE", "interface"),
        ("SYNOPTICON_OPTION", "--option"),
    ],
)
def test_every_option_is_set_by_the_variable_of_its_name(variable: str, option: str) -> None:
    code, _, err = run("broadcast", **{variable: "none"})
    assert code != 0
    assert option in err
