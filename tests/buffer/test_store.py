"""The buffer as a whole: what is submitted is there after a reopen, once, and in order."""

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from buffers import EVENTS, NOW, PATCH, append, drain, open_buffer

from buffer import database
from buffer.devices import Application
from buffer.errors import InUseError, MediumError, SchemaError, SealError, StoreError
from buffer.lanes import Lane, next_lane
from buffer.store import EventBuffer


@pytest.fixture
async def buffer(tmp_path):
    opened = await open_buffer(tmp_path, tick=0.02)
    yield opened
    await opened.close()


async def test_what_is_stored_is_there_after_a_reopen(tmp_path):
    buffer = await open_buffer(tmp_path)
    await buffer.submit(append(EVENTS), now=True)
    await buffer.close()
    again = await open_buffer(tmp_path)
    assert again.lanes[Lane.SENSOR] == len(EVENTS)
    assert await drain(again) == EVENTS
    assert again.lanes[Lane.SENSOR] == 0
    await again.close()


async def test_a_claim_is_bounded_and_not_given_twice(buffer):
    await buffer.submit(append(EVENTS[:10]), now=True)
    first = await buffer.claim(Lane.SENSOR, 4, 1 << 20)
    second = await buffer.claim(Lane.SENSOR, 100, sum(len(e.body) + 1 for e in EVENTS[4:7]))
    assert first.events == EVENTS[:4]
    assert second.events == EVENTS[4:7]
    buffer.release(Lane.SENSOR, first.rows + second.rows)
    assert (await buffer.claim(Lane.SENSOR, 1, 1)).events == EVENTS[:1]


async def test_a_group_is_one_transaction_and_a_bug_takes_only_itself(buffer):
    def bug(draft):
        draft.append(EVENTS[1], Lane.SENSOR)
        draft.put_device(PATCH)
        raise RuntimeError("bug")

    before = buffer.commits
    futures = [buffer.submit(append(EVENTS[:1])), buffer.submit(bug), buffer.submit(append(EVENTS[2:3]))]
    done = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(done[1], RuntimeError)
    assert buffer.commits == before + 1
    assert await drain(buffer) == [EVENTS[0], EVENTS[2]]
    assert not buffer.devices


def is_new(draft, stream, boot, sequence):
    return draft.add_record(PATCH.device_id, stream, boot, sequence) is not None


async def test_marks_refuse_a_record_seen_before_across_a_reopen(tmp_path):
    buffer = await open_buffer(tmp_path)
    await buffer.submit(lambda draft: draft.put_device(PATCH), now=True)

    def seen(sequence, boot=1, stream="sensor"):
        return buffer.submit(lambda draft: is_new(draft, stream, boot, sequence), now=True)

    assert [await seen(number) for number in (5, 5, 3, 3, 6)] == [True, False, True, False, True]
    assert await seen(5, boot=2)
    assert await seen(5, stream="dosage")
    await buffer.close()
    buffer = await open_buffer(tmp_path)
    assert [await seen(5), await seen(6), await seen(7), await seen(5, boot=2)] == [False, False, True, False]
    await buffer.close()


async def test_a_stream_keeps_the_marks_of_its_newest_boots(buffer):
    await buffer.submit(lambda draft: draft.put_device(PATCH), now=True)
    for boot in range(20):
        assert await buffer.submit(lambda draft, boot=boot: is_new(draft, "sensor", boot, 1), now=True)
    assert not await buffer.submit(lambda draft: is_new(draft, "sensor", 19, 1), now=True)


async def test_which_boots_are_the_newest_is_not_forgotten_by_tries_that_fail(buffer, tmp_path):
    await buffer.submit(lambda draft: draft.put_device(PATCH), now=True)
    for boot in range(1, 9):
        await buffer.submit(lambda draft, boot=boot: is_new(draft, "sensor", boot, 1), now=True)
    tries = []

    def ninth(draft):
        tries.append(1)
        return is_new(draft, "sensor", 9, 1)

    other = sqlite3.connect(tmp_path / "buffer.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    future = buffer.submit(ninth, now=True)
    while len(tries) < 3:
        await asyncio.sleep(0.01)
    other.execute("ROLLBACK")
    assert await future
    known = [boot for boot in range(1, 10) if buffer.mark(PATCH.device_id, "sensor", boot)]
    assert known == list(range(2, 10))


async def test_the_registry_survives(tmp_path):
    buffer = await open_buffer(tmp_path)
    changed = PATCH.model_copy(update={"application": Application(site="thigh", applied_at=NOW), "facts": {"a": 1}})
    await buffer.submit(lambda draft: draft.put_device(PATCH))
    await buffer.submit(lambda draft: draft.put_device(changed))
    await buffer.submit(lambda draft: draft.wait(PATCH.device_id, b"report"))
    await buffer.close()
    buffer = await open_buffer(tmp_path)
    assert buffer.devices[PATCH.device_id].record == changed
    assert buffer.waiting(PATCH.device_id) == 1
    assert await buffer.submit(lambda draft: draft.remove_device(PATCH.device_id), now=True) == [b"report"]
    await buffer.close()
    buffer = await open_buffer(tmp_path)
    assert not buffer.devices
    await buffer.close()


async def test_a_hundred_reports_wait(buffer):
    await buffer.submit(lambda draft: draft.put_device(PATCH), now=True)
    kept = await buffer.submit(lambda draft: [draft.wait(PATCH.device_id, b"%d" % n) for n in range(101)], now=True)
    assert kept == [True] * 100 + [False]
    assert await buffer.submit(lambda draft: draft.take_waiting(PATCH.device_id), now=True) == [
        b"%d" % n for n in range(100)
    ]


async def test_own_keys_never_repeat(tmp_path):
    keys = []
    for _ in range(3):
        buffer = await open_buffer(tmp_path)
        keys += [await buffer.submit(lambda draft: draft.own_key(), now=True) for _ in range(3)]
        await buffer.close()
    assert len(set(keys)) == 9
    assert all(key.startswith("gw-test.gateway.") for key in keys)


async def test_one_process_at_a_time_and_one_key(tmp_path):
    buffer = await open_buffer(tmp_path)
    with pytest.raises(InUseError):
        await open_buffer(tmp_path)
    await buffer.close()
    with pytest.raises(SealError, match="not the one this buffer was made with"):
        await EventBuffer.open(tmp_path / "buffer.db", os.urandom(32), gateway_id="gw-test")
    await (await open_buffer(tmp_path)).close()


async def test_a_newer_schema_is_refused_and_damage_is_said(tmp_path):
    await (await open_buffer(tmp_path)).close()
    path = tmp_path / "buffer.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(SchemaError, match="schema 99"):
        await open_buffer(tmp_path)
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(MediumError, match=str(path)):
        await open_buffer(tmp_path)


async def test_the_pragmas_that_durability_needs(tmp_path):
    await (await open_buffer(tmp_path)).close()
    connection = await database.open_writer(tmp_path / "buffer.db", 10_000)
    values = {}
    for name in ("journal_mode", "synchronous", "secure_delete", "page_size", "max_page_count"):
        async with connection.execute(f"PRAGMA {name}") as cursor:
            values[name] = (await cursor.fetchone())[0]
    await connection.close()
    assert values == {
        "journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "page_size": 2048, "max_page_count": 10_000
    }  # fmt: skip


async def test_what_is_to_be_sent_again_goes_before_what_is_newer(buffer):
    """Also while what was claimed after it is still being sent: a patch's events keep their order."""
    await buffer.submit(append(EVENTS[:9]), now=True)
    first, second = [await buffer.claim(Lane.SENSOR, 3, 1 << 20) for _ in range(2)]
    buffer.release(Lane.SENSOR, first.rows)
    again = await buffer.claim(Lane.SENSOR, 4, 1 << 20)
    assert again.events == [*EVENTS[:3], EVENTS[6]]
    buffer.release(Lane.SENSOR, second.rows)


async def test_what_is_deleted_during_a_look_is_not_sent_again(buffer):
    """The look saw it, then its transaction ended, and it was in flight no longer."""
    await buffer.submit(append(EVENTS[:5]), now=True)
    first = await buffer.claim(Lane.SENSOR, 3, 1 << 20)
    real = buffer.look.connection.execute_fetchall

    async def slow(*arguments):
        found = await real(*arguments)
        if "FROM event" in arguments[0]:
            await buffer.submit(lambda draft: draft.forget(first.rows, Lane.SENSOR), now=True, relief=True)
            buffer.release(Lane.SENSOR, first.rows)
        return found

    buffer.look.connection.execute_fetchall = slow
    second = await buffer.claim(Lane.SENSOR, 5, 1 << 20)
    assert second.events == EVENTS[3:5]
    buffer.release(Lane.SENSOR, second.rows)


async def test_the_number_of_a_row_that_is_gone_is_no_other_rows(buffer):
    """SQLite itself would give the highest one again."""
    seen = set()
    for n in range(3):
        await buffer.submit(append(EVENTS[n : n + 1]), now=True)
        claim = await buffer.claim(Lane.SENSOR, 10, 1 << 20)
        seen.update(claim.rows)
        await buffer.submit(lambda draft, rows=claim.rows: draft.forget(rows, Lane.SENSOR), now=True)
        buffer.release(Lane.SENSOR, claim.rows)
    assert len(seen) == 3


async def test_an_urgent_row_is_found_by_its_index(tmp_path):
    buffer = await open_buffer(tmp_path)
    plans = []
    real = buffer.look.connection.execute_fetchall

    async def explained(sql, parameters=()):
        plans.append((await real("EXPLAIN QUERY PLAN " + sql, parameters))[0][3])
        return await real(sql, parameters)

    buffer.look.connection.execute_fetchall = explained
    for lane in Lane:
        await buffer.claim(lane, 10, 1 << 20)
    assert ["event_few" in plan for plan in plans] == [True, True, False, True]
    await buffer.close()


async def abandon(buffer):
    """`close` leaves a failed medium alone, and says so: the daemon then ends, a test has to close the connections."""
    connections = (buffer.look.connection, buffer._connection)
    with pytest.raises(MediumError):
        await buffer.close()
    for connection in connections:
        assert connection._connection is not None
        await connection.close()
    buffer._lock.release()


async def broken(*_):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    raise error


async def test_an_io_error_in_the_last_commit_is_not_called_a_clean_stop(tmp_path):
    """The process would wait for ever for the threads of what is not closed."""
    buffer = await open_buffer(tmp_path, tick=60)
    last = buffer.submit(append(EVENTS[:5]))
    buffer._connection.executemany = broken
    await abandon(buffer)
    with pytest.raises(MediumError, match="disk I/O error"):
        await last


async def test_a_bug_in_the_writer_is_told(tmp_path, monkeypatch):
    """Also one that looks like a state of the buffer: nothing is written any more."""
    buffer = await open_buffer(tmp_path)
    monkeypatch.setattr("buffer.writer.decide_all", lambda *_: next(iter(()), None).x)
    buffer.submit(append(EVENTS[:1]), now=True)
    with pytest.raises(AttributeError):
        await buffer.failed()
    monkeypatch.undo()
    await buffer.close()

    async def sealed_no_more(_):
        raise SealError("a bug")

    other = await open_buffer(tmp_path)
    other._writer._commit = sealed_no_more
    other.submit(append(EVENTS[:1]), now=True)
    with pytest.raises(SealError):
        await asyncio.wait_for(other.failed(), 5)
    await other.close()


async def test_an_io_error_ends_it(tmp_path):
    buffer = await open_buffer(tmp_path)
    await buffer.submit(append(EVENTS[:5]), now=True)
    buffer._connection.executemany = broken
    with pytest.raises(MediumError, match="disk I/O error"):
        await buffer.submit(append(EVENTS[5:6]), now=True)
    with pytest.raises(MediumError):
        await buffer.failed()
    with pytest.raises(MediumError):
        await buffer.submit(append(EVENTS[6:7]), now=True)
    await abandon(buffer)


async def test_a_folder_that_cannot_be_used_is_said_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MediumError, match="cannot be opened"):
        await open_buffer(tmp_path / "file" / "folder")

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("buffer.database.os.open", refused)
    with pytest.raises(StoreError, match="may not be opened by this user"):
        await open_buffer(tmp_path)


async def test_nothing_is_believed_before_it_is_flushed(tmp_path, monkeypatch):
    await (await open_buffer(tmp_path)).close()

    def fails(descriptor):
        raise OSError(5, str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr("buffer.database.os.fsync", fails)
    with pytest.raises(MediumError, match=r"buffer\.db fails"):
        await open_buffer(tmp_path)
    monkeypatch.undo()
    await (await open_buffer(tmp_path)).close()


async def test_a_read_only_file_system_is_noticed_after_the_commit(tmp_path, monkeypatch):
    buffer = await open_buffer(tmp_path)
    real = os.statvfs

    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr("buffer.medium.os.statvfs", lambda path: ReadOnly() if "buffer.db" in str(path) else real(path))
    with pytest.raises(MediumError, match="read-only"):
        await buffer.submit(append(EVENTS[:1]), now=True)
    await abandon(buffer)


async def test_a_swapped_row_is_handed_over_as_damaged(tmp_path):
    buffer = await open_buffer(tmp_path)
    await buffer.submit(append(EVENTS[:2], Lane.SENSOR), now=True)
    await buffer.close()
    with sqlite3.connect(tmp_path / "buffer.db") as connection:
        connection.execute("UPDATE event SET lane = 0 WHERE id = 1")
    connection.close()
    buffer = await open_buffer(tmp_path)
    assert [row for row, _ in (await buffer.claim(Lane.URGENT, 10, 1 << 20)).damaged] == [1]
    assert (await buffer.claim(Lane.SENSOR, 10, 1 << 20)).events == EVENTS[1:2]
    await buffer.close()


async def test_data_keys_are_retired_when_no_row_needs_them(tmp_path):
    days = iter([NOW.replace(day=day) for day in (20, 21, 22, 23, 24, 24, 24)])
    buffer = await open_buffer(tmp_path, clock=lambda: next(days))
    for event in EVENTS[:3]:
        await buffer.submit(append([event]), now=True)
    claim = await buffer.claim(Lane.SENSOR, 1, 1)
    await buffer.submit(lambda draft: draft.forget(claim.rows, Lane.SENSOR), now=True)
    unused = await buffer.look.unused_deks("2026-11-24")
    assert len(unused) == 1
    await buffer.submit(lambda draft: draft.retire_deks([*unused, unused[0] + 1]), now=True)
    assert await buffer.look.unused_deks("2026-11-24") == []
    await buffer.truncate_wal()
    assert await buffer.look.quick_check()
    assert list(await drain(buffer)) == EVENTS[1:3]
    await buffer.close()


def test_lanes():
    waiting = {Lane.URGENT: 1, Lane.SENSOR: 5, Lane.TELEMETRY: 1}
    assert [next_lane(waiting, turn) for turn in range(8)] == [Lane.URGENT] * 7 + [Lane.TELEMETRY]
    assert next_lane(dict.fromkeys(Lane, 0), 0) is None
