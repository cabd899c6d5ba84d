"""Stored records of a patch: what of them is missing here, and the markers for what will never come."""

from pydantic_core import from_json

from agent.events import Unfit, Wearer, make_event
from buffer.devices import DeviceRecord
from buffer.draft import Draft
from buffer.store import EventBuffer
from device_drivers.base import RecordAccess
from device_drivers.device_types import DEVICE_TYPES
from device_drivers.links.ble_base import Missing
from device_drivers.registry import gatt_plans
from schemas.audit_shapes import SequenceGap
from schemas.event_types import EventType

NO_LONGER_THERE = "the patch reported all its records and has none of these"
ENDED = "the patch began another session before these were read"


def accesses(record: DeviceRecord) -> list[RecordAccess]:
    """How the patch's stored records are reached, by each of its profiles that has any."""
    return [plan.records for plan in gatt_plans(DEVICE_TYPES[record.device_type].profiles) if plan.records is not None]


def missing(buffer: EventBuffer, record: DeviceRecord, access: RecordAccess) -> Missing | None:
    """None while the patch's session is not known."""
    boot = record.facts.get(access.boot_fact)
    if boot is None:
        return None
    mark = buffer.mark(record.device_id, access.stream, int(boot))
    if mark is None:
        return Missing(0, hole=False)
    first = mark.missing(_spacing(record, access))
    return Missing(first, hole=first <= mark.high)


def settle(draft: Draft, record: DeviceRecord, access: RecordAccess, gateway_id: str, reason: str) -> None:
    """What is missing will not come: name each hole that holds a record, as far as their spacing tells."""
    boot, spacing = record.facts.get(access.boot_fact), int(record.facts.get(access.spacing_fact, 0))
    if boot is None:
        return
    for first, last in draft.settle(record.device_id, access.stream, int(boot), max(1, spacing)):
        # Before the first record of a session one step is free: the patch may count from 0 or from 1 step.
        if spacing and last - first + 1 > (spacing if first == 0 else spacing - 1):
            _append(draft, record, access.stream, (first, last), gateway_id, reason)


def _spacing(record: DeviceRecord, access: RecordAccess) -> int:
    return max(1, int(record.facts.get(access.spacing_fact, 0)))


def _append(
    draft: Draft, record: DeviceRecord, stream: str, hole: tuple[int, int], gateway_id: str, reason: str
) -> None:
    gap = SequenceGap(
        device_id=record.device_id, stream=stream, from_=hole[0], to=hole[1], reason=reason, timestamp=draft.now
    )
    made = make_event(
        EventType.AUDIT_TRAIL,
        from_json(gap.to_json()),
        occurred_at=draft.now.isoformat(),
        gateway_id=gateway_id,
        key=draft.own_key(),
        wearer=Wearer(record.patient, record.session_id),
    )
    if isinstance(made, Unfit):
        raise TypeError(f"a sequence gap made no event: {made.reason}")
    draft.append(made.event, made.lane, record.device_id)
