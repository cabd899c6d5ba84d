"""EventBuffer: submit decisions, claim rows to send, look at what is there."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiosqlite

from buffer import database
from buffer.draft import TABLES_WITH_DEK, Decide, T, mark_key
from buffer.errors import MediumError, SealError
from buffer.keys import KeyRing
from buffer.lanes import Lane
from buffer.loading import load, quota_pages, unwrap_dek
from buffer.marks import Mark
from buffer.quarantine import Limits, Quarantined
from buffer.sealing import Dek, unpack
from buffer.state import Entry, State
from buffer.writer import Writer
from schemas.wire import WireEvent


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Claim:
    """Rows of one lane taken for sending, oldest first; `damaged` rows do not open and are handed over as they are."""

    lane: Lane
    rows: list[int] = field(default_factory=list)
    events: list[WireEvent] = field(default_factory=list)
    damaged: list[tuple[int, bytes]] = field(default_factory=list)


class EventBuffer:
    """The gateway's durable memory. Make one with `open`; one process at a time (InUseError)."""

    def __init__(
        self,
        lock: database.Lock,
        connections: Sequence[aiosqlite.Connection],
        state: State,
        keys: KeyRing,
        writer: Writer,
    ) -> None:
        self._lock = lock
        self._connection, self._reader = connections
        self._state, self._keys, self._writer = state, keys, writer
        self._deks: dict[int, Dek] = {}
        self._in_flight: dict[Lane, set[int]] = {lane: set() for lane in Lane}
        self._run = asyncio.create_task(writer.run(), name="buffer writer")
        self._run.add_done_callback(lambda task: task.cancelled() or task.exception())

    @classmethod
    async def open(
        cls,
        path: Path,
        kek: bytes,
        *,
        gateway_id: str,
        quota_octets: int = 1 << 30,
        limits: Limits = Limits(),
        tick: float = 0.8,
        cap: int = 4_000,
        clock: Callable[[], datetime] = _utc_now,
    ) -> Self:
        """Open or create; InUseError, SealError, SchemaError or MediumError say who must act."""
        lock = database.Lock(path)
        opened: list[aiosqlite.Connection] = []
        try:
            database.drop_cached_pages(path)
            connection = await database.open_writer(path, quota_pages(quota_octets))
            opened.append(connection)
            keys = KeyRing(kek)
            state = await load(connection, keys, gateway_id, limits)
            opened.append(await database.open_reader(path))
        except BaseException:
            for connection in opened:
                await connection.close()
            lock.release()
            raise
        writer = Writer(connection, path, state, keys, limits=limits, tick=tick, cap=cap, clock=clock)
        return cls(lock, opened, state, keys, writer)

    async def close(self) -> None:
        """Commit what is pending and close; after a MediumError end the process instead."""
        self._writer.close()
        with contextlib.suppress(Exception):
            await self._run
        await self._reader.close()
        await self._connection.close()
        self._lock.release()

    # writing

    def submit(self, decide: Decide[T], *, now: bool = False, relief: bool = False) -> asyncio.Future[T]:
        """Decide inside the next transaction; the future resolves when it is durable.

        `now`: before the tick. `relief`: it deletes rows, so a full disk must not make it wait.
        """
        return self._writer.submit(decide, now=now, relief=relief)

    def flush(self) -> None:
        self._writer.flush()

    async def failed(self) -> None:
        """Returns never, raises MediumError when the medium fails."""
        await asyncio.shield(self._run)

    def watch(self) -> None:
        """From now on `committed` notices commits."""
        self._writer.committed.clear()

    async def committed(self, seconds: float) -> None:
        """Wait for a commit after the last `watch`, `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._writer.committed.wait()

    # sending

    async def claim(self, lane: Lane, max_events: int, max_octets: int) -> Claim:
        """The oldest rows of a lane that are not being sent already."""
        claim = Claim(lane)
        flying = self._in_flight[lane]
        # The partial index serves a query only when its own condition stands in it.
        few = "" if lane is Lane.SENSOR else "AND lane <> 2"
        sql = f"SELECT id, dek_id, sealed FROM event WHERE lane = ? {few} AND id > ? ORDER BY id LIMIT ?"
        try:
            return await self._open_rows(claim, sql, (int(lane), max(flying, default=0), max_events), max_octets)
        except sqlite3.Error as error:
            raise MediumError(f"reading the buffer failed: {error}") from error
        except BaseException:
            flying.difference_update(row for row, _ in claim.damaged)
            raise

    async def _open_rows(self, claim: Claim, sql: str, parameters: tuple[int, ...], max_octets: int) -> Claim:
        octets, flying, lane = 0, self._in_flight[claim.lane], claim.lane
        for row, dek_id, sealed in await self._reader.execute_fetchall(sql, parameters):
            try:
                event = unpack((await self._dek(dek_id)).open(sealed, lane))
            except SealError:
                claim.damaged.append((row, sealed))
                flying.add(row)
                continue
            octets += len(event.body) + 1
            if claim.events and octets > max_octets:
                break
            claim.rows.append(row)
            claim.events.append(event)
        flying.update(claim.rows)
        return claim

    def release(self, lane: Lane, rows: Sequence[int]) -> None:
        """These rows are no longer being sent: forgotten by now, or to be claimed again."""
        self._in_flight[lane].difference_update(rows)

    async def _dek(self, dek_id: int) -> Dek:
        if dek_id not in self._deks:
            sql = "SELECT id, device_ref, day, epoch, dict_id, wrapped FROM dek WHERE id = ?"
            rows = list(await self._reader.execute_fetchall(sql, (dek_id,)))
            if not rows:
                raise SealError("a row's data key is gone")
            if len(self._deks) >= 4_096:
                self._deks.clear()
            self._deks[dek_id] = unwrap_dek(rows[0], self._keys)
        return self._deks[dek_id]

    # looking

    @property
    def devices(self) -> Mapping[str, Entry]:
        return self._state.devices

    def mark(self, device_id: str, stream: str, boot: int) -> Mark | None:
        """What is here of one stream of a paired patch; None when nothing is."""
        return self._state.marks.get(mark_key(self._state, self._keys, device_id, stream, boot))

    @property
    def lanes(self) -> dict[Lane, int]:
        """Rows per lane."""
        return {lane: self._state.lanes.get(lane, 0) for lane in Lane}

    def unclaimed(self) -> dict[Lane, int]:
        """Rows per lane that are not being sent."""
        return {lane: max(0, rows - len(self._in_flight[lane])) for lane, rows in self.lanes.items()}

    @property
    def gateway_id(self) -> str:
        return self._state.gateway_id

    def waiting(self, device_id: str) -> int:
        """Adhesion reports of a patch that wait for its application."""
        known = self._state.devices.get(device_id)
        return len(self._state.waiting.get(known.ref, ())) if known else 0

    @property
    def quarantined(self) -> int:
        return len(self._state.quarantine)

    @property
    def overflow(self) -> Mapping[bytes, int]:
        """What a full quarantine did not keep, by blind sender."""
        return self._state.overflow

    @property
    def unsaved(self) -> int:
        """Submissions not yet durable."""
        return self._writer.pending

    @property
    def full(self) -> bool:
        return self._writer.full

    @property
    def commits(self) -> int:
        return self._writer.commits

    async def quarantine_entries(self, limit: int = 100) -> list[tuple[int, int, Quarantined]]:
        """(id, times seen, entry) of the newest entries."""
        sql = "SELECT id, seen, dek_id, sealed FROM quarantine ORDER BY id DESC LIMIT ?"
        found = []
        for row, seen, dek_id, sealed in await self._reader.execute_fetchall(sql, (limit,)):
            plain = (await self._dek(dek_id)).open(sealed)
            found.append((row, seen, Quarantined.model_validate_json(plain)))
        return found

    async def quarantine_ids(self) -> list[int]:
        """Of all entries, oldest first."""
        return [row[0] for row in await self._reader.execute_fetchall("SELECT id FROM quarantine ORDER BY id")]

    async def quarantine_entry(self, row: int) -> tuple[int, Quarantined] | None:
        """(times seen, entry); None where it is not there any more."""
        sql = "SELECT seen, dek_id, sealed FROM quarantine WHERE id = ?"
        for seen, dek_id, sealed in await self._reader.execute_fetchall(sql, (row,)):
            return seen, Quarantined.model_validate_json((await self._dek(dek_id)).open(sealed))
        return None

    @property
    def quarantine_octets(self) -> int:
        return self._state.numbers.get("quarantine_octets", 0)

    @property
    def page_size(self) -> int:
        return database.PAGE_SIZE

    async def pages(self) -> tuple[int, int]:
        """(pages of the file, how many of them are free)."""
        found = [await self._reader.execute_fetchall(f"PRAGMA {name}") for name in ("page_count", "freelist_count")]
        pages, free = (next(iter(rows))[0] for rows in found)
        return pages, free

    async def oldest_day(self, lane: Lane) -> str | None:
        """The UTC day on which the oldest row of a lane was received."""
        few = "" if lane is Lane.SENSOR else "AND lane <> 2"
        sql = f"SELECT day FROM dek WHERE id = (SELECT dek_id FROM event WHERE lane = ? {few} ORDER BY id LIMIT 1)"
        rows = list(await self._reader.execute_fetchall(sql, (int(lane),)))
        return str(rows[0][0]) if rows else None

    async def overflow_rows(self) -> list[tuple[bytes, int, str, str, bytes]]:
        """(blind sender, count, first, last, JSON that names the sender) per sender."""
        sql = "SELECT sender, count, first_at, last_at, dek_id, sealed FROM overflow"
        return [
            (sender, count, first, last, (await self._dek(dek_id)).open(sealed))
            for sender, count, first, last, dek_id, sealed in await self._reader.execute_fetchall(sql)
        ]

    # upkeep

    async def unused_deks(self, before_day: str) -> list[int]:
        """Data keys of days before `before_day` (YYYY-MM-DD) that no row needs."""
        unused = " AND ".join(f"id NOT IN (SELECT dek_id FROM {table})" for table in TABLES_WITH_DEK)
        sql = f"SELECT id FROM dek WHERE day < ? AND day <> 'registry' AND {unused}"
        return [row[0] for row in await self._reader.execute_fetchall(sql, (before_day,))]

    async def truncate_wal(self) -> None:
        """Move the WAL into the database and empty it, so that deleted rows and keys are gone from both."""
        async with self._writer.between_commits:
            await self._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")

    async def quick_check(self) -> bool:
        """Does SQLite find the file sound?"""
        rows: Any = list(await self._reader.execute_fetchall("PRAGMA quick_check(1)"))
        return bool(rows[0][0] == "ok")
