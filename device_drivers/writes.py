"""Which octets may be written to a patch: the opcodes its profile declares, and never one that treats."""

from collections.abc import Iterable

from device_drivers.base import GattPlan, Write

# IDD Command Control Point: therapy. No profile, ours or a plug-in's, opens it.
THERAPY = frozenset({"2b25"})


def permitted(write: Write, plans: Iterable[GattPlan]) -> bool:
    """Does a plan declare the opcode of this write? Therapy is refused whatever is declared."""
    if not write.payload or write.channel.characteristic in THERAPY:
        return False
    return any(write.payload[0] in plan.writes.get(write.channel, ()) for plan in plans)
