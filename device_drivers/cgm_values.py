"""Layouts of the CGM Service 0x181F (CGMS 1.0.2): every value bytes to fields. Little-endian throughout."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import NamedTuple

from device_drivers.base import Quirks, Refused
from device_drivers.byte_reader import NotANumber, crc16, sfloat, u16

_MIN_RECORD, _MAX_RECORD = 6, 15
_DST = {0: 0, 2: 30, 4: 60, 8: 120}


class LayoutError(ValueError):
    """The octets do not have the layout; the message says what is wrong."""


class Annunciation(NamedTuple):
    """Sensor status annunciation: three octets, None where the record does not carry one."""

    status: int | None = None
    calibration: int | None = None
    warning: int | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One record of CGM Measurement 0x2AA7. Glucose in mg/dL, `offset` in minutes, trend in mg/dL/min, quality in %.

    `glucose` is the name of a special value (NaN, NRes, ...) where the sensor has no result.
    """

    raw: bytes
    offset: int
    glucose: Decimal | str
    annunciation: Annunciation
    trend: Decimal | str | None
    quality: Decimal | str | None


class Feature(NamedTuple):
    """CGM Feature 0x2AA8: 24 bits, sample type and location nibbles."""

    bits: int
    sample_type: int
    sample_location: int

    @property
    def e2e_crc(self) -> bool:
        """Bit 12: every value but RACP carries a CRC."""
        return bool(self.bits & 1 << 12)


def split_records(value: bytes) -> tuple[list[bytes], bytes]:
    """The records of one notification, and what is left over when a size is impossible."""
    records, at = [], 0
    while at < len(value):
        size = value[at]
        if not _MIN_RECORD <= size <= _MAX_RECORD or at + size > len(value):
            break
        records.append(value[at : at + size])
        at += size
    return records, value[at:]


def measurement(record: bytes, *, crc_expected: bool | None, quirks: Quirks) -> Measurement | Refused:
    """`Size | Flags | Glucose S | Offset u16 | [Status] [Cal/Temp] [Warning] | [Trend S] | [Quality S] | [CRC]`.

    The CRC's presence is bit 12 of CGM Feature (`crc_expected`); while that is unknown it is told by the size.
    """
    flags = record[1]
    octets = [bool(flags & bit) for bit in (0x80, 0x40, 0x20)]
    plain = _MIN_RECORD + sum(octets) + 2 * (flags & 1) + 2 * (flags >> 1 & 1)
    has_crc = len(record) == plain + 2 if crc_expected is None else crc_expected
    if len(record) != plain + 2 * has_crc:
        return Refused(record, f"its size is {len(record)}, its flags 0x{flags:02X} ask for {plain + 2 * has_crc}")
    if has_crc and u16(record, plain) != crc16(record[:plain], quirks.crc):
        return Refused(record, f"wrong CRC ({quirks.crc})")
    at = _MIN_RECORD
    values: list[int | None] = []
    for present in octets if quirks.cgm_status_order == "status_first" else reversed(octets):
        values.append(record[at] if present else None)
        at += present
    if quirks.cgm_status_order == "warning_first":
        values.reverse()
    trend = _number(u16(record, at)) if flags & 1 else None
    at += 2 * (flags & 1)
    quality = _number(u16(record, at)) if flags & 2 else None
    return Measurement(record, u16(record, 4), _number(u16(record, 2)), Annunciation(*values), trend, quality)


def feature(value: bytes, quirks: Quirks) -> Feature:
    """0x2AA8: `Feature u24 | TypeSample u8 | CRC u16`, the CRC 0xFFFF without E2E support; LayoutError otherwise."""
    if len(value) != 6:
        raise LayoutError(f"CGM Feature has {len(value)} octets, not 6")
    found = Feature(int.from_bytes(value[:3], "little"), value[3] & 0x0F, value[3] >> 4)
    expected = crc16(value[:4], quirks.crc) if found.e2e_crc else 0xFFFF
    if u16(value, 4) != expected:
        raise LayoutError("CGM Feature has a wrong CRC")
    return found


def status(value: bytes, quirks: Quirks) -> tuple[int, Annunciation]:
    """0x2AA9: `TimeOffset u16 | status | cal/temp | warning | [CRC]`; LayoutError otherwise."""
    body = _checked(value, 5, quirks, "CGM Status")
    octets = body[2:] if quirks.cgm_status_order == "status_first" else body[:1:-1]
    return u16(body, 0), Annunciation(*octets)


def session_start(value: bytes, quirks: Quirks) -> tuple[int, datetime | None]:
    """0x2AAA: `DateTime 7 | TZ s8 (15 min) | DST u8 | [CRC]` as (digits YYYYMMDDHHMMSS, start).

    The start is None where the time zone is unknown. LayoutError for a wrong CRC or a date that does not exist.
    """
    body = _checked(value, 9, quirks, "Session Start Time")
    fields = (u16(body, 0), *body[2:7])
    try:
        local = datetime(*fields).replace(tzinfo=UTC)  # noqa: DTZ001 - the zone is the next line's question
    except ValueError:
        raise LayoutError("Session Start Time is not a date that exists") from None
    if not 2000 <= local.year < 2100:
        raise LayoutError(f"Session Start Time lies in the year {local.year}")
    zone = body[7] - 256 if body[7] > 127 else body[7]
    if not -48 <= zone <= 56 or body[8] not in _DST:
        return int(f"{local:%Y%m%d%H%M%S}"), None
    shift = timedelta(minutes=15 * zone + _DST[body[8]])
    return int(f"{local:%Y%m%d%H%M%S}"), local.replace(tzinfo=timezone(shift)).astimezone(UTC)


def run_time(value: bytes, quirks: Quirks) -> int:
    """0x2AAB: session run time in hours; LayoutError otherwise."""
    return u16(_checked(value, 2, quirks, "Session Run Time"), 0)


GET_INTERVAL, INTERVAL = 0x02, 0x03


def socp_request(opcode: int, *, with_crc: bool, quirks: Quirks) -> bytes:
    """0x2AAC, a request without operand."""
    body = bytes([opcode])
    return body + crc16(body, quirks.crc).to_bytes(2, "little") if with_crc else body


def socp_response(value: bytes, *, crc_expected: bool, quirks: Quirks) -> tuple[int, bytes]:
    """0x2AAC, what the patch answers: opcode and operand without the CRC; LayoutError otherwise."""
    if not value or (crc_expected and len(value) < 3):
        raise LayoutError("a SOCP response is too short")
    if not crc_expected:
        return value[0], value[1:]
    if u16(value, len(value) - 2) != crc16(value[:-2], quirks.crc):
        raise LayoutError("a SOCP response has a wrong CRC")
    return value[0], value[1:-2]


def _number(word: int) -> Decimal | str:
    try:
        return sfloat(word)
    except NotANumber as special:
        return str(special)


def _checked(value: bytes, length: int, quirks: Quirks, name: str) -> bytes:
    if len(value) == length:
        return value
    if len(value) != length + 2:
        raise LayoutError(f"{name} has {len(value)} octets, not {length} or {length + 2}")
    if u16(value, length) != crc16(value[:length], quirks.crc):
        raise LayoutError(f"{name} has a wrong CRC")
    return value[:length]
