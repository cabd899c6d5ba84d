"""Stored records of a patch: what of them is missing here, and the markers for what will never come."""

from collections.abc import Mapping

from pydantic_core import from_json

from agent.events import Unfit, Wearer, make_event
from buffer.devices import DeviceRecord
from buffer.draft import Draft
from buffer.marks import Mark
from buffer.store import EventBuffer
from device_drivers.base import Place, RecordAccess
from device_drivers.device_types import DEVICE_TYPES
from device_drivers.links.ble_base import Missing
from device_drivers.registry import gatt_plans
from schemas.audit_shapes import SequenceGap
from schemas.event_types import EventType

_NO_LONGER_THERE = "the patch reported all its records and has none of these"
_ENDED = "the patch began another session before these were read"
_TOO_MANY = "too many records of this session are missing here and there to ask for each"


def accesses(record: DeviceRecord) -> list[RecordAccess]:
    """How the patch's stored records are reached, by each of its profiles that has any."""
    return [plan.records for plan in gatt_plans(DEVICE_TYPES[record.device_type].profiles) if plan.records is not None]


def missing(buffer: EventBuffer, record: DeviceRecord, access: RecordAccess) -> Missing | None:
    """None while the patch's session is not known."""
    boot = record.facts.get(access.boot_fact)
    if boot is None or record.facts.get(access.unclear_fact):
        return None
    mark = buffer.mark(record.device_id, access.stream, int(boot))
    if mark is None:
        return Missing(0, hole=False)
    first = mark.missing(max(1, _spacing(record, access)))
    return Missing(first, hole=first <= mark.high)


def add_record(draft: Draft, record: DeviceRecord, place: Place, gateway_id: str) -> bool:
    """Note that a record is here; False when it was here before."""
    access = next((each for each in accesses(record) if each.stream == place.stream), None)
    step = max(1, _spacing(record, access)) if access else 1
    given_up = draft.add_record(record.device_id, *place, step)
    for hole in given_up or () if access else ():
        _append(draft, record, place.stream, hole, gateway_id, _TOO_MANY)
    return given_up is not None


def settle(draft: Draft, record: DeviceRecord, access: RecordAccess, gateway_id: str) -> None:
    """The patch reported all it has: each hole that holds a record, as far as their spacing tells, is named.

    Three newest records equally far apart, with nothing between them on the patch: it records at that distance now.
    """
    if access.boot_fact not in record.facts:
        return
    mark, spacing, holes = _close(draft, record, access)
    wider = mark.newest_distance()
    if wider is not None and wider > spacing and holes[-1:] == [(mark.high - wider + 1, mark.high - 1)]:
        draft.put_device(record.model_copy(update={"facts": {**record.facts, access.spacing_fact: wider}}))
    for hole in holes:
        if _holds_a_record(hole, spacing):
            _append(draft, record, access.stream, hole, gateway_id, _NO_LONGER_THERE)


def end(
    draft: Draft, record: DeviceRecord, access: RecordAccess, after: Mapping[str, int | str], gateway_id: str
) -> None:
    """Another boot began: what was not read of the one before is named, its unread end among it. Where nothing of it
    was read at all, that begins with the pairing: what was before is another wear's.
    """
    if access.boot_fact not in record.facts:
        return
    mark, spacing, holes = _close(draft, record, access)
    first = mark.high + 1 if mark.runs else access.sequence_at(record.facts, record.paired_at)
    tail = (first, access.last_of(record.facts, after))
    for hole in (*holes, tail):
        if _holds_a_record(hole, spacing or 1):
            _append(draft, record, access.stream, hole, gateway_id, _ENDED)


def _close(draft: Draft, record: DeviceRecord, access: RecordAccess) -> tuple[Mark, int, list[tuple[int, int]]]:
    """Ask for no hole of this boot any more: its records, how far they are apart (0 unknown), and the holes."""
    boot = int(record.facts[access.boot_fact])
    mark = draft.mark(record.device_id, access.stream, boot)
    draft.settle(record.device_id, access.stream, boot)
    spacing = _spacing(record, access) or mark.least or 0
    return mark, spacing, list(mark.holes(max(1, spacing)))


def _holds_a_record(hole: tuple[int, int], spacing: int) -> bool:
    """Before the first record of a session one step is free: the patch may count from 0 or from 1 step."""
    first, last = hole
    return spacing > 0 and last - first + 1 > (spacing if first == 0 else spacing - 1)


def _spacing(record: DeviceRecord, access: RecordAccess) -> int:
    """How far stored records are apart; 0 while it is not known."""
    return int(record.facts.get(access.spacing_fact, 0))


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
