"""Sensor status annunciation of CGMS 1.0.2 in words: bits to codes of `device_status` (docs/profiles.md)."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from device_drivers.cgm_values import Annunciation

Severity = Literal["info", "warning", "fault"]


class StatusBit(NamedTuple):
    """One bit of the three octets: what the specification calls it, and how grave that is by its own words."""

    code: str
    severity: Severity


# Bit numbers as in the specification: 0-7 status, 8-15 calibration and temperature. Bits 16-23 (warnings) are alerts of
# a reading, bits 1-3 and 6 of the second octet its calibration: both are in the `sensor_reading`.
_BITS: dict[int, StatusBit] = {
    0: StatusBit("session_stopped", "info"),
    1: StatusBit("device_battery_low", "warning"),
    2: StatusBit("sensor_type_incorrect", "fault"),
    3: StatusBit("sensor_malfunction", "fault"),
    4: StatusBit("device_specific_alert", "warning"),
    5: StatusBit("general_device_fault", "fault"),
    6: StatusBit("reserved_status_bit_6", "warning"),
    7: StatusBit("reserved_status_bit_7", "warning"),
    8: StatusBit("time_synchronization_required", "warning"),
    12: StatusBit("sensor_temperature_too_high", "warning"),
    13: StatusBit("sensor_temperature_too_low", "warning"),
    15: StatusBit("reserved_status_bit_15", "warning"),
}
SESSION_STOPPED = 0x01


def bits_of(annunciation: Annunciation) -> int:
    """The two octets that become events, as one number; an absent octet has no bit set."""
    return (annunciation.status or 0) | (annunciation.calibration or 0) << 8


def changes(before: int, now: int) -> Iterator[tuple[StatusBit, bool]]:
    """Bits that differ, and whether each is set now."""
    for number, bit in _BITS.items():
        mask = 1 << number
        if (before ^ now) & mask:
            yield bit, bool(now & mask)


class Change(NamedTuple):
    """One bit began or ended to be set at a sequence; `until` where a later record already said that it ended."""

    bit: StatusBit
    is_set: bool
    until: int | None = None


class StatusHistory:
    """What a session's status was, in the order of its sequences and not of their arrival. Facts it keeps:
    `cgm_status` and `cgm_status_at` (the newest heard), `cgm_record_status` and `cgm_record_at` (of the newest record).

    The CGM Status says how it is now before older records are fetched: these are compared with the record before them.
    """

    def __init__(self, known: Mapping[str, int | str]) -> None:
        self._known = known

    def read(self, sequence: int, bits: int) -> tuple[list[Change], dict[str, int | str]]:
        """The CGM Status."""
        if sequence < self._fact("cgm_status_at", -1):
            return [], {}
        return _compare(self._fact("cgm_status", 0), bits), self._newest(sequence, bits)

    def record(self, sequence: int, bits: int) -> tuple[list[Change], dict[str, int | str]]:
        """The annunciation of a record."""
        before, at = self._fact("cgm_record_status", 0), self._fact("cgm_record_at", -1)
        if sequence < at:
            return [Change(bit, is_set, until=at) for bit, is_set in changes(before, before | bits)], {}
        facts: dict[str, int | str] = {"cgm_record_status": bits, "cgm_record_at": sequence}
        if sequence < self._fact("cgm_status_at", -1):
            return _compare(before, bits), facts
        return _compare(self._fact("cgm_status", 0), bits), facts | self._newest(sequence, bits)

    def _newest(self, sequence: int, bits: int) -> dict[str, int | str]:
        stopped = max(1, sequence) if bits & SESSION_STOPPED else 0
        return {"cgm_status": bits, "cgm_status_at": sequence, "cgm_stopped": stopped}

    def _fact(self, name: str, otherwise: int) -> int:
        return int(self._known.get(name, otherwise))


FRESH_STATUS: dict[str, int | str] = {
    "cgm_status": 0, "cgm_status_at": -1, "cgm_record_status": 0, "cgm_record_at": -1,
}  # fmt: skip


def _compare(before: int, now: int) -> list[Change]:
    return [Change(bit, is_set) for bit, is_set in changes(before, now)]
