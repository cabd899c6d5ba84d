"""Looking into the database beside the writer: rows found, opened, counted."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite

from buffer.database import open_reader
from buffer.errors import MediumError, NotNowError, SealError
from buffer.held import UNKNOWN_DAY, Held, open_held
from buffer.keys import KeyRing
from buffer.lanes import Lane
from buffer.loading import SELECT_DEK, unwrap_dek
from buffer.medium import trouble_of
from buffer.quarantine import DAMAGED, Quarantined, entry
from buffer.sealing import Dek
from buffer.statements import TABLES_WITH_DEK
from buffer.thinning import Crowd


class Look:
    """Queries on a connection of its own. `fail` is told when the medium fails."""

    def __init__(
        self,
        path: Path,
        connection: aiosqlite.Connection,
        keys: KeyRing,
        fail: Callable[[MediumError], MediumError],
    ) -> None:
        self._path, self.connection, self._keys, self._fail = path, connection, keys, fail
        self._deks: dict[int, Dek] = {}

    async def rows(
        self, sql: str, parameters: tuple[Any, ...] = (), *, connection: aiosqlite.Connection | None = None
    ) -> list[Any]:
        """What a query finds; NotNowError while the database is locked or there is no room. Where the medium fails
        everything ends.
        """
        try:
            return list(await (connection or self.connection).execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            if trouble := trouble_of(error):
                raise NotNowError(f"{self._path} cannot be read now: {trouble.value}") from error
            raise self._fail(MediumError(f"reading {self._path} failed: {error}")) from error

    async def dek(self, dek_id: int) -> Dek:
        if dek_id not in self._deks:
            rows = await self.rows(f"{SELECT_DEK} WHERE id = ?", (dek_id,))
            if not rows:
                raise SealError("a row's data key is gone")
            if len(self._deks) >= 4_096:
                self._deks.clear()
            self._deks[dek_id] = unwrap_dek(rows[0], self._keys)
        return self._deks[dek_id]

    async def held_rows(self, limit: int) -> tuple[list[Held], list[tuple[int, bytes]]]:
        """The oldest of them; and those that do not open, as they are."""
        sql = (
            "SELECT held.id, lane, dek_id, device_ref, sealed FROM held"
            " LEFT JOIN dek ON dek.id = dek_id ORDER BY held.id LIMIT ?"
        )
        found: list[Held] = []
        damaged: list[tuple[int, bytes]] = []
        for row, lane, dek_id, device_ref, sealed in await self.rows(sql, (limit,)):
            try:
                found.append(open_held(await self.dek(dek_id), row, Lane(lane), device_ref, sealed))
            except SealError:
                damaged.append((row, sealed))
        return found, damaged

    async def quarantine_entries(self, limit: int = 100) -> list[tuple[int, int, Quarantined]]:
        """(id, times seen, entry) of the newest entries."""
        sql = "SELECT id, seen, dek_id, sealed FROM quarantine ORDER BY id DESC LIMIT ?"
        found = []
        for row, seen, dek_id, sealed in await self.rows(sql, (limit,)):
            found.append((row, seen, await self._quarantined(dek_id, sealed)))
        return found

    async def quarantine_ids(self) -> list[int]:
        """Of all entries, oldest first."""
        return [row[0] for row in await self.rows("SELECT id FROM quarantine ORDER BY id")]

    async def quarantine_entry(self, row: int) -> tuple[int, Quarantined] | None:
        """(times seen, entry); None where it is not there any more."""
        sql = "SELECT seen, dek_id, sealed FROM quarantine WHERE id = ?"
        for seen, dek_id, sealed in await self.rows(sql, (row,)):
            return seen, await self._quarantined(dek_id, sealed)
        return None

    async def quarantine_digest(self, row: int) -> bytes | None:
        """What an entry is known by, also one that does not open."""
        rows = await self.rows("SELECT digest FROM quarantine WHERE id = ?", (row,))
        return bytes(rows[0][0]) if rows else None

    async def _quarantined(self, dek_id: int, sealed: bytes) -> Quarantined:
        try:
            return Quarantined.model_validate_json((await self.dek(dek_id)).open(sealed))
        except SealError:
            return entry("buffer", DAMAGED, "buffer", datetime.now(UTC), b"")

    async def pages(self) -> tuple[int, int]:
        """(pages of the file, how many of them are free)."""
        found = [await self.rows(f"PRAGMA {name}") for name in ("page_count", "freelist_count")]
        pages, free = (next(iter(rows))[0] for rows in found)
        return pages, free

    async def oldest_day(self, lane: Lane) -> str | None:
        """The UTC day on which the oldest row of a lane was received."""
        few = "" if lane is Lane.SENSOR else "AND lane <> 2"
        sql = f"SELECT day FROM dek WHERE id = (SELECT dek_id FROM event WHERE lane = ? {few} ORDER BY id LIMIT 1)"
        rows = await self.rows(sql, (int(lane),))
        return str(rows[0][0]) if rows else None

    async def overflow_rows(self) -> list[tuple[bytes, int, str, str, bytes]]:
        """(blind sender, count, first, last, JSON that names the sender) per sender."""
        sql = "SELECT sender, count, first_at, last_at, dek_id, sealed FROM overflow"
        found = []
        for sender, count, first, last, dek_id, sealed in await self.rows(sql):
            try:
                about = (await self.dek(dek_id)).open(sealed)
            except SealError:
                about = b'{"sender": "(damaged)"}'
            found.append((sender, count, first, last, about))
        return found

    async def unused_deks(self, before_day: str) -> list[int]:
        """Data keys of days before `before_day` (YYYY-MM-DD) that no row needs."""
        unused = " AND ".join(f"id NOT IN (SELECT dek_id FROM {table})" for table in TABLES_WITH_DEK)
        sql = f"SELECT id FROM dek WHERE (day < ? OR day = '{UNKNOWN_DAY}') AND {unused}"
        return [row[0] for row in await self.rows(sql, (before_day,))]

    async def quick_check(self) -> bool:
        """Does SQLite find the file sound? It reads all of it: on a connection of its own, or nothing is claimed
        meanwhile.
        """
        connection = await open_reader(self._path)
        try:
            rows: Any = await self.rows("PRAGMA quick_check(1)", connection=connection)
        finally:
            await connection.close()
        return bool(rows[0][0] == "ok")

    async def crowds(self) -> list[Crowd]:
        """Whose the oldest readings and telemetry are: enough of them to tell, few enough to sort without a file."""
        oldest = "SELECT lane, dek_id FROM event WHERE lane IN (2, 3) ORDER BY id LIMIT 20000"
        of_patch = f"SELECT lane, device_ref FROM ({oldest}) LEFT JOIN dek ON dek.id = dek_id"
        sql = f"SELECT lane, device_ref, count(*) FROM ({of_patch}) GROUP BY lane, device_ref"
        return [Crowd(Lane(lane), ref, rows) for lane, ref, rows in await self.rows(sql)]
