"""The demo's capture: a CGM discovered, read and observed for an hour, as btsnoop. A test rebuilds and compares it.

`python -m device_drivers.emulated.cgm_capture FILE`
"""

import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from device_drivers.captures import btsnoop
from device_drivers.emulated import cgm

SHIPPED = Path(__file__).with_name("cgm_session.btsnoop")
ADDRESS = "C0:FF:EE:00:00:04"
RECORDS = 60
_START = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
_CONNECTION = 0x0040
_SERVICE, _FEATURE, _SESSION_START, _MEASUREMENT = 0x0010, 0x0012, 0x0014, 0x0016


def records() -> list[cgm.Record]:
    """An hour of glucose, one record a minute; the last one ends the session."""
    made = []
    for minute in range(RECORDS):
        glucose = round(118 + 34 * math.sin(minute / 9))
        trend = round(340 * math.cos(minute / 9) / 9)
        made.append(
            cgm.Record(
                glucose,
                minute,
                trend,
                quality=92 - minute % 7,
                status=0x01 if minute == RECORDS - 1 else 0,
                calibration=0x04 if 20 <= minute < 24 else 0,
                warning=0x02 if glucose > 145 else 0,
            )
        )
    return made


class _Writer:
    def __init__(self) -> None:
        self.octets = btsnoop.header()
        self._time = _START

    def packet(self, packet: bytes, *, sent: bool, after: timedelta = timedelta(milliseconds=30)) -> None:
        self._time += after
        self.octets += btsnoop.record(self._time, packet, sent=sent)

    def att(self, pdu: bytes, *, sent: bool, after: timedelta = timedelta(milliseconds=30)) -> None:
        l2cap = len(pdu).to_bytes(2, "little") + b"\x04\x00" + pdu
        first = 0x0000 if sent else 0x2000
        head = (_CONNECTION | first).to_bytes(2, "little") + len(l2cap).to_bytes(2, "little")
        self.packet(b"\x02" + head + l2cap, sent=sent, after=after)

    def read(self, handle: int, value: bytes) -> None:
        self.att(b"\x0a" + _u16(handle), sent=True)
        self.att(b"\x0b" + value, sent=False)


def build() -> bytes:
    """The file's octets."""
    writer = _Writer()
    address = bytes.fromhex(ADDRESS.replace(":", ""))[::-1]
    complete = b"\x01\x00" + _u16(_CONNECTION) + b"\x00\x01" + address + b"\x18\x00\x00\x00\x2a\x00\x00"
    writer.packet(b"\x04\x3e" + bytes([len(complete)]) + complete, sent=False)
    writer.att(b"\x10\x01\x00\xff\xff\x00\x28", sent=True)
    writer.att(b"\x11\x06" + _u16(_SERVICE) + _u16(0x001F) + _u16(0x181F), sent=False)
    writer.att(b"\x08\x01\x00\xff\xff\x03\x28", sent=True)
    found = b"".join(
        _u16(handle - 1) + properties + _u16(handle) + _u16(uuid)
        for handle, properties, uuid in (
            (_FEATURE, b"\x02", 0x2AA8),
            (_SESSION_START, b"\x02", 0x2AAA),
            (_MEASUREMENT, b"\x10", 0x2AA7),
        )
    )
    writer.att(b"\x09\x07" + found, sent=False)
    writer.read(_FEATURE, cgm.feature())
    writer.read(_SESSION_START, cgm.session_start(_START))
    writer.att(b"\x12" + _u16(_MEASUREMENT + 1) + b"\x01\x00", sent=True)
    writer.att(b"\x13", sent=False)
    for record in records():
        writer.att(b"\x1b" + _u16(_MEASUREMENT) + cgm.measurement(record), sent=False, after=timedelta(minutes=1))
    return writer.octets


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "little")


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(build())
