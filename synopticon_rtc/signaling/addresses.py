"""Addresses of hosts: how they are read and written, which are this machine, and which are likely one client's."""

import ipaddress

from synopticon_rtc.signaling.messages import one_line

TEXT = 100  # characters that are kept of what is no address
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
