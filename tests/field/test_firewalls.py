"""Firewalls that let in a few UDP ports, clouds and containers behind a NAT, and interfaces to be left out."""

import json
from pathlib import Path

import pytest
from networks import PORT, Host, connect, hosts, play, rules

pytestmark = pytest.mark.field

ONE_RANGE = """
table inet firewall {
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    tcp dport 8081 accept
    udp dport 40000-40100 accept
  }
}
"""
"""Nothing but what a rule lets in, not even answers to what was sent."""
OURS = (Path(__file__).parents[2] / "deploy" / "nftables.conf").read_text()
ONE_TO_ONE = """
table ip nat {
  chain in {
    type nat hook prerouting priority -100;
    ip daddr 198.51.100.1 dnat to 10.0.0.5
  }
  chain out {
    type nat hook postrouting priority 100;
    ip saddr 10.0.0.5 snat to 198.51.100.1
  }
}
"""
"""What clouds do: each packet to the outer address goes to the inner one, and back."""


def played(summary: dict[str, object]) -> None:
    assert summary["frames"] == 30, json.dumps(summary)


@pytest.mark.parametrize("firewall", [ONE_RANGE, OURS], ids=["no answers", "deploy"])
def test_one_open_range_of_udp_ports_is_enough(firewall: str) -> None:
    with hosts(2) as (one, other):
        connect(one, "10.0.0.5/24", other, "10.0.0.6/24")
        rules(one, firewall)
        played(play(one, other, "10.0.0.5", "--source", "test", "--size", "640x360", "--udp-ports", "40000-40100"))


def test_one_open_udp_port_is_enough_for_two_receivers() -> None:
    with hosts(2) as (one, other):
        connect(one, "10.0.0.5/24", other, "10.0.0.6/24")
        rules(one, ONE_RANGE.replace("40000-40100", "40000"))
        serve = ("--serve", f"0.0.0.0:{PORT}", "--insecure", "--json", "--faces", "0", "--udp-port", "40000")
        receive = ("--url", f"ws://10.0.0.5:{PORT}/ws", "--json", "--frames", "30", "--timeout", "10")
        with one.started("synopticon_rtc.broadcast", *serve, "--source", "test", "--size", "640x360") as sending:
            sending.event("ready")
            with (
                other.started("synopticon_rtc.receive", *receive) as first,
                other.started("synopticon_rtc.receive", *receive) as second,
            ):
                played(first.event("summary"))
                played(second.event("summary"))


def cloud(inner: Host, gateway: Host, outer: Host) -> None:
    """Put a machine behind a NAT that maps all of an outer address, and others where inner addresses lead nowhere."""
    connect(inner, "10.0.0.5/24", gateway, "10.0.0.1/24")
    connect(gateway, "198.51.100.1/24", outer, "198.51.100.9/24")
    inner.run("ip", "route", "add", "default", "via", "10.0.0.1")
    gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    rules(gateway, ONE_TO_ONE)


def test_behind_a_nat_the_announced_address_is_called() -> None:
    with hosts(3) as (inner, gateway, outer):
        cloud(inner, gateway, outer)
        # The receiver's ports are closed to what it has not called itself, so that it has to.
        rules(outer, ONE_RANGE.replace("udp dport 40000-40100", "ct state established"))
        played(
            play(inner, outer, "198.51.100.1", "--source", "test", "--size", "640x360", "--announce", "198.51.100.1")
        )


def test_an_interface_that_is_left_out_is_not_told_of() -> None:
    with hosts(2) as (one, other):
        connect(one, "10.0.0.5/24", other, "10.0.0.6/24")
        connect(one, "10.8.0.5/24", other, "10.8.0.6/24")
        options = ("--source", "test", "--size", "640x360", "--interface", "10.8.0.5")
        played(play(one, other, "10.0.0.5", *options, also=("--interface", "10.8.0.6")))


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--udp-ports", "40100-40000", "are no ports: give LOW-HIGH, like 40000-40100"),
        ("--announce", "my.cloud", "'my.cloud' cannot be announced: give an IP address"),
        ("--interface", "wg7", "there is no network interface or address 'wg7'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(option: str, value: str, words: str) -> None:
    with hosts(1) as (one,), one.started("synopticon_rtc.receive", option, value) as command:
        assert command.process.wait(timeout=20) == 2
        assert words in command.errors()
        assert len(command.errors().splitlines()) == 1
