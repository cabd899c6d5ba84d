"""Adhesion: a report that changes something becomes a `patch_application`; site and time are never invented."""

from agent.events import Ready, Unfit, Wearer, make_event
from agent.prepare import AdhesionReport, event_key
from buffer.devices import DeviceRecord
from buffer.draft import Draft
from device_drivers.base import Place
from schemas.base import Model
from schemas.event_types import EventType

STREAM = "adhesion"


class WaitingReport(Model):
    """A report that waits, with its place in the patch's own numbering."""

    report: AdhesionReport
    boot: int
    sequence: int

    @property
    def place(self) -> Place:
        return Place(STREAM, self.boot, self.sequence)


def application_data(record: DeviceRecord) -> dict[str, str]:
    """Site and time as recorded at pairing; the wear must have an application."""
    assert record.application is not None
    return {
        "device_id": record.device_id,
        "application_site": record.application.site,
        "application_timestamp": record.application.applied_at.isoformat(),
    }


def adhesion_event(record: DeviceRecord, waiting: WaitingReport, gateway_id: str) -> Ready:
    """The `patch_application` for a report; its parts were validated before, so it cannot be unfit."""
    ready = make_event(
        EventType.PATCH_APPLICATION,
        application_data(record) | {"adhesion_quality": waiting.report.adhesion_quality},
        occurred_at=waiting.report.timestamp.isoformat(),
        gateway_id=gateway_id,
        key=event_key(record.device_id, waiting.place),
        wearer=Wearer(record.patient, record.session_id),
    )
    if isinstance(ready, Unfit):
        raise TypeError(f"a validated adhesion report made no event: {ready.reason}")
    return ready


def take_report(
    draft: Draft, record: DeviceRecord, waiting: WaitingReport, gateway_id: str, *, old: bool = False
) -> Ready | None:
    """Store the report's event when it differs from the last one of this wear; None when nothing changed. An `old` one
    is stored in any case, and is not what the next is compared with.
    """
    if not old and record.adhesion == waiting.report.adhesion_quality:
        return None
    ready = adhesion_event(record, waiting, gateway_id)
    draft.append(ready.event, ready.lane, record.device_id)
    if not old:
        draft.put_device(record.model_copy(update={"adhesion": waiting.report.adhesion_quality}))
    return ready


def release_waiting(draft: Draft, device_id: str, gateway_id: str) -> int:
    """An application was recorded: what waited for it becomes events, in order. Returns how many."""
    made = 0
    for raw in draft.take_waiting(device_id):
        record = draft.device(device_id)
        assert record is not None
        made += take_report(draft, record, WaitingReport.model_validate_json(raw), gateway_id) is not None
    return made
