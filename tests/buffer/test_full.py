"""A buffer without room: nothing is acknowledged, what deletes goes first, and what waited is stored."""

import asyncio
import contextlib
import errno
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from buffers import EVENTS, NOW, PATCH, append, drain, open_buffer
from faults import Faults
from publisher import reading
from rig import missing

from agent.counters import Counters
from agent.ingest import Ingest
from buffer.errors import StoreError
from buffer.lanes import Lane
from buffer.medium import Trouble
from buffer.quarantine import entry
from buffer.room import Level
from device_drivers.base import Channel, Frame
from device_drivers.links.base import Batch
from schemas.wire import WireEvent


async def test_a_full_disk_acknowledges_nothing_and_recovers(tmp_path, monkeypatch):
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.05)
    buffer = await open_buffer(tmp_path, quota_octets=1)  # the least: 256 pages
    big = [event._replace(body=os.urandom(6_000).hex().encode()) for event in EVENTS[:200]]
    future = buffer.submit(append(big), now=True)
    await asyncio.sleep(0.3)
    assert buffer.trouble is Trouble.FULL
    assert not future.done()
    await buffer._connection.execute("PRAGMA max_page_count=100000")
    await future
    assert buffer.trouble is None
    assert buffer.lanes[Lane.SENSOR] == 200
    await buffer.close()


async def test_a_full_buffer_drains_and_takes_again_what_waited(tmp_path, monkeypatch):
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(tmp_path, quota_octets=1, tick=0.01)
    big = [event._replace(body=os.urandom(1_500).hex().encode()) for event in EVENTS[:400]]
    stored, waiting = 0, None
    while waiting is None:
        future = buffer.submit(append(big[stored : stored + 20]), now=True)
        done, _ = await asyncio.wait([future], timeout=0.5)
        if done:
            stored += 20
        else:
            waiting = future
    claim = await buffer.claim(Lane.SENSOR, 60, 1 << 20)
    assert claim.events == big[:60]
    forget = buffer.submit(lambda draft: draft.forget(claim.rows, Lane.SENSOR), now=True, relief=True)
    await asyncio.wait_for(forget, 5)
    assert buffer.lanes[Lane.SENSOR] in (stored - 60, stored - 40)
    buffer.release(Lane.SENSOR, claim.rows)
    await asyncio.wait_for(waiting, 5)
    assert buffer.trouble is None
    assert await drain(buffer, size=50) == big[60 : stored + 20]
    await buffer.close()


@pytest.mark.parametrize("refused", [False, True])
async def test_a_delete_in_the_group_that_finds_no_room_makes_it(tmp_path, monkeypatch, refused):
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(tmp_path, quota_octets=1, tick=0.05)
    big = [event._replace(body=os.urandom(1_500).hex().encode()) for event in EVENTS[:400]]
    stored = 0
    while buffer.trouble is None and stored < 380:
        future = buffer.submit(append(big[stored : stored + 10]), now=True)
        done, _ = await asyncio.wait([future], timeout=0.3)
        if not done:
            break
        stored += 10
    claim = await buffer.claim(Lane.SENSOR, 60, 1 << 20)

    def forget(draft):
        draft.forget(claim.rows, Lane.SENSOR)
        if refused:
            draft.quarantine(entry(PATCH.device_id, "refused upstream", "upstream", NOW, claim.events[0].body))

    more = [buffer.submit(append(big[stored + 10 : stored + 12])), buffer.submit(forget, relief=True)]
    await asyncio.wait_for(asyncio.gather(future, *more), 10)
    assert buffer.lanes[Lane.SENSOR] == stored + 12 - len(claim.rows)
    await buffer.close()


async def test_a_full_buffer_can_be_closed(tmp_path, monkeypatch):
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(tmp_path, quota_octets=1)
    big = [event._replace(body=os.urandom(6_000).hex().encode()) for event in EVENTS[:200]]
    future = buffer.submit(append(big), now=True)
    await asyncio.sleep(0.2)
    await asyncio.wait_for(buffer.close(), 5)
    with pytest.raises(StoreError, match="while there is no room for more"):
        await future
    again = await open_buffer(tmp_path, quota_octets=1 << 30)
    assert sum(again.lanes.values()) == 0
    await again.close()


async def test_one_that_does_not_fit_does_not_keep_the_others_and_costs_little(tmp_path, monkeypatch):
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(tmp_path, quota_octets=1)
    huge = [event._replace(body=os.urandom(600_000).hex().encode()) for event in EVENTS[:1]]
    waiting = [buffer.submit(append(huge, Lane.URGENT), now=True) for _ in range(3)]
    decided = []

    def small(draft):
        decided.append(1)
        draft.append(EVENTS[2], Lane.URGENT)

    fit = [buffer.submit(small, now=True) for _ in range(30)]
    await asyncio.wait_for(asyncio.gather(*fit), 5)
    assert len(decided) <= 3 * 30, "each try decides and seals anew"
    assert not any(future.done() for future in waiting)
    await buffer.close()


async def test_what_the_disk_has_no_room_for_thins_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(tmp_path, quota_octets=1, tick=0.005)
    huge = EVENTS[0]._replace(body=os.urandom(600_000).hex().encode())
    waiting = buffer.submit(append([huge]))
    async with asyncio.timeout(5):
        while buffer.level is not Level.THIN:
            await asyncio.sleep(0.01)
        monkeypatch.setattr("buffer.scales.Scales.only_the_reserve", True)
        while buffer.level is Level.THIN:
            await asyncio.sleep(0.01)
    waiting.cancel()
    await buffer.close()


async def test_what_is_counted_is_durable(tmp_path):
    buffer = await open_buffer(tmp_path)
    other = sqlite3.connect(tmp_path / "buffer.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    future = buffer.submit(append(EVENTS[:5]), now=True)
    seen = set()
    while buffer.trouble is None:
        seen.add(buffer.lanes[Lane.SENSOR])
        await asyncio.sleep(0.01)
    assert seen == {0}
    other.execute("ROLLBACK")
    await future
    assert buffer.lanes[Lane.SENSOR] == 5
    await buffer.close()


def test_a_checkpoint_that_fails_does_not_let_the_wal_grow(tmp_path):
    """SQLite says nothing of it, and goes on acknowledging into the WAL."""
    hurt = tmp_path / "state"
    hurt.mkdir()
    faults = Faults(tmp_path, hurt)
    environment = {**os.environ, **faults.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, Path(__file__).parents[1] / "support" / "filling.py", hurt, "200"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment) as filling:
        assert filling.stdout.readline() == "open\n"
        faults.set(write=errno.EIO, database=1)
        said, _ = filling.communicate("\n", timeout=60)
    assert "MediumError: writing" in said
    assert faults.failed > 0
    assert (hurt / "buffer.db-wal").stat().st_size < 10 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 20 MiB."""
    if os.geteuid() != 0:
        missing("a small file system can be mounted by root only")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_really_full_disk_is_drained_without_anybody_making_room(small_disk, monkeypatch):
    """Deletes need room in the WAL: they find it, what is delivered makes more, and what waited is stored."""
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(small_disk, tick=0.005, reserve_octets=4 << 20)
    stored, waiting = 0, None
    while waiting is None:
        part = [WireEvent(f"NFLX_0A1B2C3D.alert.1.{stored + n}", os.urandom(400).hex().encode()) for n in range(50)]
        future = buffer.submit(append(part, Lane.URGENT), now=True)
        done, _ = await asyncio.wait([future], timeout=1)
        stored, waiting = (stored + 50, None) if done else (stored, future)
    assert buffer.trouble is Trouble.FULL
    assert buffer.level is Level.PAUSE
    assert stored > 5_000
    keys = set()
    while len(keys) < stored + 50:
        claim = await buffer.claim(Lane.URGENT, 500, 1 << 20)
        forget = buffer.submit(lambda draft, rows=claim.rows: draft.forget(rows, Lane.URGENT), now=True, relief=True)
        await asyncio.wait_for(forget, 10)
        buffer.release(Lane.URGENT, claim.rows)
        keys |= {event.idempotency_key for event in claim.events}
    await asyncio.wait_for(waiting, 10)
    assert len(keys) == stored + 50
    assert buffer.trouble is None
    await buffer.close()


def fill(folder):
    """As another program would, to the last octet."""
    with (folder / "other.log").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4_096)):
            pass


async def test_it_opens_on_a_full_disk_and_goes_on_with_its_reserve(small_disk):
    """A clean end removes files that the next start makes."""
    buffer = await open_buffer(small_disk, reserve_octets=4 << 20)
    await buffer.submit(append(EVENTS[:500], Lane.URGENT), now=True)
    await buffer.close()
    fill(small_disk)
    buffer = await open_buffer(small_disk, reserve_octets=4 << 20)
    await asyncio.wait_for(buffer.submit(append(EVENTS[500:510], Lane.URGENT), now=True), 5)
    assert await drain(buffer, Lane.URGENT) == EVENTS[:510]
    assert buffer.level is Level.PAUSE
    await buffer.close()


async def test_the_reserve_is_used_where_quota_and_disk_are_full(small_disk, monkeypatch):
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(small_disk, quota_octets=2 << 20, reserve_octets=4 << 20, tick=0.005)
    stored = 0
    while buffer.trouble is None:
        big = WireEvent(f"NFLX_0A1B2C3D.dosage.1.{stored}", os.urandom(2_000).hex().encode())
        waiting = buffer.submit(append([big], Lane.DOSAGE), now=True)
        await asyncio.wait([waiting], timeout=0.3)
        stored += waiting.done()
    assert await buffer.truncate_wal()
    fill(small_disk)
    claim = await buffer.claim(Lane.DOSAGE, 50, 1 << 20)
    forget = buffer.submit(lambda draft: draft.forget(claim.rows, Lane.DOSAGE), now=True, relief=True)
    await asyncio.wait_for(asyncio.gather(forget, waiting), 10)
    assert not await buffer.truncate_wal(), "what it gave back would be gone"
    await buffer.close()


async def doses_until_none_fit(buffer):
    """How many were stored, and the future of those that wait."""
    stored = 0
    while True:
        doses = [WireEvent(f"NFLX_0A1B2C3D.dosage.1.{stored + n}", os.urandom(400).hex().encode()) for n in range(50)]
        future = buffer.submit(append(doses, Lane.DOSAGE))
        done, _ = await asyncio.wait([future], timeout=1)
        if not done:
            return stored, future
        stored += 50


@pytest.mark.parametrize("restarted", [False, True])
async def test_the_reserve_is_kept_for_what_is_urgent(small_disk, monkeypatch, restarted):
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(small_disk, reserve_octets=4 << 20, tick=0.005)
    fill(small_disk)
    stored, waiting = await doses_until_none_fit(buffer)
    assert 0 < stored < 5_000, "they take half of it at most"
    assert buffer.trouble is Trouble.FULL
    if restarted:
        await buffer.close()
        with pytest.raises(StoreError, match="closed while there is no room"):
            await waiting
        buffer = await open_buffer(small_disk, reserve_octets=4 << 20, tick=0.005)
        _, waiting = await doses_until_none_fit(buffer)
    for number in range(300):
        alert = WireEvent(f"NFLX_0A1B2C3D.alert.1.{number}", os.urandom(400).hex().encode())
        await asyncio.wait_for(buffer.submit(append([alert], Lane.URGENT), now=True), 5)
    assert not waiting.done()
    (small_disk / "other.log").unlink()
    await asyncio.wait_for(waiting, 5)
    assert (buffer.trouble, buffer.level) == (None, Level.FINE)
    await buffer.close()


async def test_junk_that_is_sent_as_alerts_does_not_take_what_is_left_for_them(small_disk, monkeypatch):
    """It is counted by sender, as in a full quarantine."""
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    buffer = await open_buffer(small_disk, reserve_octets=4 << 20, tick=0.005)
    await buffer.submit(lambda draft: draft.put_device(PATCH), now=True)
    fill(small_disk)
    _, waiting = await doses_until_none_fit(buffer)
    ingest = Ingest(buffer, "gw-test", Counters())

    async def alert(device_id, payload):
        frame = Frame(device_id, Channel("mqtt", "alert"), payload, NOW)
        ((fate, *_),) = await asyncio.wait_for(ingest.receive(Batch([frame]), "mqtt")[0], 5)
        return fate

    assert {await alert("NFLX_STRANGER", os.urandom(16_000)) for _ in range(300)} == {"overflowed"}
    assert sum(buffer.overflow.values()) == 300
    for number in range(50):
        said = reading(PATCH.device_id, number, alert_triggered=True)
        assert await alert(PATCH.device_id, json.dumps(said).encode()) == "durable"
    waiting.cancel()
    (small_disk / "other.log").unlink()
    await buffer.close()


async def test_a_reserve_takes_an_eighth_of_its_disk_at_most(small_disk):
    """Or nothing could be stored on an empty one."""
    buffer = await open_buffer(small_disk, reserve_octets=1 << 30)
    await asyncio.wait_for(buffer.submit(append(EVENTS[:10])), 5)
    assert (buffer.level, buffer.room.reserved) == (Level.FINE, True)
    assert (small_disk / "buffer.reserve").stat().st_size == (20 << 20) // 8
    await buffer.close()


async def test_where_the_disk_has_little_left_the_wal_is_emptied_after_each_commit(small_disk):
    """A statement that is still open would keep it as it is, and say nothing."""
    (small_disk / "other.log").write_bytes(bytes(14 << 20))
    buffer = await open_buffer(small_disk, reserve_octets=2 << 20, tick=0.02)
    (small_disk / "more.log").write_bytes(bytes(3 << 19))
    await buffer.weigh()
    assert buffer._writer.scales.scarce
    for number in range(30):
        part = [WireEvent(f"NFLX_0A1B2C3D.s.1.{number}.{n}", os.urandom(400).hex().encode()) for n in range(20)]
        await asyncio.wait_for(buffer.submit(append(part, Lane.URGENT), now=True), 5)
    assert (small_disk / "buffer.db-wal").stat().st_size < 256 << 10
    await buffer.close()
