"""Scheduled jobs under clocks that step."""

import asyncio
from datetime import UTC, datetime, timedelta

import apscheduler.schedulers.base
from buffers import NOW, open_buffer

from agent import jobs
from buffer.lost import Lost


def test_a_stepping_clock_lists_one_run_and_not_every_minute_since():
    trigger = jobs.FromNow(60)
    later = NOW + timedelta(days=20_000)
    following = trigger.get_next_fire_time(NOW, later)
    assert timedelta(seconds=59) < following - later < timedelta(seconds=67)


async def test_a_clock_that_was_in_the_future_and_is_set_right_stops_no_job(tmp_path, monkeypatch):
    ahead = timedelta(days=4_000)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + ahead

    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", Clock)
    monkeypatch.setattr(jobs, "datetime", Clock)
    monkeypatch.setattr(jobs, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(jobs.FromNow, "__init__", lambda self, _: setattr(self, "_seconds", 0.2))
    buffer = await open_buffer(tmp_path, tick=0.005)
    made = jobs.Jobs(buffer)
    made.start()
    following = asyncio.create_task(made.follow_the_clock())
    await asyncio.sleep(0.5)
    ahead = timedelta(0)
    await buffer.submit(lambda draft: draft.give_up(Lost(count=3, first_at=NOW, last_at=datetime.now(UTC))), now=True)
    async with asyncio.timeout(10):
        while buffer.lost:
            await asyncio.sleep(0.02)
    following.cancel()
    made.stop()
    await asyncio.gather(following, return_exceptions=True)
    await buffer.close()
