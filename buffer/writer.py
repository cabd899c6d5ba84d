"""Group commit: one task owns the writing connection; every submission is durable when its future resolves."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite

from buffer.draft import Decide, Draft, T
from buffer.errors import MediumError, StoreError
from buffer.held import Moment
from buffer.keys import KeyRing
from buffer.medium import Trouble, free_octets, trouble_of
from buffer.quarantine import Limits
from buffer.reserve import Reserve
from buffer.room import Level, Room, level
from buffer.state import State
from buffer.statements import Statements

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_LEAST_CAP, _LONGEST_TICK = 200, 5.0
_PAGES = "SELECT page_count, freelist_count FROM pragma_page_count(), pragma_freelist_count()"


class _Submission(NamedTuple):
    decide: Decide[Any]
    future: "asyncio.Future[Any]"
    relief: bool


class Writer:
    """Commits at the first of: the tick since the oldest submission, the cap, a submission that asks for it.

    Both follow the disk: a group holds what arrives during four commits (within limits), so that what comes while
    one is under way does not wait for a huge one; and a disk that takes long is given more at a time.
    """

    def __init__(
        self,
        connection: aiosqlite.Connection,
        path: Path,
        state: State,
        keys: KeyRing,
        *,
        limits: Limits,
        tick: float,
        cap: int,
        clock: Callable[[], datetime],
        moment: Callable[[], Moment],
        clock_is_right: Callable[[], bool],
        quota_pages: int,
        reserve: Reserve,
    ) -> None:
        self._connection, self._path, self._state, self._keys = connection, path, state, keys
        self._moment, self.clock_is_right = moment, clock_is_right
        self._quota_pages, self._reserve = quota_pages, reserve
        self._limits, self._tick, self._most, self._clock = limits, tick, cap, clock
        self.cap = min(cap, _LEAST_CAP)
        self.commit_seconds = 0.0
        self._pending: list[_Submission] = []
        self._arrived, self._flush = asyncio.Event(), asyncio.Event()
        self._due = 0.0
        self._closing = False
        self.between_commits = asyncio.Lock()
        self.committed = asyncio.Event()
        self.failure: MediumError | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble: Trouble | None = None
        self.room, self.level = Room(), Level.FINE
        self.level_changed = asyncio.Event()
        self.commits = 0

    @property
    def pending(self) -> int:
        """Submissions not yet durable."""
        return len(self._pending)

    def submit(self, decide: Decide[T], *, now: bool, relief: bool) -> asyncio.Future[T]:
        """Queue one decision; its future holds the result once the transaction it took part in is durable.

        `relief` makes room by deleting rows: on a full disk it is committed ahead of what waits for it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self.failure or self._closing:
            future.set_exception(self.failure or StoreError("the buffer is closed"))
            return future
        if not self._pending:
            self._due = loop.time() + self.tick
            self._arrived.set()
        self._pending.append(_Submission(decide, future, relief))
        if now or len(self._pending) >= self.cap:
            self._flush.set()
        return future

    def flush(self) -> None:
        """Commit what is pending without waiting for the tick."""
        if self._pending:
            self._flush.set()

    async def run(self) -> None:
        """Until `close`, or until the medium fails: then every future raises MediumError."""
        reason = StoreError("the buffer is closed")
        try:
            while not (self._closing and not self._pending):
                await self._next_group()
                group, self._pending = self._pending[: self.cap], self._pending[self.cap :]
                if not self._pending:
                    self._arrived.clear()
                    self._flush.clear()
                if group:
                    waiting, start = len(self._pending), time.monotonic()
                    await self._commit(group)
                    self._follow_the_disk(time.monotonic() - start, len(self._pending) - waiting)
        except MediumError as error:
            reason = self.fail(error)
            raise
        except StoreError as error:
            reason = error
        except Exception as error:  # a bug: whoever waits for `failed` must know, nothing is written any more
            if not self._failed.done():
                self._failed.set_exception(error)
                self._failed.exception()
            raise
        finally:
            for submission in self._pending:
                if not submission.future.done():
                    submission.future.set_exception(reason)
            self._pending = []

    def fail(self, error: MediumError) -> MediumError:
        """The medium failed, here or where somebody read: nothing is committed or acknowledged any more."""
        if self.failure is None:
            self.failure = error
            self._failed.set_exception(error)
            self._failed.exception()  # whoever waits for it is told; it may be nobody
        return self.failure

    async def failed(self) -> None:
        """Never returns: raises MediumError when the medium fails."""
        await asyncio.shield(self._failed)

    def close(self) -> None:
        """Commit what is pending, then end `run`."""
        self._closing = True
        self._arrived.set()
        self._flush.set()

    @property
    def tick(self) -> float:
        """How long the oldest submission waits: longer on a disk that needs most of that for one commit."""
        return max(self._tick, min(2 * self.commit_seconds, _LONGEST_TICK))

    def _follow_the_disk(self, seconds: float, arrived: int) -> None:
        self.commit_seconds += (seconds - self.commit_seconds) / 4
        self.cap = min(self._most, max(_LEAST_CAP, self.cap // 2, 4 * arrived))

    async def _next_group(self) -> None:
        await self._arrived.wait()
        try:
            async with asyncio.timeout_at(self._due):
                await self._flush.wait()
        except TimeoutError:
            pass

    async def _commit(self, group: list[_Submission]) -> None:
        """Make a group durable. Where that cannot be now, what deletes rows goes first, alone; the rest waits."""
        if await self._attempt(group):
            return
        relief, rest = _split(group)
        while relief or rest:
            again = self._give_up_reserve()
            arrived, self._pending = _split(self._pending)
            relief += arrived
            if relief and await self._attempt(relief):
                relief, again = [], True
            if rest and await self._attempt(rest):
                rest = []
            if (relief or rest) and not again:
                if self._closing:
                    raise self._closed_with([*relief, *rest])
                await asyncio.sleep(_RETRY_SECONDS)
        self._say(None)

    def _closed_with(self, left: list[_Submission]) -> StoreError:
        self._pending = [*left, *self._pending]
        why = self.trouble.value if self.trouble else "it was busy"
        return StoreError(f"the buffer was closed while {why}; what is not stored is sent again")

    async def _attempt(self, group: list[_Submission]) -> bool:
        """Decide and commit: True when it is durable and its callers know; False, and nothing changed, where it cannot
        be now.
        """
        # While anything is held all is: or what is newer would be sent first.
        hold = not self.clock_is_right() or self._state.numbers["held"] > 0
        draft = Draft(self._state, self._keys, self._limits, self._clock(), self._moment() if hold else None)
        start = draft.point()
        results = _decide(draft, group)
        statements = draft.statements()
        if statements:
            try:
                async with self.between_commits:
                    durable = await self._try(statements)
                    await self.look()
            except MediumError as error:
                for future, _ in results:
                    if not future.done():
                        future.set_exception(error)
                raise
            if not durable:
                draft.back_to(start)
                return False
        self.commits += 1
        for future, result in results:
            if not future.done():
                future.set_result(result)
        self.committed.set()
        return True

    async def _try(self, statements: Statements) -> bool:
        """One transaction: True when it is durable, False when something passing stands in its way."""
        if self.failure:
            raise self.failure
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
            for sql, rows in statements:
                await self._connection.executemany(sql, rows)
            await self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            trouble = trouble_of(error)
            if trouble is None:
                raise MediumError(f"writing {self._path} failed: {error}") from error
            await self._roll_back()
            self._say(trouble)
            return False
        return True

    async def _roll_back(self) -> None:
        if self._connection.in_transaction:
            try:
                await self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise MediumError(f"writing {self._path} failed: {error}") from error

    def _say(self, trouble: Trouble | None) -> None:
        """What stands in the way now; said once in the log."""
        if trouble is not self.trouble:
            if trouble:
                log.warning("links are not acknowledged: %s path=%s", trouble.value, self._path)
            else:
                log.info("links are acknowledged again path=%s", self._path)
            self.trouble = trouble

    def _give_up_reserve(self) -> bool:
        """Where the disk is full, not the quota: is there room now that was not there before?"""
        if self.trouble is not Trouble.FULL or self.room.full or not self._reserve.held or not self._reserve.octets:
            return False
        log.warning("the disk is full: the reserve is used for urgent events and deletes path=%s", self._path)
        self._reserve.release()
        return True

    async def look(self) -> None:
        """How full is it? MediumError where the file system became read-only: then COMMIT said yes to nothing."""
        free = free_octets(self._path)
        with contextlib.suppress(sqlite3.Error):  # what is wrong shows at the next transaction
            ((pages, unused),) = await self._connection.execute_fetchall(_PAGES)
            self.room = Room(pages - unused, self._quota_pages, free, self._reserve.octets, reserved=self._reserve.held)
        if self.trouble is None and not self._reserve.held and self.room.can_reserve():
            await asyncio.to_thread(self._reserve.take)
        found = level(self.room, self.level)
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


def _decide(draft: Draft, group: list[_Submission]) -> list[tuple["asyncio.Future[Any]", Any]]:
    """Each caller's future and result; one caller's bug is its own and does not take the group with it."""
    results = []
    for decide, future, _ in group:
        if future.cancelled():
            continue  # its caller was told that it failed
        before = draft.point()
        try:
            results.append((future, decide(draft)))
        except Exception as error:  # noqa: BLE001
            draft.back_to(before)
            if not future.done():
                future.set_exception(error)
    return results


def _split(group: list[_Submission]) -> tuple[list[_Submission], list[_Submission]]:
    """(What makes room, the rest), each in its order."""
    return [item for item in group if item.relief], [item for item in group if not item.relief]
