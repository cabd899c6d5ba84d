"""A buffer with one paired glucose patch, and what its radio delivers."""

import json
import os
from datetime import UTC, datetime, timedelta

from agent.ble import Registry
from agent.counters import Counters
from agent.ingest import Ingest
from agent.pairing import Claims
from buffer.devices import DeviceRecord
from buffer.lanes import Lane
from device_drivers.base import Frame
from device_drivers.emulated import cgm
from device_drivers.links.base import Batch, Exhausted
from device_drivers.profiles.continuous_glucose import (
    FEATURE,
    GATT,
    MEASUREMENT,
    SESSION_START,
)  # fmt: skip

PATCH = "NFLX_0A1B2C3D"
START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
NOW = START + timedelta(hours=3)
KEK = os.urandom(32)
RECORD = DeviceRecord(
    device_id=PATCH, batch_number="BATCH_20261101_ABC", device_type="diagnostic_sensor", transport="ble",
    activation_method="manual_entry", session_id="wear-1", paired_at=NOW, address="F0:F1:F2:F3:F4:00",
)  # fmt: skip

CLAIMS = Claims(
    device_id=PATCH, batch_number=RECORD.batch_number, device_type=RECORD.device_type, activation_method="manual_entry",
    address=RECORD.address, passkey=123456,
)  # fmt: skip


class Gateway:
    """A buffer with one paired glucose patch; `say` is what its radio delivers."""

    def __init__(self, buffer):
        self.buffer = buffer
        self.ingest = Ingest(buffer, "gw-test", Counters())
        self.registry = Registry(buffer)

    async def say(self, channel, *payloads, live=False, at=NOW):
        future, asked = self.ingest.receive(Batch([Frame(PATCH, channel, p, at, live) for p in payloads]), "ble")
        return [name for name, *_ in await future], asked

    async def begin(self):
        await self.say(FEATURE, cgm.feature())
        await self.say(SESSION_START, cgm.session_start(START))

    async def records(self, *offsets, live=False):
        for offset in offsets if live else ():
            fates, _ = await self.say(MEASUREMENT, record(offset), live=True, at=START + timedelta(minutes=offset))
        if not live:
            fates, _ = await self.say(MEASUREMENT, *(record(offset) for offset in offsets))
        return [fate for fate in fates if fate != "facts"]

    async def exhausted(self):
        future, _ = self.ingest.receive(Batch(exhausted=Exhausted(PATCH, GATT.records)), "ble")
        await future

    def missing(self):
        return self.registry.missing(PATCH, GATT.records)

    async def stored(self, lane):
        """Data of the rows of a lane."""
        claim = await self.buffer.claim(lane, 500, 1 << 20)
        self.buffer.release(lane, claim.rows)
        return [json.loads(event.body)["data"] for event in claim.events]

    async def gaps(self):
        found = [data for data in await self.stored(Lane.URGENT) if data["kind"] == "sequence_gap"]
        return [(data["stream"], data["from"], data["to"]) for data in found]


def record(offset, quality=90):
    return cgm.measurement(cgm.Record(120, offset, trend=20, quality=quality))
