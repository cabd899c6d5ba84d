"""Events from before the clock is right: not sent, then with their true times, under the key of the right day."""

import asyncio
import json
import os
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from glucose import NOW, PATCH, RECORD
from publisher import reading

from agent.clock import captured_at, release_held
from agent.counters import Counters
from agent.events import at_time
from agent.ingest import Ingest
from agent.jobs import Jobs
from buffer.held import HELD, Held, Moment, moment_now, open_held, seal_held
from buffer.lanes import Lane
from buffer.sealing import Dek
from buffer.store import EventBuffer
from device_drivers.base import Channel, Frame
from device_drivers.links.base import Batch
from schemas.wire import WireEvent

KEK = os.urandom(32)
WRONG = datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
BOOT = "0d5a1c9e-0000-4000-8000-000000000001"


class Clock:
    """Wrong until it is set: 300 s after the boot it shows five past midnight, 1970."""

    def __init__(self):
        self.now, self.moment, self.right = WRONG, Moment(BOOT, 300.0), False

    def later(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.moment = Moment(BOOT, self.moment.monotonic + seconds)

    def set(self, now):
        self.now, self.right = now, True


@pytest.fixture
async def gateway(tmp_path):
    clock = Clock()
    buffer = await EventBuffer.open(
        tmp_path / "b.db", KEK, gateway_id="gw-test", tick=0.01, clock=lambda: clock.now, moment=lambda: clock.moment,
        clock_is_right=lambda: clock.right,
    )  # fmt: skip
    patch = RECORD.model_copy(update={"transport": "mqtt", "address": None})
    await buffer.submit(lambda draft: draft.put_device(patch), now=True)
    yield buffer, clock, tmp_path / "b.db"
    await buffer.close()


async def receive(buffer, clock, *bodies, kind="sensor"):
    received = [Frame(PATCH, Channel("mqtt", kind), json.dumps(body).encode(), clock.now) for body in bodies]
    fates = await Ingest(buffer, "gw-test", Counters()).receive(Batch(received), "mqtt")[0]
    assert {fate for fate, *_ in fates} == {"durable"}


async def sent(buffer, lane=Lane.SENSOR):
    claim = await buffer.claim(lane, 100, 1 << 20)
    buffer.release(lane, claim.rows)
    assert not claim.damaged
    return [json.loads(event.body) for event in claim.events]


async def test_they_are_sent_when_the_clock_is_right_with_the_times_they_had(gateway):
    """The patch's own times stay; those of our clock become what it would have shown had it been right."""
    buffer, clock, path = gateway
    await receive(buffer, clock, reading(PATCH, 1))
    clock.later(60)
    await receive(buffer, clock, reading(PATCH, 2, timestamp=clock.now.isoformat()))
    clock.later(60)
    await receive(buffer, clock, reading(PATCH, 3, alert_triggered=True), kind="alert")
    assert buffer.held == 3
    assert sum(buffer.lanes.values()) == 0
    assert await release_held(buffer) == 0, "not yet"
    clock.later(60)
    clock.set(NOW)
    assert await release_held(buffer, clock.moment, NOW) == 3
    first, second = await sent(buffer)
    assert first["occurred_at"] == first["data"]["timestamp"] == "2026-11-24T10:15:30Z"
    assert datetime.fromisoformat(second["occurred_at"]) == NOW - timedelta(seconds=120)
    assert second["data"]["timestamp"] == second["occurred_at"]
    assert [event["idempotency_key"].split(".")[1:] for event in (first, second)] == [
        ["sensor", "1", "1"], ["sensor", "1", "2"]
    ]  # fmt: skip
    assert len(await sent(buffer, Lane.URGENT)) == 1
    assert buffer.held == 0
    with sqlite3.connect(path) as connection:
        days = connection.execute("SELECT DISTINCT day FROM dek JOIN event ON dek_id = dek.id").fetchall()
    connection.close()
    assert days == [(f"{NOW:%Y-%m-%d}",)]


async def test_nothing_newer_overtakes_them(gateway):
    """Also what comes when the clock is right already, until all that is held is released."""
    buffer, clock, _ = gateway
    await receive(buffer, clock, reading(PATCH, 1), reading(PATCH, 2))
    clock.set(NOW)
    await receive(buffer, clock, reading(PATCH, 3, timestamp=clock.now.isoformat()))
    assert (buffer.held, sum(buffer.lanes.values())) == (3, 0)
    await release_held(buffer, clock.moment, NOW)
    await receive(buffer, clock, reading(PATCH, 4))
    assert [event["idempotency_key"].rpartition(".")[2] for event in await sent(buffer)] == ["1", "2", "3", "4"]
    third = (await sent(buffer))[2]
    assert datetime.fromisoformat(third["occurred_at"]) == NOW


async def test_the_key_of_no_day_goes_when_nothing_needs_it(gateway):
    buffer, clock, path = gateway
    await receive(buffer, clock, reading(PATCH, 1))
    assert await buffer.look.unused_deks("1970-01-01") == []
    clock.set(NOW)
    await release_held(buffer, clock.moment, NOW)
    unused = await buffer.look.unused_deks("1970-01-01")
    await buffer.submit(lambda draft: draft.retire_deks(unused), now=True)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM dek WHERE day = 'unknown'").fetchone() == (0,)
    connection.close()


async def test_the_job_releases_them(gateway):
    buffer, clock, _ = gateway
    await receive(buffer, clock, reading(PATCH, 1))
    clock.set(datetime.now(UTC))
    jobs = Jobs(buffer)
    assert await jobs._held_events() == "1 released, 0 wait for the clock"


async def test_they_survive_a_kill(gateway, tmp_path):
    buffer, clock, path = gateway
    await receive(buffer, clock, reading(PATCH, 1))
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", tmp_path / f"copy.db{suffix}")
    again = await EventBuffer.open(
        tmp_path / "copy.db", KEK, gateway_id="gw-test", tick=0.01, clock=lambda: clock.now,
        moment=lambda: clock.moment, clock_is_right=lambda: clock.right,
    )  # fmt: skip
    assert again.held == 1
    await receive(again, clock, reading(PATCH, 2))
    (first, second), damaged = await again.look.held_rows(10)
    assert not damaged
    assert (first.at, first.captured) == (Moment(BOOT, 300.0), WRONG)
    assert second.event.idempotency_key.endswith(".2")
    await again.close()


async def test_a_patch_that_was_unpaired_meanwhile_loses_nothing(gateway):
    buffer, clock, _ = gateway
    await receive(buffer, clock, reading(PATCH, 1))
    await buffer.submit(lambda draft: draft.remove_device(PATCH), now=True)
    clock.set(NOW)
    await release_held(buffer, clock.moment, NOW)
    assert len(await sent(buffer)) == 1


async def test_a_held_row_that_does_not_open_is_named(gateway):
    buffer, clock, path = gateway
    await receive(buffer, clock, reading(PATCH, 1), reading(PATCH, 2))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE held SET sealed = zeroblob(60) WHERE id = 1")
    connection.close()
    clock.set(NOW)
    assert await release_held(buffer, clock.moment, NOW) == 3, "both, and the marker"
    assert len(await sent(buffer)) == 1
    ((_, _, item),) = await buffer.look.quarantine_entries()
    assert "does not open" in item.reason
    (marker,) = await sent(buffer, Lane.URGENT)
    assert (marker["data"]["kind"], marker["data"]["count"]) == ("gap_marker", 1)


async def test_a_bug_does_not_hold_them_for_ever(gateway, monkeypatch):
    buffer, clock, _ = gateway
    await receive(buffer, clock, reading(PATCH, 1))
    clock.set(NOW)
    monkeypatch.setattr("agent.clock.at_time", lambda *_: 1 / 0)
    await release_held(buffer, clock.moment, NOW)
    assert (buffer.held, buffer.quarantined) == (0, 1)


async def test_they_leave_a_buffer_that_they_fill(tmp_path, monkeypatch):
    """Into the room that they took; until then nothing else finds any."""
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    clock = Clock()
    buffer = await EventBuffer.open(
        tmp_path / "b.db", KEK, gateway_id="gw-test", tick=0.005, clock=lambda: clock.now,
        moment=lambda: clock.moment, clock_is_right=lambda: clock.right, quota_octets=1,
    )  # fmt: skip
    waiting = None
    count = 0
    while waiting is None:
        part = [WireEvent(f"{PATCH}.s.1.{count + n}", os.urandom(60).hex().encode()) for n in range(20)]
        future = buffer.submit(lambda draft, part=part: [draft.append(each, Lane.SENSOR) for each in part], now=True)
        done, _ = await asyncio.wait([future], timeout=0.3)
        count, waiting = count + 20, None if done else future
    assert buffer.held == count - 20
    monkeypatch.setattr("agent.clock.at_time", lambda event, *_: event)
    clock.set(NOW)
    await asyncio.wait_for(release_held(buffer, clock.moment, NOW), 10)
    await waiting
    assert buffer.lanes[Lane.SENSOR] + buffer.held == count
    await buffer.close()


def test_another_boot_tells_nothing():
    held = Held(1, Lane.SENSOR, 1, Moment("before", 10.0), WRONG, WireEvent("k", b"{}"))
    assert captured_at(held, Moment("now", 500.0), NOW) == WRONG
    same = held._replace(at=Moment("now", 10.0))
    assert captured_at(same, Moment("now", 500.0), NOW) == NOW - timedelta(seconds=490)


def test_a_held_row_opens_only_as_what_it_is():
    dek = Dek(7, b"k" * 32, words=[b"gw"])
    event = WireEvent("NFLX_0A1B2C3D.s.1.1", b'{"gw":1}')
    sealed = seal_held(dek, event, Lane.DOSAGE, (Moment(BOOT, 30.5), NOW), NOW - timedelta(seconds=2))
    held = open_held(dek, 5, Lane.DOSAGE, 3, sealed)
    assert held == Held(5, Lane.DOSAGE, 3, Moment(BOOT, 28.5), NOW - timedelta(seconds=2), event)
    for lane in (*Lane, *(HELD + lane for lane in Lane if lane is not Lane.DOSAGE)):
        with pytest.raises(Exception, match="does not open"):
            dek.open(sealed, lane)


def test_the_moment_of_this_machine(monkeypatch, tmp_path):
    """As the unit says it, since its sandbox hides the kernel's file; the same in both forms."""
    assert moment_now().monotonic <= moment_now().monotonic
    kernel = moment_now().boot
    monkeypatch.setattr("buffer.held._BOOT_ID", tmp_path / "hidden")
    assert moment_now().boot == moment_now().boot != kernel
    monkeypatch.setenv("PATCH_GATEWAY_BOOT_ID", kernel)
    assert moment_now().boot == kernel
    assert "-" not in kernel


def test_only_the_time_of_capture_changes():
    body = {
        "type": "audit_trail", "data": {"kind": "x", "at": WRONG.isoformat(), "other": "1970-01-01T00:05:01Z"},
        "occurred_at": WRONG.isoformat(), "producer": "gw", "source_service": "patch-gateway",
        "idempotency_key": "gw.gateway.e.1",
    }  # fmt: skip
    changed = json.loads(at_time(WireEvent("gw.gateway.e.1", json.dumps(body).encode()), WRONG, NOW).body)
    assert datetime.fromisoformat(changed["occurred_at"]) == datetime.fromisoformat(changed["data"]["at"]) == NOW
    assert changed["data"]["other"] == "1970-01-01T00:05:01Z"
