"""Events of patches that do not exist, seeded: the same seed gives the same bytes."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import to_json

from schemas.envelope import ENVELOPES
from schemas.event_types import EventType
from schemas.wire import WireEvent, to_wire

_START = datetime(2026, 1, 1, tzinfo=UTC)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TOKEN = "abcdefghijklmnopqrstuvwxyz234567"
_SENSORS = [("glucose", "mg/dL"), ("glucose", "mg/dL"), ("temperature", "Cel"), ("ph", "pH"), ("flow_rate", "uL/h")]


def wire_events(seed: int, devices: int = 24, *, bare: bool = False) -> Iterator[WireEvent]:
    """An endless fleet: 90 % readings, 6 % doses, 3.5 % applications, 0.5 % device status. 518 octets in the mean;
    `bare`, without patient, wear and trace, 393.
    """
    rng = random.Random(seed)
    gateway = f"gw-{rng.randbytes(6).hex()}"
    fleet = [
        {
            "id": "NFLX_" + "".join(rng.choices(_DIGITS, k=8)),
            "patient": "pt_" + "".join(rng.choices(_TOKEN, k=26)),
            "session": f"wear-{rng.randbytes(8).hex()}",
            "boot": rng.randrange(1, 40),
            "level": rng.uniform(95, 135),
        }
        for _ in range(devices)
    ]
    now = _START + timedelta(seconds=rng.randrange(300 * 86_400))
    for sequence in range(1, 1 << 62):
        now += timedelta(milliseconds=rng.uniform(5, 40))
        device = rng.choice(fleet)
        stream, event_type, data = _payload(rng, device, now)
        envelope = {
            "type": event_type,
            "data": {"device_id": device["id"], **data},
            "occurred_at": _stamp(now),
            "producer": gateway,
            "source_service": "patch-gateway",
            "user_id": device["patient"],
            "session_id": device["session"],
            "trace_id": rng.randbytes(16).hex(),
            "idempotency_key": f"{device['id']}.{stream}.{device['boot']}.{sequence}",
        }
        for name in ("user_id", "session_id", "trace_id") if bare else ():
            del envelope[name]
        yield to_wire(ENVELOPES[event_type].model_validate_json(to_json(envelope)))


def _payload(rng: random.Random, device: dict[str, Any], now: datetime) -> tuple[str, EventType, dict[str, Any]]:
    pick = rng.random()
    if pick < 0.9:
        device["level"] += rng.gauss(0, 1.2)
        sensor, unit = rng.choice(_SENSORS)
        reading = {
            "sensor_type": sensor,
            "reading_value": round(device["level"], 2),
            "unit_of_measurement": unit,
            "timestamp": _stamp(now),
            "reading_quality": rng.choices(["high", "medium", "low"], [90, 8, 2])[0],
            "calibration_status": "calibrated",
        }
        return "sensor", EventType.SENSOR_READING, reading
    if pick < 0.96:
        dose = {
            "substance_delivered": rng.choice(["insulin", "lidocaine", "estradiol"]),
            "dosage_amount": round(rng.uniform(0.1, 4), 2),
            "unit_of_measurement": rng.choice(["IU", "mg", "ug"]),
            "delivery_timestamp": _stamp(now),
            "delivery_method": rng.choice(["micro_needle", "transdermal"]),
            "delivery_success": rng.random() < 0.98,
            "reservoir_level_remaining": round(rng.uniform(0, 100), 1),
        }
        return "dosage", EventType.DOSAGE_DELIVERY, dose
    if pick < 0.995:
        application = {
            "application_site": rng.choice(["upper_arm", "abdomen", "thigh"]),
            "application_timestamp": _stamp(_START),
            "adhesion_quality": rng.choice(["excellent", "good", "fair", "poor"]),
        }
        return "adhesion", EventType.PATCH_APPLICATION, application
    status = {"kind": "device_status", "timestamp": _stamp(now), "code": "battery_low", "severity": "warning"}
    return "status", EventType.AUDIT_TRAIL, status


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
