"""From frames to durable rows: prepare, then decide inside one transaction, then count."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from pydantic_core import to_json

from agent.adhesion import STREAM, WaitingReport, take_report
from agent.counters import Counters, LastSeen
from agent.events import Unfit, Wearer, make_event
from agent.prepare import (
    Item,
    NewAdhesion,
    NewEvent,
    NewFacts,
    NewRefusal,
    NewStatus,
    NoMore,
    Prepared,
    Preparer,
    quarantined,
    refused,
)
from agent.records import accesses, add_record, end, settle
from buffer.devices import DeviceRecord
from buffer.draft import Draft
from buffer.lanes import Lane
from buffer.quarantine import Quarantined
from buffer.room import Level
from buffer.store import EventBuffer
from device_drivers.base import Frame, Place
from device_drivers.links.base import Asked, Batch
from device_drivers.profiles.mqtt_topics import ALERT
from schemas.event_types import EventType

log = logging.getLogger(__name__)

# What became of one prepared thing, for the counters: (name, device, the thing where it was stored as an event)
Fate = tuple[str, str | None, NewEvent | NewStatus | NewAdhesion | None]
OTHER_SESSION = "of another session"
_UNCOUNTED = {"facts", "settled"}


class Ingest:
    """The only way data of patches enters the buffer."""

    def __init__(self, buffer: EventBuffer, gateway_id: str, counters: Counters) -> None:
        self._buffer, self._gateway_id, self._counters = buffer, gateway_id, counters
        self._preparer = Preparer(gateway_id)
        # (Patch, stream) of which records were not taken for want of room.
        self._left: set[tuple[str, str]] = set()

    def receive(self, batch: Batch, transport: str) -> tuple[asyncio.Future[list[Fate]], list[Asked]]:
        """All of a batch in one transaction; when the future resolves every frame of it may be acknowledged. With it,
        what the decoders ask of the devices.
        """
        items: list[Item] = []
        asked: list[Asked] = []
        for frame in batch.frames:
            for prepared in self._prepare(frame, transport):
                if isinstance(prepared, Asked):
                    asked.append(prepared)
                else:
                    items.append(prepared)
        for device, piece in batch.refused:
            items.append(quarantined(device, piece.reason, transport, datetime.now(UTC), piece.payload))
        if batch.exhausted is not None:
            known = self._buffer.devices.get(batch.exhausted.device)
            no_more = self._preparer.no_more(batch.exhausted, known.record if known else None)
            items += [no_more] if no_more else []
        # Not in the decision: on a full disk that may be taken more than once.
        left = self._leave(items) if transport == "ble" else []
        # Of its topic all: what is no alert would else stand before those behind it.
        urgent = any(frame.channel == ALERT for frame in batch.frames) or any(
            isinstance(item, NewEvent) and item.ready.lane is Lane.URGENT for item in items
        )
        future = self._buffer.submit(self._decision(items, left), now=urgent)
        future.add_done_callback(self._count)
        return future, asked

    def again(self, frame: Frame, transport: str, take: Callable[[Draft], bool]) -> asyncio.Future[list[Fate]]:
        """A frame that was set aside, if `take` still finds it there, in one transaction; one that says nothing stays,
        and so does what was received in another session than its patch is in now (OTHER_SESSION).

        Its records are marked as here since it was set aside, and are taken all the same: should one be in the queue
        already, the upstream refuses its key. What it says of the device is old, and changes nothing.
        """
        known = self._buffer.devices.get(frame.device)
        prepared = self._prepare(frame, transport, Preparer(self._gateway_id))
        items = [item for item in prepared if not isinstance(item, (Asked, NewFacts))]
        if known and not all(_of_this_session(item, known.record, frame.received_at) for item in items):
            other: asyncio.Future[list[Fate]] = asyncio.get_running_loop().create_future()
            other.set_result([(OTHER_SESSION, frame.device, None)])
            return other

        def decide(draft: Draft) -> list[Fate]:
            return [self._decide_safely(draft, item, anew=True) for item in items] if items and take(draft) else []

        future = self._buffer.submit(decide, now=True)
        future.add_done_callback(self._count)
        return future

    def _prepare(self, frame: Frame, transport: str, preparer: Preparer | None = None) -> list[Prepared]:
        known = self._buffer.devices.get(frame.device)
        try:
            return list((preparer or self._preparer).prepare(frame, known.record if known else None, transport))
        except Exception:
            # A decoder's bug must not stop the others, and the octets are worth keeping.
            log.exception("decoder failed channel=%s", "/".join(frame.channel))
            return [refused(frame, "internal error while decoding: please report it", frame.payload)]

    def _leave(self, items: list[Item]) -> list[Fate]:
        """Where there is little room, take out of `items` what its patch gives again; and the end of all its records,
        where not all were taken: they are to be asked for again.
        """
        fates: list[Fate] = []
        kept: list[Item] = []
        for item in items:
            if isinstance(item, NewEvent) and self._buffer.level >= Level.PAUSE and self._can_wait(item):
                self._left.add((item.device_id, item.place.stream))
                fates.append(("left_on_patch", item.device_id, None))
            elif isinstance(item, NoMore) and (item.device_id, item.access.stream) in self._left:
                self._left.discard((item.device_id, item.access.stream))
            else:
                kept.append(item)
        items[:] = kept
        return fates

    def _can_wait(self, item: NewEvent) -> bool:
        """May it stay on its patch, from where it is fetched when there is room?"""
        known = self._buffer.devices.get(item.device_id)
        if known is None or item.ready.lane not in (Lane.SENSOR, Lane.TELEMETRY):
            return False
        return any(access.stream == item.place.stream for access in accesses(known.record))

    def _decision(self, items: Sequence[Item], left: list[Fate]) -> Callable[[Draft], list[Fate]]:
        return lambda draft: [*left, *(self._decide_safely(draft, item) for item in items)]

    def _decide_safely(self, draft: Draft, item: Item, *, anew: bool = False) -> Fate:
        """A bug in one decision must not keep the whole batch from being acknowledged, now and at every redelivery."""
        before = draft.point()
        try:
            return self._decide(draft, item, anew=anew)
        except Exception:
            log.exception("deciding failed, set aside")
            draft.back_to(before)
            return self._decide(draft, _set_aside(item, "internal error: please report it"), anew=anew)

    def _decide(self, draft: Draft, item: Item, *, anew: bool = False) -> Fate:
        if isinstance(item, Quarantined):
            # What is left for alerts is not for junk that is sent as alerts.
            kept = draft.quarantine(item, keep=anew or not self._buffer.only_the_reserve)
            return ("quarantined" if kept else "overflowed"), item.sender, None
        record = draft.device(item.device_id)
        if record is None or record.session_id != item.session_id:
            # Unpaired or re-paired since the frame was prepared: not acknowledged as anything it is not.
            return self._decide(draft, _late(item), anew=anew)
        if isinstance(item, NewFacts):
            self._take_facts(draft, record, item)
            return "facts", item.device_id, None
        if isinstance(item, NoMore):
            settle(draft, record, item.access, self._gateway_id)
            return "settled", item.device_id, None
        if isinstance(item, NewStatus):
            return self._take_status(draft, record, item, anew=anew)
        if not add_record(draft, record, _place_of(item), self._gateway_id) and not anew:
            return "duplicate", item.device_id, None
        if isinstance(item, NewRefusal):
            return self._decide(draft, item.item, anew=anew)
        if isinstance(item, NewEvent):
            draft.append(item.ready.event, item.ready.lane, item.device_id, item.captured)
            return "durable", item.device_id, item
        return self._take_adhesion(draft, record, item, anew=anew)

    def _take_facts(self, draft: Draft, record: DeviceRecord, item: NewFacts) -> None:
        if all(record.facts.get(name) == value for name, value in item.facts.items()):
            return
        facts = {**record.facts, **item.facts}
        for access in accesses(record):
            if facts.get(access.boot_fact) != record.facts.get(access.boot_fact):
                end(draft, record, access, facts, self._gateway_id)
        draft.put_device(record.model_copy(update={"facts": facts}))

    def _take_status(self, draft: Draft, record: DeviceRecord, item: NewStatus, *, anew: bool) -> Fate:
        """Compared with what this patch last said under the same code: an event only when it differs."""
        fact, said = f"said_{item.data['code']}", f"{item.data['severity']} {item.data.get('detail', '')}"
        if not anew and record.facts.get(fact) == said:
            return "unchanged", item.device_id, None
        made = make_event(
            EventType.AUDIT_TRAIL,
            item.data,
            occurred_at=item.occurred_at,
            gateway_id=self._gateway_id,
            key=draft.own_key(),
            wearer=Wearer(record.patient, record.session_id),
        )
        if isinstance(made, Unfit):
            raise TypeError(f"a device status made no event: {made.reason}")
        draft.append(made.event, made.lane, item.device_id, item.captured)
        if not anew:
            draft.put_device(record.model_copy(update={"facts": {**record.facts, fact: said}}))
        return "durable", item.device_id, item

    def _take_adhesion(self, draft: Draft, record: DeviceRecord, item: NewAdhesion, *, anew: bool) -> Fate:
        waiting = WaitingReport(report=item.report, boot=item.place.boot, sequence=item.place.sequence)
        if record.application is not None:
            made = take_report(draft, record, waiting, self._gateway_id, old=anew)
            return ("durable" if made else "unchanged"), item.device_id, item
        if draft.wait(item.device_id, waiting.to_json()):
            return "waiting", item.device_id, item
        reason = "waiting_full: 100 adhesion reports wait already; pair the patch again with --site and --applied-at"
        return self._decide(draft, _set_aside(item, reason), anew=anew)

    def _count(self, future: asyncio.Future[list[Fate]]) -> None:
        if future.cancelled() or future.exception():
            return
        for name, device_id, item in future.result():
            if name not in _UNCOUNTED:
                self._counters.add(name, device_id if device_id in self._buffer.devices else None)
            if item is not None:
                _remember(self._counters.last.setdefault(item.device_id, LastSeen()), item)


def _of_this_session(item: Item, record: DeviceRecord, received_at: datetime) -> bool:
    """Can a record that is numbered in sessions have been received, then, from the session that is known now?"""
    place = item.place if isinstance(item, (NewEvent, NewRefusal)) else None
    access = next((each for each in accesses(record) if place and each.stream == place.stream), None)
    if place is None or access is None or access.boot_fact not in record.facts:
        return True
    # A minute for the session's first record, which counts as its minute 0.
    latest = access.sequence_at(record.facts, received_at + timedelta(minutes=1))
    return latest > 0 and place.sequence <= latest


def _place_of(item: NewEvent | NewAdhesion | NewRefusal) -> Place:
    return item.place._replace(stream=STREAM) if isinstance(item, NewAdhesion) else item.place


def _late(item: Item) -> Quarantined:
    return _set_aside(item, "unknown_device: it was unpaired or paired anew while this was on its way")


def _set_aside(item: Item, reason: str) -> Quarantined:
    if isinstance(item, Quarantined):
        return item
    if isinstance(item, NewRefusal):
        return item.item
    if isinstance(item, NewEvent):
        body = item.ready.event.body
    elif isinstance(item, NewAdhesion):
        body = WaitingReport(report=item.report, boot=item.place.boot, sequence=item.place.sequence).to_json()
    elif isinstance(item, NewStatus):
        body = to_json(item.data)
    else:
        body = b""
    return quarantined(item.device_id, reason, "buffer", datetime.now(UTC), body)


def _remember(last: LastSeen, item: NewEvent | NewStatus | NewAdhesion) -> None:
    if isinstance(item, NewAdhesion):
        last.at, last.adhesion = item.report.timestamp.isoformat(), item.report.adhesion_quality
        return
    data = dict(item.data)
    if isinstance(item, NewStatus):
        last.status = data
        return
    if item.type is EventType.SENSOR_READING:
        last.at, last.reading = data["timestamp"], data
    elif item.type is EventType.DOSAGE_DELIVERY:
        last.at, last.dosage = data["delivery_timestamp"], data
    else:
        last.at, last.status = data["timestamp"], data
