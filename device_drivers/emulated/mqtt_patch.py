"""A patch that publishes over MQTT: what it would say next, with its own counters."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from schemas.patch_events import DeviceType


class Message(NamedTuple):
    """One publication. `events` is how many contract events it is worth: 0 for an adhesion report without a change."""

    kind: str
    payload: dict[str, Any]
    events: int


_SENSORS: dict[DeviceType, tuple[str, str, float]] = {
    "insulin_patch": ("insulin_level", "mU/L", 12.0),
    "pain_relief_patch": ("temperature", "Cel", 33.5),
    "hormone_patch_microsizefibers": ("flow_rate", "uL/h", 4.0),
    "vaccine_patch": ("pressure", "kPa", 8.0),
    "diagnostic_sensor": ("ph", "pH", 7.35),
}
_DOSES: dict[DeviceType, tuple[str, float, str, str]] = {
    "insulin_patch": ("insulin", 0.5, "IU", "micro_needle"),
    "pain_relief_patch": ("lidocaine", 2.0, "mg", "iontophoresis"),
    "hormone_patch_microsizefibers": ("estradiol", 0.05, "mg", "transdermal"),
    "vaccine_patch": ("vaccine", 1.0, "ug", "micro_needle"),
}
_ADHESION = ("excellent", "good", "fair", "poor")


@dataclass(slots=True)
class MqttPatch:
    """Deterministic by `rng`; `clock` gives the patch's own time."""

    device_id: str
    device_type: DeviceType
    rng: random.Random
    clock: Callable[[], datetime]
    boot: int = 1
    _sequences: dict[str, int] = field(default_factory=dict)
    _adhesion: int = -1
    _level: float = 0.0
    _reservoir: float = 100.0

    def next(self) -> Message:
        """Readings mostly; now and then a dose, an adhesion report, an alert or a word about itself."""
        pick = self.rng.random()
        if self._adhesion < 0 or pick < 0.06:
            return self._adhesion_report()
        if pick < 0.18 and self.device_type in _DOSES:
            return self._message("dosage", self._dose(), 1)
        if pick < 0.20:
            return self._message("alert", self._reading() | {"alert_triggered": True}, 1)
        if pick < 0.22:
            status = {"timestamp": self._time(), "code": "battery_low", "severity": "warning", "detail": "18 percent"}
            return self._message("status", status, 1)
        return self._message("sensor", self._reading(), 1)

    def _adhesion_report(self) -> Message:
        before = self._adhesion
        if before < 0:
            self._adhesion = 0
        elif before < 3 and self.rng.random() < 0.3:
            self._adhesion += 1
        report = {"timestamp": self._time(), "adhesion_quality": _ADHESION[self._adhesion]}
        return self._message("adhesion", report, int(self._adhesion != before))

    def _reading(self) -> dict[str, Any]:
        sensor, unit, centre = _SENSORS[self.device_type]
        self._level = 0.9 * self._level + self.rng.gauss(0, centre / 60)
        return {
            "sensor_type": sensor,
            "reading_value": round(centre + self._level, 2),
            "unit_of_measurement": unit,
            "timestamp": self._time(),
            "reading_quality": "high",
            "calibration_status": "calibrated",
        }

    def _dose(self) -> dict[str, Any]:
        substance, amount, unit, method = _DOSES[self.device_type]
        self._reservoir = max(0.0, self._reservoir - 0.2)
        return {
            "substance_delivered": substance,
            "dosage_amount": amount,
            "unit_of_measurement": unit,
            "delivery_timestamp": self._time(),
            "delivery_method": method,
            "delivery_success": self.rng.random() > 0.02,
            "reservoir_level_remaining": round(self._reservoir, 1),
        }

    def _message(self, kind: str, payload: dict[str, Any], events: int) -> Message:
        sequence = self._sequences[kind] = self._sequences.get(kind, 0) + 1
        numbered = {"device_id": self.device_id, "boot": self.boot, "sequence": sequence, **payload}
        return Message(kind, numbered, events)

    def _time(self) -> str:
        return self.clock().isoformat(timespec="milliseconds")
