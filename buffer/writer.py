"""Group commit: one task owns the writing connection; every submission is durable when its future resolves."""

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite

from buffer.draft import Decide, Draft, T
from buffer.errors import MediumError
from buffer.keys import KeyRing
from buffer.quarantine import Limits
from buffer.state import State

log = logging.getLogger(__name__)

_FULL_RETRY_SECONDS = 1.0
_LEAST_CAP, _LONGEST_TICK = 200, 5.0


Statements = list[tuple[str, list[tuple[Any, ...]]]]


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
    ) -> None:
        self._connection, self._path, self._state, self._keys = connection, path, state, keys
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
        self.full = False
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
            future.set_exception(self.failure or MediumError("the buffer is closed"))
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
            self.failure = error
            raise
        finally:
            failure = self.failure or MediumError("the buffer is closed")
            for submission in self._pending:
                if not submission.future.done():
                    submission.future.set_exception(failure)
            self._pending = []

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
        """Make a group durable. Without room for it, what deletes rows goes first, alone; the rest waits for room."""
        if await self._attempt(group):
            return
        log.warning("buffer full: links are not acknowledged until there is room path=%s", self._path)
        self.full = True
        relief, rest = _split(group)
        while relief or rest:
            arrived, self._pending = _split(self._pending)
            relief += arrived
            freed = bool(relief) and await self._attempt(relief)
            if freed:
                relief = []
            if rest and await self._attempt(rest):
                rest = []
            if (relief or rest) and not freed:
                if self._closing:
                    self._pending = [*relief, *rest, *self._pending]
                    raise MediumError("the buffer was closed while the disk was full; what is not stored is sent again")
                await asyncio.sleep(_FULL_RETRY_SECONDS)
        self.full = False

    async def _attempt(self, group: list[_Submission]) -> bool:
        """Decide and commit: True when it is durable and its callers know; False, and nothing changed, without room."""
        draft = Draft(self._state, self._keys, self._limits, self._clock())
        start = draft.point()
        results = _decide(draft, group)
        statements = draft.statements()
        if statements:
            try:
                async with self.between_commits:
                    durable = await self._try(statements)
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
        """One transaction: True when it is durable, False when there is no room for it."""
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
            for sql, rows in statements:
                await self._connection.executemany(sql, rows)
            await self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
                raise MediumError(f"writing {self._path} failed: {error}") from error
            if self._connection.in_transaction:
                await self._connection.execute("ROLLBACK")
            return False
        try:
            flags = os.statvfs(self._path).f_flag
        except OSError as error:
            raise MediumError(f"the file system of {self._path} does not answer: {error}") from error
        # An emergency remount makes the file system read-only while COMMIT goes on succeeding.
        if flags & os.ST_RDONLY:
            raise MediumError(f"the file system of {self._path} became read-only")
        return True


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
