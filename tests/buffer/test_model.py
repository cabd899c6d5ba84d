"""The buffer against a model of it: whatever is done in whatever order, also kills, a full disk and a wrong clock."""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buffer import writer
from buffer.devices import DeviceRecord
from buffer.held import Moment
from buffer.lanes import Lane
from buffer.quarantine import Limits, entry
from buffer.store import EventBuffer
from buffer.thinning import Part
from schemas.wire import WireEvent

KEK = os.urandom(32)
PATCHES = ("NFLX_00000001", "NFLX_00000002")
LIMITS = Limits(octets=1 << 20, per_sender=1)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SEQUENCES = st.lists(st.integers(1, 40), max_size=6)


def record(device_id):
    return DeviceRecord(
        device_id=device_id, batch_number="BATCH_20261101_ABC", device_type="diagnostic_sensor", transport="mqtt",
        activation_method="manual_entry", session_id="w", paired_at=NOW,
    )  # fmt: skip


class BufferMachine(RuleBasedStateMachine):
    """`lanes` are the keys in the queue, in order; `held` wait for the clock with their lanes; `claims` are being sent;
    `aside` and `overflow` as in quarantine.
    """

    @initialize()
    def begin(self):
        self.loop = asyncio.new_event_loop()
        writer._RETRY_SECONDS = 0.01
        self.now, self.folder = NOW, Path(tempfile.mkdtemp(prefix="model-"))
        self.lanes = {lane: [] for lane in Lane}
        self.seen, self.aside, self.overflow = set(), {}, Counter()
        self.claims, self.number, self.held, self.wrong = [], 0, [], False
        self.run(self.open())
        for device_id in PATCHES:
            self.submit(lambda draft, device_id=device_id: draft.put_device(record(device_id)))

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def open(self):
        self.buffer = await EventBuffer.open(
            self.folder / "b.db", KEK, gateway_id="gw", limits=LIMITS, tick=0.001, clock=lambda: self.now,
            moment=lambda: Moment("boot", 10.0), clock_is_right=lambda: not self.wrong,
        )  # fmt: skip

    def stored(self, key, lane):
        """Where an event goes now."""
        if self.wrong or self.held:
            self.held.append((key, lane))
        else:
            self.lanes[lane].append(key)

    def submit(self, decide, **options):
        async def submitted():
            return await self.buffer.submit(decide, now=True, **options)

        return self.run(submitted())

    def teardown(self):
        if hasattr(self, "buffer"):
            self.run(self.buffer.close())
            self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    @rule(
        device=st.sampled_from(PATCHES), sequences=st.lists(st.integers(1, 40), max_size=6), lane=st.sampled_from(Lane)
    )
    def append(self, device, sequences, lane):
        """Records, perhaps again: each is new once."""

        def decide(draft):
            for sequence in sequences:
                key = f"{device}.s.1.{sequence}"
                new = draft.add_record(device, "s", 1, sequence) is not None
                assert new is (key not in self.seen)
                if new:
                    draft.append(WireEvent(key, b'{"k":"' + key.encode() + b'"}'), lane, device)
                    self.seen.add(key)
                    self.stored(key, lane)

        self.submit(decide)

    @rule(device=st.sampled_from(PATCHES), sequence=st.integers(1, 40))
    def a_decision_that_fails_changes_nothing(self, device, sequence):
        def decide(draft):
            draft.add_record(device, "s", 1, sequence)
            draft.append(WireEvent("never", b"{}"), Lane.URGENT, device)
            raise ZeroDivisionError

        try:
            self.submit(decide)
        except ZeroDivisionError:
            return
        raise AssertionError

    @rule(lane=st.sampled_from(Lane), most=st.integers(1, 5))
    def claim(self, lane, most):
        """The oldest that are not being sent."""
        claim = self.run(self.buffer.claim(lane, most, 1 << 20))
        flying = {key for other in self.claims for key in other[1]}
        keys = [event.idempotency_key for event in claim.events]
        assert keys == [key for key in self.lanes[lane] if key not in flying][:most]
        self.claims.append((claim, keys))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), fate=st.sampled_from(["delivered", "refused", "again"]))
    def settle(self, data, fate):
        claim, keys = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))

        def decide(draft):
            draft.forget(claim.rows, claim.lane)
            for key in keys if fate == "refused" else ():
                self.set_aside(draft, key.split(".")[0], key)

        if fate != "again":
            self.submit(decide, relief=True)
            self.lanes[claim.lane] = [key for key in self.lanes[claim.lane] if key not in keys]
        self.buffer.release(claim.lane, claim.rows)

    @staticmethod
    def entry(sender, what):
        return entry(sender, "why", "upstream", NOW, what.encode())

    def set_aside(self, draft, sender, what):
        kept = draft.quarantine(self.entry(sender, what))
        room = sum(of == sender for of in self.aside.values()) < LIMITS.per_sender
        assert kept is (room or what in self.aside)
        if kept:
            self.aside[what] = sender
        else:
            self.overflow[sender] += 1

    @rule(sender=st.sampled_from([*PATCHES, "stranger"]), number=st.integers(0, 6))
    def quarantine(self, sender, number):
        self.submit(lambda draft: self.set_aside(draft, sender, f"{sender}.q.{number}"))

    @precondition(lambda self: self.aside)
    @rule(data=st.data())
    def take_back(self, data):
        """What was set aside goes to the queue of telemetry."""
        entries = self.run(self.buffer.look.quarantine_entries())
        _, _, item = data.draw(st.sampled_from(entries))
        (what,) = [
            name for name in self.aside if item == entry(self.aside[name], "why", "upstream", NOW, name.encode())
        ]

        def decide(draft):
            assert draft.take_quarantined(item)
            draft.append(WireEvent(key, b"{}"), Lane.TELEMETRY)

        self.number += 1
        key = f"{what}.{self.number}"  # it may be set aside again, and taken back again
        self.submit(decide)
        del self.aside[what]
        self.stored(key, Lane.TELEMETRY)

    @rule()
    def gaps_are_named(self):
        def decide(draft):
            for row in rows:
                assert draft.overflow(row[0]) == row[1]
                draft.clear_overflow(row[0])

        rows = self.run(self.buffer.look.overflow_rows())
        assert sum(row[1] for row in rows) == sum(self.overflow.values())
        self.submit(decide)
        self.overflow.clear()

    @rule()
    def the_clock_is_wrong(self):
        self.wrong = True

    @precondition(lambda self: self.wrong)
    @rule(most=st.integers(1, 10))
    def the_clock_is_right(self, most):
        """What was held goes to the queue, in its order, each with what it was."""
        self.wrong = False
        while self.held:
            rows, damaged = self.run(self.buffer.look.held_rows(most))
            assert not damaged
            part, self.held = self.held[:most], self.held[most:]
            assert [(row.event.idempotency_key, row.lane) for row in rows] == part
            self.submit(lambda draft, rows=rows: draft.release([(row, row.event, NOW) for row in rows]))
            for key, lane in part:
                self.lanes[lane].append(key)

    @rule(most=st.integers(1, 5))
    def give_up(self, most):
        """The oldest readings and telemetry that are not being sent, and nothing else."""
        flying = {key for _, keys in self.claims for key in keys}
        claims = self.run(self.buffer.leave(Part((Lane.SENSOR, Lane.TELEMETRY)), most))
        assert sum(len(claim.rows) for claim in claims) == min(
            most, sum(key not in flying for lane in (Lane.SENSOR, Lane.TELEMETRY) for key in self.lanes[lane])
        )
        for claim in claims:
            keys = [event.idempotency_key for event in claim.events]
            assert keys == [key for key in self.lanes[claim.lane] if key not in flying][: len(keys)]
            leaving = self.run(self.buffer.claim(claim.lane, 100, 1 << 20))
            assert not {event.idempotency_key for event in leaving.events} & set(keys), "nobody else gets them"
            self.buffer.release(claim.lane, leaving.rows)
            self.submit(lambda draft, claim=claim: draft.forget(claim.rows, claim.lane), relief=True)
            self.lanes[claim.lane] = [key for key in self.lanes[claim.lane] if key not in keys]
        self.buffer.stay()

    @rule()
    def kill(self):
        """What the next process finds is what is in the files at this moment."""
        other = Path(tempfile.mkdtemp(prefix="model-"))
        for path in self.folder.glob("b.db*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, other)
        self.run(self.buffer.close())
        shutil.rmtree(self.folder)
        self.folder, self.claims = other, []
        self.run(self.open())

    @rule(seconds=st.sampled_from([-86_400 * 365, -3_600, 60, 86_400]))
    def clock_step(self, seconds):
        self.now = max(datetime(1970, 1, 1, tzinfo=UTC), self.now + timedelta(seconds=seconds))

    @rule()
    def full_disk(self):
        """Nothing is acknowledged while there is no room, and what waits is stored when there is."""

        async def full():
            connection = self.buffer._connection
            (pages,) = next(iter(await connection.execute_fetchall("PRAGMA page_count")))
            await connection.execute(f"PRAGMA max_page_count={pages}")
            big = WireEvent(name, os.urandom(20_000))
            waiting = self.buffer.submit(lambda draft: draft.append(big, Lane.SENSOR), now=True)
            await asyncio.sleep(0.02)
            assert not waiting.done() or not waiting.exception()
            stored = waiting.done()
            await connection.execute("PRAGMA max_page_count=1000000")
            await waiting
            return stored

        self.number += 1
        name = f"big.{self.number}"
        self.run(full())
        self.stored(name, Lane.SENSOR)

    @invariant()
    def the_counts_agree(self):
        if hasattr(self, "buffer"):
            assert self.buffer.lanes == {lane: len(keys) for lane, keys in self.lanes.items()}
            assert self.buffer.held == len(self.held)
            assert self.buffer.quarantined == len(self.aside)
            assert sum(self.buffer.overflow.values()) == sum(self.overflow.values())


BufferMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBuffer = BufferMachine.TestCase
