"""Apple PacketLogger `.pklg`, of both byte orders.

Record: length u32 of what follows, seconds u32, microseconds u32, type u8, data. Types 0 to 3: HCI command, event, ACL
sent, ACL received; others are notes. No file header; the order shows in the first length.
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from device_drivers.captures.base import MAX_RECORD, CaptureError, HciRecord

_TYPES = {0: (b"\x01", True), 1: (b"\x04", False), 2: (b"\x02", True), 3: (b"\x02", False)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAD = 13
_KNOWN_TYPES = {*_TYPES, 8, 9, 10, 11, 18, 0xF7, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF}


def order_of(head: bytes) -> str | None:
    """`>` or `<` where a file that begins so may be one; None otherwise."""
    if len(head) < _HEAD or head[12] not in _KNOWN_TYPES:
        return None
    for order in "><":
        length, _, micros = struct.unpack(f"{order}III", head[:12])
        if 9 <= length <= MAX_RECORD and micros < 10**6:
            return order
    return None


def records(stream: BinaryIO, order: str) -> Iterator[HciRecord]:
    """The HCI packets of a file, one at a time; CaptureError at the first record that is damaged."""
    head = struct.Struct(f"{order}IIIB")
    number = 0
    while start := stream.read(_HEAD):
        number += 1
        if len(start) < _HEAD:
            raise CaptureError(f"the file is truncated: it ends inside the header of record {number}")
        length, seconds, micros, kind = head.unpack(start)
        if not 9 <= length <= MAX_RECORD or micros >= 10**6:
            raise CaptureError(f"record {number} is damaged: it claims {length} octets")
        data = stream.read(length - 9)
        if len(data) < length - 9:
            raise CaptureError(f"the file is truncated: record {number} has {len(data)} of its {length - 9} octets")
        if (known := _TYPES.get(kind)) is not None:
            time = _EPOCH + timedelta(seconds=seconds, microseconds=micros)
            yield HciRecord(number, time, known[0] + data, sent=known[1])
