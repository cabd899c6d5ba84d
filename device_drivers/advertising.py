"""What a patch says in its advertisement, by the profiles that know how to read it. Hostile octets say nothing."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from device_drivers.base import GattPlan

_BASE_UUID = "-0000-1000-8000-00805f9b34fb"


class Advertised(NamedTuple):
    """An urgent flag, and the number of the newest record where the advertisement carries it."""

    urgent: bool = False
    sequence: int | None = None


NOTHING = Advertised()


def short_uuid(uuid: str) -> str:
    """Lower-case text; the 16-bit form of a Bluetooth SIG UUID."""
    uuid = uuid.lower()
    return uuid[4:8] if uuid.startswith("0000") and uuid.endswith(_BASE_UUID) else uuid


def read(service_data: Mapping[str, bytes], plans: Iterable[GattPlan]) -> Advertised:
    """The first thing one of the plans reads in its service's data; NOTHING where none does."""
    by_service = {short_uuid(uuid): octets for uuid, octets in service_data.items()}
    for plan in plans:
        octets = by_service.get(plan.service)
        if octets is not None and plan.advertised is not None:
            found = plan.advertised(octets)
            if found is not None:
                return Advertised(*found)
    return NOTHING
