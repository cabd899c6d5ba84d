"""The scheduled jobs (apscheduler), each coalesced, jittered and listed in `status`."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from agent.clock import release_held
from agent.gaps import name_given_up, quarantine_overflow
from buffer.lanes import Lane
from buffer.room import Level
from buffer.store import EventBuffer

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0


@dataclass(slots=True)
class JobState:
    """What `status` shows of a job."""

    name: str
    every_seconds: int
    last_run: datetime | None = None
    result: str = "not run yet"


class FromNow(BaseTrigger):  # type: ignore[misc] # untyped library
    """Every `seconds` (and up to a tenth more) from now on.

    The library's own interval counts from the last run: when a clock without a battery steps from 1970 to today, it
    lists every minute in between.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:  # noqa: ARG002 - apscheduler's signature
        return now + timedelta(seconds=self._seconds * random.uniform(1.0, 1.1))  # noqa: S311 - jitter

    def latest(self, now: datetime) -> datetime:
        """No run is due later."""
        return now + timedelta(seconds=self._seconds * 1.1)


class Jobs:
    """Upkeep of the buffer. Start inside the event loop."""

    def __init__(self, buffer: EventBuffer) -> None:
        self._buffer = buffer
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self.states: list[JobState] = []
        self._add("gap_markers", 60, self._gap_markers)
        self._add("held_events", 5, self._held_events)
        self._add("retire_data_keys", 3_600, self._retire_data_keys)
        self._add("truncate_wal", 6 * 3_600, self._truncate_wal)
        self._add("quick_check", 24 * 3_600, self._quick_check)

    def start(self) -> None:
        self._scheduler.start()

    async def follow_the_clock(self) -> None:
        """Until cancelled. The library waits for a time of day: when a clock that was in the future is set right, that
        would be years away.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = datetime.now(UTC)
            for job in self._scheduler.get_jobs():
                latest = job.trigger.latest(now)
                if job.next_run_time > latest:
                    job.modify(next_run_time=latest)

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    def _add(self, name: str, seconds: int, run: Callable[[], Awaitable[str]]) -> None:
        state = JobState(name, seconds)
        self.states.append(state)

        async def job() -> None:
            try:
                state.result = await run()
            except Exception:
                state.result = "failed"
                log.exception("job failed job=%s", name)
            state.last_run = datetime.now(UTC)

        self._scheduler.add_job(job, FromNow(seconds), coalesce=True, max_instances=1, misfire_grace_time=None, id=name)

    async def _gap_markers(self) -> str:
        buffer, made = self._buffer, 0
        if buffer.overflow:
            rows = await buffer.look.overflow_rows()
            made += await buffer.submit(quarantine_overflow(rows, buffer.gateway_id), now=True)
        # Where there is little room, and those before are not sent yet, more of them would only take more.
        if buffer.lost and (buffer.level < Level.PAUSE or not buffer.lanes[Lane.URGENT]):
            made += await buffer.submit(name_given_up(buffer.gateway_id), now=True)
        return f"{made} markers" if made else "nothing to name"

    async def _held_events(self) -> str:
        released = await release_held(self._buffer)
        return f"{released} released, {self._buffer.held} wait for the clock"

    async def _retire_data_keys(self) -> str:
        unused = await self._buffer.look.unused_deks(f"{datetime.now(UTC):%Y-%m-%d}")
        if unused:
            await self._buffer.submit(lambda draft: draft.retire_deks(unused))
        return f"{len(unused)} retired"

    async def _truncate_wal(self) -> str:
        return "done" if await self._buffer.truncate_wal() else "not now: the disk has little room"

    async def _quick_check(self) -> str:
        if await self._buffer.look.quick_check():
            return "ok"
        log.error("the buffer's quick_check found damage: run `patch-gateway status` and keep the file")
        return "damaged"
