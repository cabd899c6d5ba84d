"""Weighs the buffer after each commit: how full it is, what that means, and whether the reserve is to be used."""

import asyncio
import contextlib
import logging
import sqlite3
from pathlib import Path

import aiosqlite

from buffer.database import PAGE_SIZE, WAL_PAGES, pragma
from buffer.medium import free_octets
from buffer.reserve import Reserve
from buffer.room import Level, Room, level

log = logging.getLogger(__name__)

_LARGE_WAL = 3 * WAL_PAGES * PAGE_SIZE // 2
_PAGES = "SELECT page_count, freelist_count FROM pragma_page_count(), pragma_freelist_count()"


class Scales:
    """`level` follows `room`; while a transaction waits that is too large for what is left of the quota, it is THIN."""

    def __init__(self, path: Path, quota_pages: int, reserve: Reserve) -> None:
        self._path, self._quota_pages, self._reserve = path, quota_pages, reserve
        self.room, self.level = Room(), Level.FINE
        self.level_changed = asyncio.Event()
        self._over_quota = False
        self._allowed = quota_pages
        self._left = 0
        self._wal = path.with_name(path.name + "-wal")
        self._wal_octets = 0
        # Larger than SQLite lets it become, and larger than before: then SQLite cannot empty it.
        self.wal_grew = False

    def found_no_room(self, octets: int) -> None:
        """A transaction of so many octets found none: on the disk, or within the quota? MediumError."""
        pages = octets // PAGE_SIZE * 3 // 2 + 16
        on_the_disk = free_octets(self._path) < pages * PAGE_SIZE
        self._over_quota = not on_the_disk and pages > self._quota_pages - self.room.used

    def found_room(self) -> None:
        """Nothing waits for room within the quota any more."""
        self._over_quota = False

    def give_up_reserve(self) -> bool:
        """Where the disk is full, not the quota: is there room now that was not there before?"""
        if self._over_quota or not self._reserve.held or not self._reserve.octets:
            return False
        log.warning("the disk is full: the reserve is used for urgent events and deletes path=%s", self._path)
        self._reserve.release()
        return True

    @property
    def scarce(self) -> bool:
        """Has the disk so little left that the WAL must not grow?"""
        return self.room.free < 2 * self.room.reserve or not self.room.reserved

    @property
    def only_the_reserve(self) -> bool:
        """Is what is left on the disk for urgent events and deletes only? Of a reserve that is not there, half is."""
        return not self._reserve.held and self._left < self._reserve.octets // 2

    async def weigh(self, connection: aiosqlite.Connection, *, keep_reserve: bool) -> None:
        """Look again; MediumError where the file system became read-only: then COMMIT said yes to nothing.

        `keep_reserve`: where it was given up and there is room again, take it.
        """
        free = free_octets(self._path)
        with contextlib.suppress(sqlite3.Error, OSError):  # what is wrong shows at the next transaction
            ((pages, unused),) = await connection.execute_fetchall(_PAGES)
            reserve = self._reserve
            self.room = Room(pages - unused, self._quota_pages, free, reserve.octets, reserved=reserve.held)
            wal_octets = self._wal.stat().st_size
            self.wal_grew = wal_octets > max(self._wal_octets, _LARGE_WAL)
            self._wal_octets = wal_octets
            to_come = free - max(0, pages * PAGE_SIZE - self._path.stat().st_size)  # as the WAL is emptied
            self._left = to_come + unused * PAGE_SIZE
            allowed = self._quota_pages
            if self.scarce:
                # The database stops growing while the WAL still can: deletes need it.
                allowed = min(allowed, pages + max(0, to_come - reserve.octets // 3) // PAGE_SIZE)
            if allowed != self._allowed:
                await pragma(connection, f"max_page_count={allowed}")
                self._allowed = allowed
        if keep_reserve and not self._reserve.held and self.room.can_reserve():
            await asyncio.to_thread(self._reserve.take)
        found = Level.THIN if self._over_quota else level(self.room, self.level)
        if found is not self.level:
            log.log(
                logging.INFO if found is Level.FINE else logging.WARNING,
                "buffer %d %% full, %d MiB free on its disk: %s",
                round(self.room.share * 100),
                free >> 20,
                found.name.lower(),
            )
            self.level = found
            self.level_changed.set()
