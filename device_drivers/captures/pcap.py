"""pcap: both byte orders, micro- and nanoseconds, and the record headers of 24 octets that some old kernels wrote.

File header: magic u32, version u16 u16, zone i32, accuracy u32, largest packet u32, link type u32 (lower 16 bits).
Record: seconds u32, fraction u32, included length u32, original length u32, data.
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from device_drivers.captures.base import MAX_RECORD, CaptureError
from device_drivers.captures.link_types import Record, parser

# Octets of the magic: byte order, fractions in a second, octets of a record header
_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6, 16), b"\xa1\xb2\xc3\xd4": (">", 10**6, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9, 16), b"\xa1\xb2\x3c\x4d": (">", 10**9, 16),
    b"\x34\xcd\xb2\xa1": ("<", 10**6, 24), b"\xa1\xb2\xcd\x34": (">", 10**6, 24),
}  # fmt: skip
MAGICS = tuple(_MAGICS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXTRA = 8


def records(stream: BinaryIO) -> Iterator[Record]:
    """The records of a file, one at a time; CaptureError at the first that is damaged."""
    header = stream.read(24)
    if len(header) < 24:
        raise CaptureError("the file ends inside its pcap header")
    order, fractions, size = _MAGICS[header[:4]]
    (link_type,) = struct.unpack(f"{order}I", header[20:])
    parse = parser(link_type & 0xFFFF)
    head = struct.Struct(f"{order}IIII")
    number, start = 0, b""
    while start := start + stream.read(max(0, size - len(start))):
        number += 1
        if len(start) < size:
            raise CaptureError(f"the file is truncated: it ends inside the header of record {number}")
        if number == 1 and size == 16:
            size, start = _modified(stream, start, head, size)
        seconds, fraction, included, original = head.unpack(start[:16])
        if included > MAX_RECORD or included > original or fraction >= fractions:
            raise CaptureError(f"record {number} is damaged: it claims {included} of {original} octets")
        ahead = start[size:]
        data = ahead[:included] + stream.read(max(0, included - len(ahead)))
        start = ahead[included:]
        if len(data) < included:
            raise CaptureError(f"the file is truncated: record {number} has {len(data)} of its {included} octets")
        time = _EPOCH + timedelta(seconds=seconds, microseconds=fraction * 10**6 // fractions)
        found = parse(number, time, data)
        if found is not None:
            yield found


def _modified(stream: BinaryIO, start: bytes, head: struct.Struct, size: int) -> tuple[int, bytes]:
    """Does this file with the ordinary magic have record headers of 24 octets? Then its second record only makes sense
    behind them. What was read ahead for that stays in front.
    """
    seconds, _, included, _ = head.unpack(start[:16])
    if included > MAX_RECORD:
        return size, start
    ahead = start + stream.read(included + _EXTRA + 16)
    if _plausible(head, ahead, 16 + included, seconds) or not _plausible(head, ahead, 24 + included, seconds):
        return size, ahead
    return size + _EXTRA, ahead


def _plausible(head: struct.Struct, octets: bytes, at: int, near: int) -> bool:
    """Is there a record header here, or the end of the file?"""
    if len(octets) == at:
        return True
    if len(octets) < at + 16:
        return False
    seconds, fraction, included, original = head.unpack(octets[at : at + 16])
    return bool(included <= original <= 4 * MAX_RECORD and fraction < 10**9 and abs(seconds - near) < 10**7)
