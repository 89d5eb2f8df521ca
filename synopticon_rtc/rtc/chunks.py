"""Whether an SCTP packet (RFC 9260 section 3) has the form that aiortc takes for granted."""

from collections.abc import Callable, Mapping
from struct import Struct, unpack_from

HEADER = 12
CHUNK_HEADER = 4
MAX_PARAMETERS = 32
"""In one chunk: an INIT of a browser has five."""
_CHUNK = Struct("!BBH").unpack_from
_DATA_HEADER = 16
_DATA, _INIT, _RECONFIG = 0, 1, 130


def is_sound(packet: bytes) -> bool:
    """Whether every chunk and every parameter lies within the packet and is as long as its type asks for.

    A chunk that carries no data may come once in a packet, so that a packet is not answered by hundreds.
    """
    seen: list[int] = []
    at, end = HEADER, len(packet)
    while at <= end - CHUNK_HEADER:
        kind, _, length = _CHUNK(packet, at)
        if length < CHUNK_HEADER or at + length > end:
            return False
        if kind == _DATA:
            if length <= _DATA_HEADER:  # there is none without any (RFC 9260 section 3.3.1)
                return False
        else:
            check = _CHECKS.get(kind)
            if kind in seen or (check is not None and not check(packet[at + CHUNK_HEADER : at + length])):
                return False
        seen.append(kind)
        at += -(-length // 4) * 4
    return _INIT not in seen or (len(seen) == 1 and packet[HEADER] == _INIT and at >= end)


def _parameters(body: bytes) -> list[tuple[int, int, int]] | None:
    """List the kinds of parameters, where their values begin, and how long these are; None for malformed ones."""
    found: list[tuple[int, int, int]] = []
    at = 0
    while at <= len(body) - 4:
        kind, length = unpack_from("!HH", body, at)
        if length < 4 or at + length > len(body) or len(found) == MAX_PARAMETERS:  # noqa: PLR2004 - a header's
            return None
        found.append((kind, at + 4, length - 4))
        at += -(-length // 4) * 4
    return found


def _has_parameters(body: bytes) -> bool:
    return _parameters(body) is not None


def _is_init(body: bytes) -> bool:
    """Neither the tag nor a number of streams may be 0 (RFC 9260 section 3.3.2)."""
    if len(body) < 16:  # noqa: PLR2004 - its fixed part
        return False
    tag, _, outgoing, incoming = unpack_from("!LLHH", body)
    return bool(tag and outgoing and incoming) and _has_parameters(body[16:])


def _is_sack(body: bytes) -> bool:
    return len(body) >= 12 and len(body) == 12 + 4 * sum(unpack_from("!HH", body, 8))  # noqa: PLR2004 - its fixed part


def _is_reconfiguration(body: bytes) -> bool:
    """One or two parameters (RFC 6525 section 3.1), of the forms of section 4."""
    parameters = _parameters(body)
    if parameters is None or not 0 < len(parameters) <= 2:  # noqa: PLR2004
        return False
    return all(_RECONFIGURATION.get(kind, _any)(length) for kind, _, length in parameters)


def _any(_: object) -> bool:
    return True


_RECONFIGURATION: Mapping[int, Callable[[int], bool]] = {
    13: lambda length: length >= 12 and length % 2 == 0,  # noqa: PLR2004 - outgoing streams are reset
    16: lambda length: length in (8, 16),  # the answer
    17: lambda length: length == 8,  # noqa: PLR2004 - streams are added
}
_CHECKS: Mapping[int, Callable[[bytes], bool]] = {
    _INIT: _is_init,
    2: _is_init,
    3: _is_sack,
    4: _has_parameters,  # HEARTBEAT
    5: _has_parameters,
    6: _has_parameters,  # ABORT
    7: lambda body: len(body) == 4,  # noqa: PLR2004 - SHUTDOWN
    9: _has_parameters,  # ERROR
    _RECONFIG: _is_reconfiguration,
    192: lambda body: len(body) >= 4 and len(body) % 4 == 0,  # noqa: PLR2004 - FORWARD TSN
}
