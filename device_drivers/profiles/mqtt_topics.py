"""Our MQTT topics, `patches/v1/{device_id}/{sensor|dosage|adhesion|status|alert}`: JSON to observations (docs/mqtt.md).

A payload is the contract's payload plus `boot` and `sequence`, the patch's own counters; the topic's last level is the
stream of the idempotency key.
"""

from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from device_drivers.base import Channel, Decoded, DecodeError, DeviceContext, Frame, Observation, Place, Refused
from schemas.audit_shapes import DeviceStatus
from schemas.event_types import EventType
from schemas.problems import field_errors, sentence

SERVICE = "mqtt"
ROOT = "patches/v1"
_TYPE_AND_TIME = {
    "sensor": (EventType.SENSOR_READING, "timestamp"),
    "alert": (EventType.SENSOR_READING, "timestamp"),
    "dosage": (EventType.DOSAGE_DELIVERY, "delivery_timestamp"),
    "adhesion": (EventType.PATCH_APPLICATION, "timestamp"),
    "status": (EventType.AUDIT_TRAIL, "timestamp"),
}
# What each session of ours subscribes to; the last one can be told to wait.
SESSIONS = {"urgent": ("alert",), "dosage": ("dosage", "status"), "bulk": ("sensor", "adhesion")}
ALERT = Channel(SERVICE, "alert")
CHANNELS = frozenset(Channel(SERVICE, kind) for kind in _TYPE_AND_TIME)
GATT = None
_ADHESION_FIELDS = {"device_id", "timestamp", "adhesion_quality"}
_COUNTER_LIMIT = 2**63


def parse_topic(topic: str) -> tuple[str, Channel] | None:
    """(device_id level, channel) of one of our topics; None for any other topic."""
    root, _, rest = topic.partition(f"{ROOT}/")
    device, _, kind = rest.partition("/")
    channel = Channel(SERVICE, kind)
    return (device, channel) if not root and device and channel in CHANNELS else None


class MqttDecoder:
    """Stateless: every message stands alone."""

    def __init__(self, device: DeviceContext) -> None:
        self._device_id = device.device_id

    def receive(self, frame: Frame) -> Decoded:
        kind = frame.channel.characteristic
        try:
            data = from_json(frame.payload, allow_inf_nan=False)
        except ValueError:
            raise DecodeError("not JSON") from None
        if not isinstance(data, dict):
            raise DecodeError("not a JSON object")
        problem = self._problem(data)
        if problem:
            return Decoded(refused=[Refused(frame.payload, problem)])
        event_type, time_field = _TYPE_AND_TIME[kind]
        boot, sequence = data.pop("boot"), data.pop("sequence")
        occurred_at = data.get(time_field)
        if kind == "status":
            try:
                data = from_json(DeviceStatus.model_validate_json(to_json(data)).to_json())
            except ValidationError as error:
                return Decoded(refused=[Refused(frame.payload, sentence(field_errors(error)))])
        elif kind == "adhesion":
            unknown = sorted(data.keys() - _ADHESION_FIELDS)
            if unknown:
                return Decoded(refused=[Refused(frame.payload, "an adhesion report has unknown fields")])
            data.pop("timestamp", None)
        return Decoded(observations=[Observation(event_type, Place(kind, boot, sequence), _text(occurred_at), data)])

    def _problem(self, data: dict[str, Any]) -> str | None:
        if data.get("device_id") != self._device_id:
            return "device_id: is not the device of the topic" if "device_id" in data else "missing:device_id"
        for counter in ("boot", "sequence"):
            value = data.get(counter)
            if value is None:
                return f"missing:{counter}"
            if type(value) is not int or not 0 <= value < _COUNTER_LIMIT:
                return f"{counter}: must be a whole number from 0 to 2^63 - 1"
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def decoder(device: DeviceContext) -> MqttDecoder:
    """A decoder for one patch that publishes."""
    return MqttDecoder(device)
