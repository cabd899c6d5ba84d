"""The table of device types: what each may speak, and what its type itself says where the patch stays silent.

A default stands here only when it has a source; what has none is not guessed: the event is quarantined as
`missing:<field>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from device_drivers.base import Quirks
from schemas.event_types import EventType
from schemas.patch_events import DeviceType


@dataclass(frozen=True, slots=True)
class Defaults:
    """Values of required fields, and where they are written down."""

    values: Mapping[str, Any]
    source: str


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One device type: profiles by name, defaults by event type, quirks by model number."""

    profiles: frozenset[str]
    defaults: Mapping[EventType, Defaults] = field(default_factory=dict)
    quirks: Mapping[str, Quirks] = field(default_factory=dict)


_MQTT = "mqtt_topics"
# Every BLE patch may have these.
_SHARED = frozenset({"device_information", "battery", "current_time"})

DEVICE_TYPES: dict[DeviceType, TypeRow] = {
    "insulin_patch": TypeRow(
        frozenset({_MQTT}),
        defaults={
            EventType.DOSAGE_DELIVERY: Defaults(
                {"substance_delivered": "insulin"}, "the contract's device type names the substance (3.21)"
            )
        },
    ),
    "pain_relief_patch": TypeRow(frozenset({_MQTT})),
    "hormone_patch_microsizefibers": TypeRow(frozenset({_MQTT})),
    "vaccine_patch": TypeRow(frozenset({_MQTT})),
    "diagnostic_sensor": TypeRow(
        frozenset({_MQTT, "continuous_glucose"}) | _SHARED,
        quirks={
            # CRC-16/CCITT-FALSE in four of four published frames
            "Guardian 4": Quirks(crc="ccitt_false"),
        },
    ),
}

SERVICE_TYPES: dict[str, DeviceType] = {"181f": "diagnostic_sensor", "183a": "insulin_patch"}


def with_defaults(device_type: DeviceType, event_type: EventType, data: Mapping[str, Any]) -> dict[str, Any]:
    """The payload with the type's own values where the patch said nothing."""
    row = DEVICE_TYPES[device_type].defaults.get(event_type)
    return {**row.values, **data} if row else dict(data)


def quirks_of(device_type: DeviceType | None, model: str | None) -> Quirks:
    """The quirks of a model (of any type where that is not known), the specification's ways where there are none."""
    rows = DEVICE_TYPES.values() if device_type is None else [DEVICE_TYPES[device_type]]
    return next((row.quirks[model] for row in rows if model is not None and model in row.quirks), Quirks())
