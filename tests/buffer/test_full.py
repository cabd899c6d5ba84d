"""A buffer without room: nothing is acknowledged, what deletes goes first, and what waited is stored."""

import asyncio
import os
import subprocess

import pytest
from buffers import EVENTS, NOW, PATCH, append, drain, open_buffer
from rig import missing

from buffer.errors import StoreError
from buffer.lanes import Lane
from buffer.medium import Trouble
from buffer.quarantine import entry
from buffer.room import Level
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
