"""Current Time Service 0x1805: how far the patch's clock is from ours, as a fact. Never set: the gateway observes."""

from datetime import UTC, datetime

from device_drivers.base import Channel, Decoded, DecodeError, DeviceContext, Frame, GattPlan
from device_drivers.byte_reader import u16

SERVICE = "1805"
CURRENT_TIME = Channel(SERVICE, "2a2b")
CHANNELS = frozenset({CURRENT_TIME})
GATT = GattPlan(SERVICE, reads=(CURRENT_TIME,))


class CurrentTimeDecoder:
    """Stateless."""

    def receive(self, frame: Frame) -> Decoded:
        """0x2A2B: `DateTime 7 | weekday u8 | fractions256 u8 | reason u8`. No zone: the difference from UTC in minutes
        tells a clock that runs on local time by its whole quarters of an hour, and a lost one by years.
        """
        value = frame.payload
        if len(value) != 10:
            raise DecodeError(f"Current Time has {len(value)} octets, not 10")
        try:
            year, (month, day, hour, minute, second) = u16(value, 0), value[2:7]
            moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            return Decoded(facts={"clock": "not set"})
        ahead = round((moment - frame.received_at).total_seconds() / 60)
        return Decoded(facts={"clock": f"{abs(ahead)} min {'ahead of' if ahead >= 0 else 'behind'} UTC"})


def decoder(device: DeviceContext) -> CurrentTimeDecoder:  # noqa: ARG001 - every device alike
    """A decoder for one clock."""
    return CurrentTimeDecoder()
