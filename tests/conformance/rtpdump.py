"""Captured RTP and RTCP in the format of rtpdump, which Wireshark reads and writes as well."""

from pathlib import Path
from struct import calcsize, pack, unpack_from
from typing import NamedTuple

FIRST_LINE = b"#!rtpplay1.0 127.0.0.1/0\n"
HEADER = "!LLLHH"  # when it began (s, us), source, port, padding
RECORD = "!HHL"  # length with this, length of RTP or 0 for RTCP, offset (ms)


class Record(NamedTuple):
    """One packet, after decryption."""

    at: int
    """When it came, in ms since the first."""
    data: bytes
    rtcp: bool


def write(path: Path, records: list[Record]) -> None:
    """Write a capture; it says nothing of when or where it was made."""
    parts = [FIRST_LINE, pack(HEADER, 0, 0, 0, 0, 0)]
    for at, data, rtcp in records:
        parts += [pack(RECORD, calcsize(RECORD) + len(data), 0 if rtcp else len(data), at), data]
    path.write_bytes(b"".join(parts))


def read(path: Path) -> list[Record]:
    """Read a capture."""
    data = path.read_bytes()
    assert data.startswith(FIRST_LINE), f"{path} is no capture"
    offset = len(FIRST_LINE) + calcsize(HEADER)
    records = []
    while offset < len(data):
        length, rtp, at = unpack_from(RECORD, data, offset)
        records.append(Record(at, data[offset + calcsize(RECORD) : offset + length], rtcp=rtp == 0))
        offset += length
    return records
