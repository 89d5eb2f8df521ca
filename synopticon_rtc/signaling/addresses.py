"""Addresses of hosts: how they are read and written, which are this machine, and which are likely one client's."""

import ipaddress
import socket

from synopticon_rtc.signaling.messages import one_line

PATH = "/ws"  # of the signaling, below the address of a server
TEXT = 100  # characters that are kept of what is no address
ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}  # for documentation (RFC 5737, RFC 3849): on the way to all others
NETWORK_BITS = 64  # of IPv6 are a network, of whose 2**64 addresses whoever has one has all (RFC 6177, RFC 8981)


def read_address(text: str) -> str:
    """Read an address as a proxy may write it, perhaps with brackets and a port; what is none becomes a short line."""
    text = text.strip().strip('"')
    candidates = [text, text[1 : text.find("]")] if text.startswith("[") else text.rpartition(":")[0]]
    for candidate in candidates:
        try:
            address = ipaddress.ip_address(candidate)
        except ValueError:
            continue
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return str(mapped or address)
    return one_line(text[:TEXT])


def write_address(host: str, port: int) -> str:
    """Write an address as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def source_of(host: str) -> str:
    """Tell whom an address is counted for: itself, or its /64 where it is one of IPv6."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    shift = address.max_prefixlen - NETWORK_BITS
    return f"{ipaddress.IPv6Address(int(address) >> shift << shift)}/{NETWORK_BITS}"


def source_for(host: str) -> str | None:
    """Tell from which address of this machine another address is reached; None where it is not. Nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:  # no such family, or no way there
        return None


def seen_by_others(host: str) -> str:
    """Tell under which address others reach who listens on a host: for all addresses, that of this machine."""
    try:
        address = ipaddress.ip_address(host or "0.0.0.0")  # noqa: S104 - read, not bound to
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return source_for(ELSEWHERE[address.version]) or {4: "127.0.0.1", 6: "::1"}[address.version]
