"""A buffer that is filled and drained: `written_workload.py FOLDER PER_COMMIT EVENTS WARM_UP [bare]`.

Says `ready`, `ran` and `end` on stdout and waits for a line on stdin after each, so that who started it can look at the
disk: before, after, and after a checkpoint.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from synthetic import wire_events

from buffer.devices import DeviceRecord
from buffer.draft import Draft
from buffer.lanes import Lane
from buffer.store import EventBuffer
from schemas.wire import WireEvent

_KEEP, _UNIT = 2_000, 500


class Work:
    """Commits of events with their marks; when more than KEEP wait, the oldest UNIT go, as after an upload."""

    def __init__(self, buffer: EventBuffer, events: list[WireEvent]) -> None:
        self._buffer, self._events, self._at = buffer, events, 0
        self._counts: Counter[tuple[str, str]] = Counter()

    async def pair(self) -> None:
        """Every patch of the fleet, with the patient and the wear of its events."""
        bodies = [json.loads(event.body) for event in self._events]
        for body in {body["data"]["device_id"]: body for body in bodies}.values():
            record = DeviceRecord(
                device_id=body["data"]["device_id"], batch_number="BATCH_20261101_ABC", device_type="diagnostic_sensor",
                transport="mqtt", activation_method="manual_entry", patient=body.get("user_id"),
                session_id=body.get("session_id", "wear"), paired_at=datetime.now(UTC),
            )  # fmt: skip
            await self._buffer.submit(lambda draft, record=record: draft.put_device(record), now=True)

    async def run(self, events: int, per_commit: int) -> None:
        for _ in range(0, events, per_commit):
            part = self._events[self._at : self._at + per_commit]
            self._at += per_commit
            await self._buffer.submit(lambda draft, part=part: [self._put(draft, event) for event in part], now=True)
            while self._buffer.lanes[Lane.SENSOR] >= _KEEP + _UNIT:
                claim = await self._buffer.claim(Lane.SENSOR, _UNIT, 1 << 30)
                await self._buffer.submit(lambda draft, rows=claim.rows: draft.forget(rows, Lane.SENSOR), now=True)
                self._buffer.release(Lane.SENSOR, claim.rows)

    def _put(self, draft: Draft, event: WireEvent) -> None:
        """Each patch numbers its records one by one."""
        device_id, stream, boot, _ = event.idempotency_key.split(".")
        self._counts[device_id, stream] += 1
        draft.add_record(device_id, stream, int(boot), self._counts[device_id, stream])
        draft.append(event, Lane.SENSOR, device_id)


def _say(word: str) -> None:
    print(word, flush=True)
    sys.stdin.readline()


async def main() -> None:
    """As above."""
    folder, per_commit, events, warm_up = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    made = list(islice(wire_events(7, bare="bare" in sys.argv[5:]), events + warm_up + 2 * per_commit))
    first = json.loads(made[0].body)
    received = datetime.fromisoformat(first["occurred_at"])
    buffer = await EventBuffer.open(
        folder / "buffer.db", os.urandom(32), gateway_id=first["producer"], clock=lambda: received
    )
    work = Work(buffer, made)
    await work.pair()
    await work.run(warm_up, 1_000)
    _say("ready")
    await work.run(events, per_commit)
    _say("ran")
    await buffer.truncate_wal()
    _say("end")
    await buffer.close()


if __name__ == "__main__":
    asyncio.run(main())
