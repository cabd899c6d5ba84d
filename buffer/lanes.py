"""Which queue an event travels in."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from schemas.event_types import EventType


class Lane(IntEnum):
    """Order of preference; the number is stored and bound into each seal."""

    URGENT = 0
    DOSAGE = 1
    SENSOR = 2
    TELEMETRY = 3


_BY_TYPE = {
    EventType.ADVERSE_EVENT: Lane.URGENT,
    EventType.DOSAGE_DELIVERY: Lane.DOSAGE,
    EventType.DEVICE_ACTIVATION: Lane.DOSAGE,
    EventType.PATCH_APPLICATION: Lane.DOSAGE,
    EventType.SENSOR_READING: Lane.SENSOR,
    EventType.AUDIT_TRAIL: Lane.TELEMETRY,
}


def lane_of(event_type: EventType, data: Mapping[str, Any]) -> Lane:
    """Urgent is what the patch or a person marked so; the gateway judges nothing itself."""
    urgent = (
        data.get("alert_triggered") is True
        or data.get("clinical_significance") in {"critical", "emergency"}
        or data.get("delivery_success") is False
        or (event_type is EventType.AUDIT_TRAIL and data.get("severity") == "fault")
        or (event_type is EventType.AUDIT_TRAIL and data.get("kind") in {"gap_marker", "sequence_gap"})
    )
    return Lane.URGENT if urgent else _BY_TYPE.get(event_type, Lane.TELEMETRY)


def next_lane(waiting: Mapping[Lane, int], turn: int) -> Lane | None:
    """The lane to serve in this turn: strict preference, but every eighth turn goes round, lowest first."""
    lanes = [lane for lane in Lane if waiting.get(lane)]
    if not lanes:
        return None
    return lanes[-1 - turn // 8 % len(lanes)] if turn % 8 == 7 else lanes[0]
