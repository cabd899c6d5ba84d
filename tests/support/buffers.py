"""A buffer with events of the synthetic fleet, for its tests."""

import os
from datetime import UTC, datetime
from itertools import islice

from synthetic import wire_events

from buffer.devices import DeviceRecord
from buffer.lanes import Lane
from buffer.store import EventBuffer

KEK = os.urandom(32)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EVENTS = list(islice(wire_events(7), 1_200))
PATCH = DeviceRecord(
    device_id="NFLX_0A1B2C3D",
    batch_number="BATCH_20261101_ABC",
    device_type="diagnostic_sensor",
    transport="mqtt",
    activation_method="manual_entry",
    patient="pt_testpatientaaaaaaa",
    session_id="wear-1",
    paired_at=NOW,
)


async def open_buffer(tmp_path, **options):
    return await EventBuffer.open(tmp_path / "buffer.db", KEK, gateway_id="gw-test", **options)


def append(events, lane=Lane.SENSOR, device_id=None):
    return lambda draft: [draft.append(event, lane, device_id) for event in events]


async def drain(buffer, lane=Lane.SENSOR, size=500):
    """Claim and forget everything of a lane."""
    found = []
    while (claim := await buffer.claim(lane, size, 1 << 20)).events:
        found += claim.events
        await buffer.submit(lambda draft, claim=claim: draft.forget(claim.rows, lane), now=True)
        buffer.release(lane, claim.rows)
    return found
