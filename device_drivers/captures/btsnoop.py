r"""btsnoop, datalinks 1001 (H1), 1002 (HCI UART, H4: Android) and 2001 (Linux monitor: what `btmon -w` writes).

File header: "btsnoop\0", version u32 = 1, datalink u32. Record: original length u32, included length u32, flags u32,
drops u32, microseconds since year 0 i64, data. All big-endian. Flags of 1001 and 1002: bit 0 set from controller to
host, bit 1 for commands and events; a packet of 1002 begins with its H4 type. Flags of 2001: adapter index in the upper
half, the kind of packet in the lower.
"""

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from device_drivers.captures.base import MAX_RECORD, CaptureError, HciRecord
from device_drivers.captures.link_types import MONITOR

MAGIC = b"btsnoop\0"
DATALINK_H1, DATALINK_H4, DATALINK_MONITOR = 1001, 1002, 2001
_HEADER = struct.Struct(">8sII")
_RECORD = struct.Struct(">IIIIq")
_EPOCH_MICROSECONDS = 0x00DCDDB30F2F8000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATALINKS = {1003: "BCSP", 1004: "H5 (3-wire)"}


def records(stream: BinaryIO) -> Iterator[HciRecord]:
    """The records of a file, one at a time; CaptureError at the first that is damaged."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise CaptureError("the file ends inside its btsnoop header")
    _, version, datalink = _HEADER.unpack(header)
    if version != 1:
        raise CaptureError(f"btsnoop version {version} is not known (1 is)")
    if datalink != DATALINK_H4 and datalink not in _PACKETS:
        name = _DATALINKS.get(datalink, "unknown")
        raise CaptureError(f"btsnoop datalink {datalink} ({name}) is not read: 1001, 1002 and 2001 are")
    packet = _PACKETS.get(datalink)
    number = 0
    while head := stream.read(_RECORD.size):
        number += 1
        if len(head) < _RECORD.size:
            raise CaptureError(f"the file is truncated: it ends inside the header of record {number}")
        original, included, flags, _, stamp = _RECORD.unpack(head)
        if included > MAX_RECORD or included > original:
            raise CaptureError(f"record {number} is damaged: it claims {included} of {original} octets")
        data = stream.read(included)
        if len(data) < included:
            raise CaptureError(f"the file is truncated: record {number} has {len(data)} of its {included} octets")
        if packet is None:
            yield HciRecord(number, _time(stamp, number), data, not flags & 1)
        elif found := packet(flags, data):
            yield HciRecord(number, _time(stamp, number), *found)


_Packet = tuple[bytes, bool, int]


def _h1(flags: int, data: bytes) -> _Packet:
    kind = b"\x02" if not flags & 2 else b"\x04" if flags & 1 else b"\x01"
    return kind + data, not flags & 1, 0


def _monitor(flags: int, data: bytes) -> _Packet | None:
    known = MONITOR.get(flags & 0xFFFF)
    return (known[0] + data, known[1], flags >> 16) if known else None


_PACKETS: dict[int, Callable[[int, bytes], _Packet | None]] = {
    DATALINK_H1: _h1, DATALINK_MONITOR: _monitor,
}  # fmt: skip


def _time(stamp: int, number: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=stamp - _EPOCH_MICROSECONDS)
    except OverflowError:
        raise CaptureError(f"record {number} is damaged: its time is outside the calendar") from None


def header() -> bytes:
    """A file header, for writers."""
    return _HEADER.pack(MAGIC, 1, DATALINK_H4)


def record(time: datetime, packet: bytes, *, sent: bool) -> bytes:
    """One record around an H4 packet, for writers."""
    flags = (0 if sent else 1) | (2 if packet[:1] in (b"\x01", b"\x04") else 0)
    stamp = (time - _EPOCH) // timedelta(microseconds=1) + _EPOCH_MICROSECONDS
    return _RECORD.pack(len(packet), len(packet), flags, 0, stamp) + packet
