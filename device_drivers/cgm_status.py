"""Sensor status annunciation of CGMS 1.0.2 in words: bits to codes of `device_status` (docs/profiles.md)."""

import re
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


class Change(NamedTuple):
    """One bit began or ended to be set at a sequence; `until` where it is known to be over by that sequence."""

    bit: StatusBit
    is_set: bool
    at: int
    until: int | None = None


class _Span(NamedTuple):
    """Records from `first` to `last`, without a gap, with these bits."""

    first: int
    last: int
    bits: int


# Spans kept of a session; what is older than all of them is not compared any more.
MAX_SPANS = 24


class StatusHistory:
    """What a session's status was, in the order of its sequences and not of their arrival: the CGM Status says how it
    is now before older records are fetched, a record comes by itself in between, and a fetch repeats what is here.
    """

    def __init__(self, text: str = "") -> None:
        floor, _, rest = text.partition(";")
        self._floor = int(floor or 0)
        self._spans = [_Span(*map(int, re.split("[-:]", part))) for part in filter(None, rest.split(","))]

    def to_text(self) -> str:
        """As a fact: `floor;first-last:bits,...`."""
        return f"{self._floor};" + ",".join(f"{span.first}-{span.last}:{span.bits}" for span in self._spans)

    @property
    def stopped(self) -> int:
        """At which sequence the session stopped, 0 while it runs."""
        newest = self._spans[-1] if self._spans else _Span(0, 0, 0)
        return max(1, newest.first) if newest.bits & SESSION_STOPPED else 0

    def observe(self, sequence: int, bits: int, apart: int) -> list[Change]:
        """What changed with this record or CGM Status. Records at most `apart` from each other are neighbours."""
        if sequence < self._floor:
            return []
        at = next((index for index, span in enumerate(self._spans) if span.last >= sequence), len(self._spans))
        after = self._spans[at] if at < len(self._spans) else None
        if after and after.first <= sequence:
            if sequence < self._spans[-1].last or bits == after.bits:
                return [
                    Change(bit, is_set, sequence, after.last) for bit, is_set in changes(after.bits, after.bits | bits)
                ]
            # The CGM Status and a record of one minute: what is heard last is how it is.
            self._spans[at:] = [after._replace(last=sequence - 1)] if after.first < sequence else []
            self._spans.append(_Span(sequence, sequence, bits))
            return [Change(bit, is_set, sequence) for bit, is_set in changes(after.bits, bits)]
        before = self._spans[at - 1].bits if at else 0
        found = [Change(bit, is_set, sequence) for bit, is_set in changes(before, bits)]
        if after and after.first - sequence <= apart:
            # It may have been compared with an older one, or said already: its key keeps it from being said twice.
            found += [Change(bit, is_set, after.first) for bit, is_set in changes(bits, after.bits)]
        self._insert(at, _Span(sequence, sequence, bits), apart)
        return found

    def _insert(self, at: int, new: _Span, apart: int) -> None:
        self._spans.insert(at, new)
        for index in (at + 1, at):
            if 0 < index < len(self._spans):
                left, right = self._spans[index - 1 : index + 1]
                if left.bits == right.bits and right.first - left.last <= apart:
                    self._spans[index - 1 : index + 1] = [_Span(left.first, right.last, left.bits)]
        while len(self._spans) > MAX_SPANS:
            self._floor = self._spans.pop(0).last + 1
