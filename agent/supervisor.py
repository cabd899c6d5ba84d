"""Keeps the daemon's tasks running, and knows whether they get anywhere."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from agent import systemd
from agent.ingest import Ingest
from agent.taps import Taps
from buffer.errors import MediumError
from buffer.store import EventBuffer
from device_drivers.links.base import Batch, Link

log = logging.getLogger(__name__)

_RESTART_FIRST, _RESTART_MOST = 1.0, 60.0


class Supervisor:
    """Restarts a task that fails; a MediumError ends the daemon. `progress` holds when each task last did something."""

    def __init__(self, longest_wait: float) -> None:
        self._longest_wait = longest_wait
        self.progress: dict[str, float] = {}
        self.restarts: dict[str, int] = {}

    async def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run for ever: a bug in one task is logged and does not stop the others."""
        wait = _RESTART_FIRST
        while True:
            started = time.monotonic()
            try:
                await run()
            except MediumError:
                raise
            except Exception:
                log.exception("task failed, starting it again task=%s", name)
            self.restarts[name] = self.restarts.get(name, 0) + 1
            wait = _RESTART_FIRST if time.monotonic() - started > _RESTART_MOST else min(_RESTART_MOST, wait * 2)
            await asyncio.sleep(wait)

    def mark(self, name: str) -> None:
        """Task `name` did something just now."""
        self.progress[name] = time.monotonic()

    def stuck(self) -> list[str]:
        """Tasks that have done nothing for longer than any wait of theirs."""
        limit = time.monotonic() - self._longest_wait
        return [name for name, last in self.progress.items() if last < limit]

    async def feed_watchdog(self) -> None:
        """Tell systemd that all is well, as long as it is. The disk's writer is not asked: a slow disk is no reason to
        kill the daemon.
        """
        seconds = systemd.watchdog_seconds()
        while True:
            await asyncio.sleep((seconds or 60.0) / 3)
            stuck = self.stuck()
            if stuck:
                log.error("tasks are stuck, the watchdog is not fed tasks=%s", ",".join(stuck))
            else:
                systemd.notify("WATCHDOG=1")


async def pump(link: Link, ingest: Ingest, buffer: EventBuffer, taps: Taps) -> None:
    """Frames of a link into the buffer, acknowledged when durable; those of BLE to who records them, too."""
    while True:
        batch = await link.receive()
        future, asked = ingest.receive(batch, link.transport)
        if link.transport == "ble":
            taps.offer(batch.frames)
        future.add_done_callback(partial(_acknowledge, link, batch))
        for item in asked:
            link.ask(item)
        if link.unacknowledged >= link.window:
            buffer.flush()  # the other side sends no more until we acknowledge


def _acknowledge(link: Link, batch: Batch, future: "asyncio.Future[object]") -> None:
    if future.cancelled() or future.exception() is not None:
        return  # not durable: the other side keeps it and sends it again
    link.acknowledge(batch)
