"""Captures written: btsnoop and pcapng from packets; JSON Lines, from any capture, are `jsonl.line`."""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from device_drivers.captures import btsnoop
from device_drivers.captures.base import AirRecord, CaptureError, HciRecord
from device_drivers.captures.link_types import Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_H4_WITH_DIRECTION, _LE_LL_WITH_PHDR = 201, 256
_SECTION = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)


def _of_one_adapter(records: Iterator[Record]) -> Iterator[Record]:
    """CaptureError at the second: handles of two would be mixed up."""
    first: int | None = None
    for record in records:
        if isinstance(record, HciRecord):
            first = record.adapter if first is None else first
            if record.adapter != first:
                raise CaptureError("this holds the traffic of several adapters: it becomes JSON Lines only")
        yield record


def to_btsnoop(records: Iterator[Record]) -> Iterator[bytes]:
    """Btsnoop of datalink 1002; CaptureError for packets of the air, which no host saw, and of several adapters."""
    yield btsnoop.header()
    for record in _of_one_adapter(records):
        if isinstance(record, AirRecord):
            raise CaptureError("a capture of the air becomes pcapng or JSON Lines, not btsnoop, which a host writes")
        yield btsnoop.record(record.time, record.packet, sent=bool(record.sent))


def to_pcapng(records: Iterator[Record]) -> Iterator[bytes]:
    """Pcapng with microseconds; link type 201 for packets of a host, 256 for those of the air. CaptureError for several
    adapters.
    """
    yield _SECTION
    interfaces: list[int] = []
    for record in _of_one_adapter(records):
        link_type = _LE_LL_WITH_PHDR if isinstance(record, AirRecord) else _H4_WITH_DIRECTION
        if link_type not in interfaces:
            interfaces.append(link_type)
            yield _block(1, struct.pack("<HHI", link_type, 0, 0))
        data = _air(record) if isinstance(record, AirRecord) else _h4(record)
        stamp = (record.time - _EPOCH) // timedelta(microseconds=1)
        if stamp < 0:
            raise CaptureError(f"record {record.number} is dated {record.time:%Y}: pcapng begins with 1970")
        index = interfaces.index(link_type)
        head = struct.pack("<IIIII", index, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
        yield _block(6, head + data)


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _h4(record: HciRecord) -> bytes:
    return struct.pack(">I", not record.sent) + record.packet


def _air(record: AirRecord) -> bytes:
    """The CRC itself is not kept; whether it was right is in the flags."""
    checked = 0 if record.crc_ok is None else 0x0400 | 0x0800 * record.crc_ok
    kind = {None: 0, True: 2, False: 3}[record.sent] << 7
    unreadable = 0x1008 if record.unreadable else 0
    flags = 0x0001 | checked | kind | 0x0008 * record.decrypted | unreadable
    head = struct.pack("<BbbBIH", 0, 0, 0, 0, record.access_address, flags)
    return head + record.access_address.to_bytes(4, "little") + record.pdu + bytes(3)
