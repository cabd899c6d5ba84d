"""Sensor status annunciation of CGMS 1.0.2 in words: bits to codes of `device_status` (docs/profiles.md)."""

from collections.abc import Iterator
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
