"""Group commit: one task owns the writing connection; every submission is durable when its future resolves."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from datetime import datetime
from itertools import chain
from pathlib import Path

import aiosqlite

from buffer.draft import Decide, Draft, T
from buffer.errors import MediumError, StoreError
from buffer.held import Moment
from buffer.keys import KeyRing
from buffer.medium import Trouble, trouble_of
from buffer.quarantine import Limits
from buffer.scales import Scales
from buffer.state import State, Stored
from buffer.statements import Statements
from buffer.submissions import Submission, by_weight, decide_all

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_LEAST_CAP, _LONGEST_TICK = 200, 5.0
# Submissions that may be passed over in one try, because one of them alone is too large.
_MOST_PASSED_OVER = 20


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
        scales: Scales,
    ) -> None:
        self._connection, self._path, self._state, self._keys = connection, path, state, keys
        self._moment, self.clock_is_right = moment, clock_is_right
        self.scales, self.stored = scales, Stored.of(state)
        self._limits, self._tick, self._most, self._clock = limits, tick, cap, clock
        self.cap = min(cap, _LEAST_CAP)
        self.commit_seconds = self._last_seconds = 0.0
        self._pending: list[Submission] = []
        self._in_hand: list[Submission] = []
        self._arrived, self._flush = asyncio.Event(), asyncio.Event()
        self._due = 0.0
        self._closing = False
        self.between_commits = asyncio.Lock()
        self.committed = asyncio.Event()
        self.failure: MediumError | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble: Trouble | None = None
        self.commits = 0

    @property
    def pending(self) -> int:
        """Submissions not yet durable."""
        return len(self._pending) + len(self._in_hand)

    def submit(self, decide: Decide[T], *, now: bool, relief: bool, moves: bool) -> asyncio.Future[T]:
        """Queue one decision; its future holds the result once the transaction it took part in is durable.

        `relief` makes room by deleting rows: on a full disk it is committed ahead of what waits for it. `moves` takes
        rows from the queue into quarantine, and goes ahead of what is new and not urgent.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self.failure or self._closing:
            future.set_exception(self.failure or StoreError("the buffer is closed"))
            return future
        if not self._pending:
            self._due = loop.time() + self.tick
            self._arrived.set()
        # By the clock as it is now: it may be set right before the commit.
        hold = None if self.clock_is_right() else (self._moment(), self._clock())
        self._pending.append(Submission(decide, future, relief, moves, now, hold))
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
                    waiting = len(self._pending)
                    await self._commit(group)
                    self._follow_the_disk(len(self._pending) - waiting)
        except MediumError as error:
            reason = self.fail(error)
            raise
        except Exception as error:
            if self._closing and isinstance(error, StoreError):
                reason = error
                return
            # A bug: whoever waits for `failed` must know, nothing is written any more.
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

    def _follow_the_disk(self, arrived: int) -> None:
        self.commit_seconds += (self._last_seconds - self.commit_seconds) / 4
        self.cap = min(self._most, max(_LEAST_CAP, self.cap // 2, 4 * arrived))

    async def _next_group(self) -> None:
        await self._arrived.wait()
        try:
            async with asyncio.timeout_at(self._due):
                await self._flush.wait()
        except TimeoutError:
            pass

    async def _commit(self, group: list[Submission]) -> None:
        """Make a group durable. Where that cannot be now, what matters most goes first, as much of it as there is room
        for; the rest waits.
        """
        self._in_hand = group
        try:
            if not self.scales.only_the_reserve and await self._attempt(group):
                self._in_hand = []
            while self._in_hand:
                async with self.between_commits:
                    await self.weigh()
                again = self.trouble is Trouble.FULL and self.scales.give_up_reserve()
                await self._use_the_wal_again()
                *first, self._pending = by_weight(self._pending)
                waiting = [*self._in_hand, *chain.from_iterable(first)]
                self._in_hand = await self._what_fits(waiting)
                if self._in_hand and not again and len(self._in_hand) == len(waiting):
                    if self._closing:
                        why = self.trouble.value if self.trouble else "it was busy"
                        raise StoreError(f"the buffer was closed while {why}; what is not stored is sent again")
                    await asyncio.sleep(_RETRY_SECONDS)
            if self.trouble:
                self.scales.found_room()
                self._say(None)
        finally:
            self._pending = [*self._in_hand, *self._pending]
            self._in_hand = []

    async def _what_fits(self, waiting: list[Submission]) -> list[Submission]:
        """What is still left of it afterwards."""
        *first, rest = by_weight(waiting)
        left: list[Submission] = []
        for part in first:
            left += await self._as_much_as_fits(part, pass_over=_MOST_PASSED_OVER)
        if rest and self.scales.only_the_reserve:
            self.scales.found_room()  # within the quota: it is the disk that has none
            self._say(Trouble.FULL)
            return left + rest
        return left + await self._as_much_as_fits(rest, pass_over=0)

    async def _as_much_as_fits(self, part: list[Submission], pass_over: int) -> list[Submission]:
        """Begins with one: that all of it does not fit is known, and each try is work."""
        passed: list[Submission] = []
        size = 1
        while part:
            if await self._attempt(part[:size]):
                part, size = part[size:], 2 * size
            elif self.trouble is Trouble.FULL and size > 1:
                size //= 2
            elif self.trouble is Trouble.FULL and len(passed) < pass_over:
                passed.append(part.pop(0))
            else:
                break
        return passed + part

    async def _attempt(self, group: list[Submission]) -> bool:
        """Decide and commit: True when it is durable and its callers know; False, and nothing changed, where it cannot
        be now.
        """
        now = self._clock()
        draft = Draft(self._state, self._keys, self._limits, now)
        start = draft.point()
        # While anything is held all is: or what is newer would be sent first.
        results = decide_all(draft, group, lambda: (self._moment(), now) if self._state.numbers["held"] else None)
        statements = draft.statements()
        if statements:
            try:
                async with self.between_commits:
                    begin = time.monotonic()
                    durable = await self._try(statements)
                    self._last_seconds = time.monotonic() - begin if durable else self._last_seconds
                    await self.weigh()
                    if durable and (self.scales.scarce or self.scales.wal_grew):
                        await self._use_the_wal_again()
            except MediumError as error:
                for future, _ in results:
                    if not future.done():
                        future.set_exception(error)
                raise
            if not durable:
                draft.back_to(start)
                return False
        self.commits += 1
        self.stored = Stored.of(self._state)
        for future, result in results:
            if not future.done():
                future.set_result(result)
        self.committed.set()
        return True

    async def weigh(self) -> None:
        """How full is it? Called between commits."""
        await self.scales.weigh(self._connection, keep_reserve=self.trouble is None)

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
            if trouble is Trouble.FULL:
                self.scales.found_no_room(_octets(statements))
            self._say(trouble)
            return False
        return True

    async def _use_the_wal_again(self) -> None:
        """What is in the WAL goes into the database, as far as there is room: on a full disk the WAL cannot grow, and
        deletes need it too. SQLite does the same by itself now and then, but says nothing when it fails.
        """
        try:
            await self._connection.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            if trouble_of(error) is None:
                raise MediumError(f"writing {self._path} failed: {error}") from error

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


def _octets(statements: Statements) -> int:
    """What they would write, about."""
    values = (value for _, rows in statements for row in rows for value in row)
    return sum(len(value) + 16 for value in values if isinstance(value, (bytes, str)))
