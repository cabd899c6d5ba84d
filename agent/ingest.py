"""From frames to durable rows: prepare, then decide inside one transaction, then count."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from agent.adhesion import STREAM, WaitingReport, take_report
from agent.counters import Counters, LastSeen
from agent.prepare import NewAdhesion, NewEvent, NewFacts, Prepared, Preparer, quarantined, refused
from buffer.draft import Draft
from buffer.lanes import Lane
from buffer.quarantine import Quarantined
from buffer.store import EventBuffer
from device_drivers.base import Frame
from device_drivers.links.base import Batch
from schemas.event_types import EventType

log = logging.getLogger(__name__)

# What became of one prepared thing, for the counters: (name, device, the thing where it was stored as an event)
Fate = tuple[str, str | None, NewEvent | NewAdhesion | None]


class Ingest:
    """The only way data of patches enters the buffer."""

    def __init__(self, buffer: EventBuffer, gateway_id: str, counters: Counters) -> None:
        self._buffer, self._gateway_id, self._counters = buffer, gateway_id, counters
        self._preparer = Preparer(gateway_id)

    def receive(self, batch: Batch, transport: str) -> asyncio.Future[list[Fate]]:
        """All of a batch in one transaction; when the future resolves every frame of it may be acknowledged."""
        prepared: list[Prepared] = []
        for frame in batch.frames:
            prepared += self._prepare(frame, transport)
        for device, piece in batch.refused:
            prepared.append(quarantined(device, piece.reason, transport, datetime.now(UTC), piece.payload))
        urgent = any(isinstance(item, NewEvent) and item.ready.lane is Lane.URGENT for item in prepared)
        future = self._buffer.submit(self._decision(prepared), now=urgent)
        future.add_done_callback(self._count)
        return future

    def _prepare(self, frame: Frame, transport: str) -> list[Prepared]:
        known = self._buffer.devices.get(frame.device)
        try:
            return list(self._preparer.prepare(frame, known.record if known else None, transport))
        except Exception:
            # A decoder's bug must not stop the others, and the octets are worth keeping.
            log.exception("decoder failed channel=%s", "/".join(frame.channel))
            return [refused(frame, "internal error while decoding: please report it", frame.payload)]

    def _decision(self, prepared: Sequence[Prepared]) -> Callable[[Draft], list[Fate]]:
        return lambda draft: [self._decide_safely(draft, item) for item in prepared]

    def _decide_safely(self, draft: Draft, item: Prepared) -> Fate:
        """A bug in one decision must not keep the whole batch from being acknowledged, now and at every redelivery."""
        before = draft.point()
        try:
            return self._decide(draft, item)
        except Exception:
            log.exception("deciding failed, set aside")
            draft.back_to(before)
            return self._decide(draft, _set_aside(item, "internal error: please report it"))

    def _decide(self, draft: Draft, item: Prepared) -> Fate:
        if isinstance(item, Quarantined):
            kept = draft.quarantine(item)
            return ("quarantined" if kept else "overflowed"), item.sender, None
        record = draft.device(item.device_id)
        if record is None or record.session_id != item.session_id:
            # Unpaired or re-paired since the frame was prepared: not acknowledged as anything it is not.
            return self._decide(draft, _late(item))
        if isinstance(item, NewFacts):
            if any(record.facts.get(name) != value for name, value in item.facts.items()):
                draft.put_device(record.model_copy(update={"facts": {**record.facts, **item.facts}}))
            return "facts", item.device_id, None
        stream = STREAM if isinstance(item, NewAdhesion) else item.stream
        if not draft.is_new(item.device_id, stream, item.boot, item.sequence):
            return "duplicate", item.device_id, None
        if isinstance(item, NewEvent):
            draft.append(item.ready.event, item.ready.lane, item.device_id)
            return "durable", item.device_id, item
        waiting = WaitingReport(report=item.report, boot=item.boot, sequence=item.sequence)
        if record.application is not None:
            made = take_report(draft, record, waiting, self._gateway_id)
            return ("durable" if made else "unchanged"), item.device_id, item
        if draft.wait(item.device_id, waiting.to_json()):
            return "waiting", item.device_id, item
        reason = "waiting_full: 100 adhesion reports wait already; pair the patch again with --site and --applied-at"
        return self._decide(draft, _set_aside(item, reason))

    def _count(self, future: asyncio.Future[list[Fate]]) -> None:
        if future.cancelled() or future.exception():
            return
        for name, device_id, item in future.result():
            if name != "facts":
                self._counters.add(name, device_id if device_id in self._buffer.devices else None)
            if item is not None:
                _remember(self._counters.last.setdefault(item.device_id, LastSeen()), item)


def _late(item: NewEvent | NewAdhesion | NewFacts) -> Quarantined:
    return _set_aside(item, "unknown_device: it was unpaired or paired anew while this was on its way")


def _set_aside(item: Prepared, reason: str) -> Quarantined:
    if isinstance(item, Quarantined):
        return item
    if isinstance(item, NewEvent):
        body = item.ready.event.body
    elif isinstance(item, NewAdhesion):
        body = WaitingReport(report=item.report, boot=item.boot, sequence=item.sequence).to_json()
    else:
        body = b""
    return quarantined(item.device_id, reason, "buffer", datetime.now(UTC), body)


def _remember(last: LastSeen, item: NewEvent | NewAdhesion) -> None:
    if isinstance(item, NewAdhesion):
        last.at, last.adhesion = item.report.timestamp.isoformat(), item.report.adhesion_quality
        return
    data = dict(item.data)
    if item.type is EventType.SENSOR_READING:
        last.at, last.reading = data["timestamp"], data
    elif item.type is EventType.DOSAGE_DELIVERY:
        last.at, last.dosage = data["delivery_timestamp"], data
    else:
        last.at, last.status = data["timestamp"], data
