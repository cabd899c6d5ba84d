"""The gateway's own pipeline at work on a buffer, under the shim: frames, pairings, uploads, markers, a wrong clock,
rows that are given up, a restart.

Before anything is handed in this says that it was `sent`; when it is durable, that it was `acked`; when an upstream has
taken it, that it was `delivered`. `workload.py DATABASE KEK SEED ROUNDS [MUTANT]`.
"""

import asyncio
import json
import logging
import os
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mutants
from recording import say

from agent.clock import release_held
from agent.counters import Counters
from agent.gaps import given_up, name_given_up, quarantine_overflow
from agent.ingest import Ingest
from agent.pairing import Claims, Paired, PairRequest, pair, unpair
from agent.sync import Sync
from buffer.lanes import Lane
from buffer.quarantine import Limits
from buffer.store import EventBuffer
from buffer.thinning import Part
from device_drivers.base import Channel, Frame
from device_drivers.links.base import Batch
from uploader.backoff import Backoff
from uploader.base import Accepted, Refused, Retry

GATEWAY = "gw-crash"
LIMITS = Limits(octets=1 << 20, per_sender=30)
PATCHES = [f"NFLX_0A1B2C{number:02d}" for number in range(6)]
STRANGER = "NFLX_STRANGER"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


async def open_buffer(path, kek, clock_is_right=lambda: True):
    """As the daemon does, with a WAL that is checkpointed often."""
    buffer = await EventBuffer.open(
        path, kek, gateway_id=GATEWAY, limits=LIMITS, tick=0.002, clock_is_right=clock_is_right
    )
    await buffer._connection.execute("PRAGMA wal_autocheckpoint=20")
    return buffer


def frame(device_id, boot, sequence, **changes):
    """One reading over MQTT; every 31st is urgent."""
    body = {
        "device_id": device_id, "boot": boot, "sequence": sequence, "sensor_type": "glucose",
        "reading_value": 90 + sequence % 60, "unit_of_measurement": "mg/dL", "timestamp": NOW.isoformat(),
        "reading_quality": "high", "calibration_status": "calibrated", "alert_triggered": sequence % 31 == 0, **changes,
    }  # fmt: skip
    return Frame(device_id, Channel("mqtt", "sensor"), json.dumps(body).encode(), NOW)


def key_of(device_id, boot, sequence):
    return f"{device_id}.sensor.{boot}.{sequence}"


def frame_of(name):
    """The frame that was sent under this name: its idempotency key, or `SENDER damaged-N`."""
    sender, _, damaged = name.partition(" ")
    if damaged:
        return frame(sender, 0, 1, **{damaged: True})
    device_id, _, boot, sequence = name.split(".")
    return frame(device_id, int(boot), int(sequence))


class Upstream:
    """Takes most, refuses some, and sometimes answers nothing although it took them."""

    def __init__(self, log, rng):
        self._log, self._rng = log, rng

    async def send(self, events):
        fate = self._rng.random()
        if fate < 0.15:
            return [Retry("away")] * len(events)
        taken = [event.idempotency_key for event in events if hash_of(event.idempotency_key) % 7]
        markers = {event.idempotency_key: marked(event.body) for event in events if marked(event.body)}
        self._log(delivered=taken, markers={key: count for key, count in markers.items() if key in taken})
        if fate < 0.25:
            return [Retry("the answer was lost")] * len(events)
        return [Accepted() if event.idempotency_key in taken else Refused("not wanted") for event in events]


def hash_of(key):
    """Refused are readings only: what the gateway says itself is always wanted."""
    return sum(key.encode()) if ".sensor." in key else 1


def marked(body):
    """How many a gap marker of a full quarantine names."""
    data = json.loads(body)["data"]
    return data["count"] if data.get("kind") == "gap_marker" else 0


class Work:
    """One pass of the pipeline."""

    def __init__(self, buffer, log, rng, clock):
        self._buffer, self._log, self._rng, self._clock = buffer, log, rng, clock
        self._ingest = Ingest(buffer, GATEWAY, Counters())
        upstream, backoff = Upstream(log, rng), Backoff(0.0, 0.0)
        self._sync = Sync(buffer, upstream, backoff, Counters(), batch_events=40, batch_octets=1 << 20)
        self._sequences = dict.fromkeys(PATCHES, 0)
        self._boots = dict.fromkeys(PATCHES, 0)
        self._damaged = 0
        self._tasks = set()

    async def run(self, rounds):
        for patch in PATCHES:
            await self._pair(patch)
        for turn in range(rounds):
            await self._round(turn)
            await asyncio.sleep(self._rng.choice([0, 0, 0.003]))
        await asyncio.gather(*self._tasks)

    async def _round(self, turn):
        for _ in range(self._rng.choice([1, 1, 3])):
            self._frames(self._rng.choice(PATCHES), self._rng.randrange(1, 12))
        if turn % 5:
            self._keep(self._sync.step())
        if turn % 5 == 0:
            self._bad_frames()
        if turn % 11 == 10:
            patch = self._rng.choice(PATCHES)
            await self._unpair(patch)
            await self._pair(patch)
        if turn % 23 in (15, 19):
            await self._clock_is_wrong(turn % 23 == 15)
        if turn % 29 == 28:
            await self._give_up()
        if turn % 13 == 12:
            rows = await self._buffer.look.overflow_rows()
            await self._buffer.submit(quarantine_overflow(rows, GATEWAY), now=True)
            await self._buffer.submit(name_given_up(GATEWAY), now=True)

    async def _clock_is_wrong(self, wrong):
        """For some rounds events are held; then they are put into the queue."""
        self._clock.right = not wrong
        if not wrong:
            await release_held(self._buffer)

    async def _give_up(self):
        """As where the buffer is nearly full."""
        claims = await self._buffer.leave(Part((Lane.SENSOR, Lane.TELEMETRY)), 10)
        await self._buffer.submit(given_up(claims), now=True, relief=True)
        self._buffer.stay()

    def _keep(self, coroutine):
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _frames(self, patch, count):
        first = self._sequences[patch] + self._rng.choice([1, 1, 1, 3])  # a hole now and then
        sequences = list(range(first, first + count))
        self._sequences[patch] = sequences[-1]
        names = [key_of(patch, self._boots[patch], number) for number in sequences]
        if self._rng.random() < 0.2 and first > 1:
            names.append(names[0])  # sent twice by its broker
        self._submit(names)

    def _bad_frames(self):
        self._damaged += 1
        self._submit([f"{self._rng.choice([PATCHES[0], STRANGER])} damaged-{self._damaged}"])

    def _submit(self, names):
        self._log(sent=names)
        future, _ = self._ingest.receive(Batch([frame_of(name) for name in names]), "mqtt")
        future.add_done_callback(lambda done: self._durable(done, names))
        self._keep(_waited(future))

    def _durable(self, future, names):
        if not future.exception():
            over = {name for name, fate in zip(names, future.result(), strict=True) if fate[0] == "overflowed"}
            self._log(acked=[name for name in names if name not in over], overflowed=len(over))

    async def _pair(self, patch):
        claims = Claims(
            device_id=patch, batch_number="BATCH_20261101_ABC", device_type="diagnostic_sensor",
            activation_method="manual_entry",
        )  # fmt: skip
        request = PairRequest(transport="mqtt", patient="pt_testpatientaaaaaaa")
        self._boots[patch] += 1
        self._sequences[patch] = 0
        self._log(pairing=patch)
        done = await self._buffer.submit(pair(request, claims, GATEWAY, timedelta(minutes=10)), now=True)
        assert isinstance(done, Paired)
        self._log(paired=patch)

    async def _unpair(self, patch):
        self._log(unpairing=patch)
        await self._buffer.submit(unpair(patch), now=True)
        self._log(unpaired=patch)


class Clock:
    """Right, or not."""

    right = True


async def _waited(future):
    await future


async def main():
    logging.disable()
    database, kek, seed, rounds = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    descriptor = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_APPEND)

    def log(**what):
        os.write(descriptor, say(what))

    rng = random.Random(seed)
    mutant = sys.argv[5] if len(sys.argv) > 5 else None
    clock = Clock()
    buffer = await open_buffer(database, kek, lambda: clock.right)
    await buffer.truncate_wal()
    log(ready=True)
    if mutant:
        await mutants.break_it(buffer, mutant)
    await Work(buffer, log, rng, clock).run(rounds)
    await buffer.close()
    log(closed=True)


if __name__ == "__main__":
    asyncio.run(main())
