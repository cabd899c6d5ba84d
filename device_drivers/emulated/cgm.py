"""The sending side of the CGM Service: values to bytes (CGMS 1.0.2)."""

from datetime import datetime
from typing import NamedTuple

from device_drivers.byte_reader import crc16

FEATURE_BITS = 1 << 0 | 1 << 12 | 1 << 15 | 1 << 16  # calibration, E2E-CRC, trend, quality
_INTERSTITIAL_FLUID, _SUBCUTANEOUS = 0x9, 0x5


def sfloat(mantissa: int, exponent: int = 0) -> bytes:
    """medfloat16, little-endian."""
    return ((exponent & 0xF) << 12 | mantissa & 0xFFF).to_bytes(2, "little")


def with_crc(body: bytes) -> bytes:
    """The value with its E2E-CRC (MCRF4XX), least significant octet first."""
    return body + crc16(body, "mcrf4xx").to_bytes(2, "little")


def feature() -> bytes:
    """CGM Feature 0x2AA8."""
    return with_crc(FEATURE_BITS.to_bytes(3, "little") + bytes([_INTERSTITIAL_FLUID | _SUBCUTANEOUS << 4]))


def session_start(start: datetime) -> bytes:
    """Session Start Time 0x2AAA of an aware time in UTC (zone 0, standard time)."""
    clock = bytes([start.month, start.day, start.hour, start.minute, start.second])
    return with_crc(start.year.to_bytes(2, "little") + clock + b"\0\0")


class Record(NamedTuple):
    """One measurement: glucose in mg/dL, offset in minutes, trend in 0.01 mg/dL/min, quality in percent."""

    glucose: int
    offset: int
    trend: int
    quality: int
    status: int = 0
    calibration: int = 0
    warning: int = 0


def measurement(record: Record) -> bytes:
    """CGM Measurement 0x2AA7 with trend, quality, the annunciation octets that are not 0, and CRC."""
    octets = (record.status, record.calibration, record.warning)
    flags = 0x03 | sum(bit for bit, octet in zip((0x80, 0x40, 0x20), octets, strict=True) if octet)
    rest = sfloat(record.glucose) + record.offset.to_bytes(2, "little") + bytes(filter(None, octets))
    rest += sfloat(record.trend, -2) + sfloat(record.quality)
    return with_crc(bytes([len(rest) + 4, flags]) + rest)
