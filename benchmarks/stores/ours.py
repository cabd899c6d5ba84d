"""The product's own buffer as it comes: sealed rows, a key per patch, marks that refuse a record twice."""

import asyncio
import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from stores.base import Store

from buffer.devices import DeviceRecord
from buffer.draft import Draft
from buffer.lanes import Lane
from buffer.store import EventBuffer
from schemas.wire import WireEvent

_KEK = bytes(32)
_WINDOW = 4_000


async def open_buffer(folder: Path, body: str | bytes) -> EventBuffer:
    """The buffer of the gateway that this event is from, on the event's day."""
    event = json.loads(body)
    now = datetime.fromisoformat(event["occurred_at"])
    return await EventBuffer.open(folder / "buffer.db", _KEK, gateway_id=event["producer"], clock=lambda: now)


async def pair(buffer: EventBuffer, device_ids: set[str]) -> None:
    """Every patch of the fleet, so that each has its own keys."""
    for device_id in device_ids:
        record = DeviceRecord(
            device_id=device_id, batch_number="BATCH_20261101_ABC", device_type="diagnostic_sensor",
            transport="mqtt", activation_method="manual_entry", session_id="wear", paired_at=datetime.now(UTC),
        )  # fmt: skip
        await buffer.submit(functools.partial(Draft.put_device, record=record), now=True)


class Record(NamedTuple):
    """One event, and its place among the records of its patch."""

    event: WireEvent
    device_id: str
    stream: str
    boot: int
    sequence: int


def _append(record: Record, draft: Draft) -> None:
    draft.add_record(record.device_id, record.stream, record.boot, record.sequence)
    draft.append(record.event, Lane.SENSOR, record.device_id)


def _append_all(records: Sequence[Record], draft: Draft) -> None:
    for record in records:
        _append(record, draft)


def _durable(acked: Callable[[int], None], number: int, done: asyncio.Future[None]) -> None:
    done.result()
    acked(number)


class Ours(Store):
    """`put` submits event by event, 4,000 at most not yet durable; the buffer makes the groups."""

    warm_up = 20_000
    device_events = {50: 40_000, 1_000: 40_000}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "buffer.db")
        self._runner = asyncio.Runner()
        self._buffer: EventBuffer

    def prepare(self, bodies: Sequence[str]) -> Sequence[Record]:
        counts: Counter[tuple[str, str]] = Counter()
        records = []
        for body in bodies:
            key = body.partition('"idempotency_key":"')[2].partition('"')[0]
            device_id, stream, boot, _ = key.split(".")
            counts[device_id, stream] += 1
            event = WireEvent(key, body.encode())
            records.append(Record(event, device_id, stream, int(boot), counts[device_id, stream]))
        self._buffer = self._runner.run(open_buffer(self.database.parent, bodies[0]))
        self._runner.run(pair(self._buffer, {record.device_id for record in records}))
        return records

    def put(self, events: Sequence[Record]) -> None:
        self._runner.run(self._put(events))

    async def _put(self, records: Sequence[Record]) -> None:
        for at in range(0, len(records), _WINDOW):
            part = records[at : at + _WINDOW]
            futures = [self._buffer.submit(functools.partial(_append, record)) for record in part]
            self._buffer.flush()
            await asyncio.gather(*futures)

    def put_group(self, events: Sequence[Record]) -> None:
        self._runner.run(self._submit(functools.partial(_append_all, events)))

    def drain(self, most: int) -> int:
        return self._runner.run(self._drain(most))

    async def _drain(self, most: int) -> int:
        claim = await self._buffer.claim(Lane.SENSOR, most, 1 << 30)
        await self._buffer.submit(lambda draft: draft.forget(claim.rows, Lane.SENSOR), now=True)
        self._buffer.release(Lane.SENSOR, claim.rows)
        return len(claim.events)

    async def _submit(self, decide: Callable[[Draft], None]) -> None:
        await self._buffer.submit(decide, now=True)

    def paced(self, parts: Sequence[Sequence[Record]], pause: float, acked: Callable[[int], None]) -> None:
        self._runner.run(self._paced(parts, pause, acked))

    async def _paced(self, parts: Sequence[Sequence[Record]], pause: float, acked: Callable[[int], None]) -> None:
        futures: list[asyncio.Future[None]] = []
        for part in parts:
            for record in part:
                future = self._buffer.submit(functools.partial(_append, record))
                futures.append(future)
                future.add_done_callback(functools.partial(_durable, acked, len(futures)))
            await asyncio.sleep(pause)
        await asyncio.gather(*futures)


async def kept(folder: Path) -> list[str]:
    """The keys of all events in a buffer of these, opened by the product."""
    buffer = await EventBuffer.open(folder / "buffer.db", _KEK, gateway_id="any")
    try:
        claim = await buffer.claim(Lane.SENSOR, 1_000_000, 1 << 40)
    finally:
        await buffer.close()
    return [event.idempotency_key for event in claim.events]


STORE = Ours
