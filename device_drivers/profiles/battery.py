"""Battery Service 0x180F: the level becomes a fact, and an `audit_trail` device_status whenever it changes."""

from device_drivers.base import Channel, Decoded, DecodeError, DeviceContext, Frame, GattPlan, Observation
from schemas.event_types import EventType

SERVICE = "180f"
LEVEL = Channel(SERVICE, "2a19")
CHANNELS = frozenset({LEVEL})
GATT = GattPlan(SERVICE, reads=(LEVEL,), subscriptions=(LEVEL,))


class BatteryDecoder:
    """Stateless."""

    def __init__(self, device: DeviceContext) -> None:
        self._device_id = device.device_id

    def receive(self, frame: Frame) -> Decoded:
        """BAS 1.1: one octet, 0 to 100 %; the rest is reserved. The patch has no clock here: the time is of receipt."""
        if len(frame.payload) != 1 or frame.payload[0] > 100:
            raise DecodeError("not a battery level: one octet from 0 to 100")
        level, moment = frame.payload[0], frame.received_at.isoformat()
        data = {
            "kind": "device_status",
            "device_id": self._device_id,
            "timestamp": moment,
            "code": "battery_level",
            "severity": "info",
            "detail": f"{level} %",
        }
        seen = Observation(EventType.AUDIT_TRAIL, None, moment, data)
        return Decoded(observations=[seen], facts={"battery_level": level})


def decoder(device: DeviceContext) -> BatteryDecoder:
    """A decoder for one battery."""
    return BatteryDecoder(device)
