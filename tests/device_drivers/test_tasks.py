"""How tasks and threads of a connection end."""

import asyncio
import threading

import pytest

from device_drivers.links import tasks
from device_drivers.links.ble_base import RadioLost


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again(monkeypatch):
    monkeypatch.setattr(tasks, "_AGAIN_SECONDS", 0.02)
    swallowed = []

    async def deaf():
        while len(swallowed) < 3:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed.append(1)
        raise RadioLost("at last")

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.end([task]), 5)
    assert len(swallowed) == 3


async def test_nobody_waits_for_a_thread_that_is_not_wanted_any_more():
    """A resolver may take a minute, and there are only so many of the threads that all share."""
    blocked = threading.Event()
    waiting = [asyncio.create_task(tasks.in_daemon_thread(lambda: blocked.wait(60))) for _ in range(40)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "commits go on") == "commits go on"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()
    blocked.set()


async def test_what_a_thread_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        await tasks.in_daemon_thread(lambda: 1 / 0)
