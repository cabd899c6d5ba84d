"""The daemon: opens the buffer, runs links, ingest, sync, jobs and the control socket until it is told to stop."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from agent import control, systemd
from agent.ble import ble_links
from agent.commands import Commands
from agent.counters import Counters
from agent.ending import end_at_once
from agent.ingest import Ingest
from agent.jobs import Jobs
from agent.room import Room
from agent.setup import NoUpstream, mqtt_links, open_buffer_soon, socket_path, upstream
from agent.status import Live
from agent.supervisor import Supervisor, pump
from agent.sync import Sync, SyncState
from agent.taps import Taps
from buffer.errors import MediumError
from buffer.store import EventBuffer
from config.settings import Settings
from device_drivers.links.base import Link
from uploader.backoff import Backoff
from uploader.base import Upstream

log = logging.getLogger(__name__)


class Gateway:
    """One running gateway. `links` come in addition to those of the settings (the demo's replayed capture)."""

    def __init__(self, buffer: EventBuffer, settings: Settings, links: Sequence[Link] = ()) -> None:
        self.buffer, self.settings = buffer, settings
        self.counters = Counters()
        mqtt = mqtt_links(settings)
        self.links: list[Link] = [*mqtt, *ble_links(settings, buffer), *links]
        self._upstream = upstream(settings)
        self.supervisor = Supervisor(settings.upstream.deadline_seconds + 60.0)
        self.jobs = Jobs(buffer)
        self.ingest = Ingest(buffer, settings.gateway.id, self.counters)
        self.room = Room(buffer, mqtt[-1:])
        self.sync = self._sync(self._upstream) if not isinstance(self._upstream, NoUpstream) else None
        live = Live(
            datetime.now(UTC),
            self.counters,
            lambda: [link.state for link in self.links],
            self.sync_state,
            self.jobs.states,
            self.supervisor.restarts,
            lambda: self.room.given_up,
        )
        self.commands, self.taps = Commands(buffer, settings, live, self.ingest), Taps()

    def sync_state(self) -> SyncState:
        if self.sync:
            return self.sync.state
        return SyncState(reason=self._upstream.reason if isinstance(self._upstream, NoUpstream) else "")

    def _sync(self, target: Upstream) -> Sync:
        section = self.settings.upstream
        return Sync(
            self.buffer,
            target,
            Backoff(section.retry_first_seconds, section.retry_most_seconds),
            self.counters,
            batch_events=section.batch_events,
            batch_octets=section.batch_kib << 10,
            progress=partial(self.supervisor.mark, "sync"),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. A medium that fails ends the process: what SQLite then says cannot be believed."""
        server = await control.serve(socket_path(self.settings), self.commands, self.taps)
        self.jobs.start()
        tasks = [asyncio.create_task(self.buffer.failed(), name="buffer")]
        keep = self.supervisor.keep
        for link in self.links:
            tasks.append(asyncio.create_task(keep(link.state.name, link.run)))
            tasks.append(
                asyncio.create_task(
                    keep(f"{link.state.name} pump", partial(pump, link, self.ingest, self.buffer, self.taps))
                )
            )
        if self.sync:
            tasks.append(asyncio.create_task(keep("sync", self.sync.run)))
        tasks.append(asyncio.create_task(keep("room", self.room.run)))
        tasks.append(asyncio.create_task(keep("jobs", self.jobs.follow_the_clock)))
        tasks.append(asyncio.create_task(keep("watchdog", self.supervisor.feed_watchdog)))
        stopping = asyncio.create_task(stop.wait())
        links = ", ".join(link.state.name for link in self.links) or "no link is enabled"
        log.info("gateway running id=%s patches=%d: %s", self.settings.gateway.id, len(self.buffer.devices), links)
        if isinstance(self._upstream, NoUpstream):
            log.warning(self._upstream.reason)
        systemd.notify("READY=1")
        try:
            await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            _end_if_the_medium_failed(tasks)
        finally:
            systemd.notify("STOPPING=1")
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            self.jobs.stop()
            self.taps.close()
            await self.taps.ended(seconds=2.0)
            server.close()
            socket_path(self.settings).unlink(missing_ok=True)
            if not isinstance(self._upstream, NoUpstream):
                await self._upstream.close()


def _end_if_the_medium_failed(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        error = task.exception() if task.done() and not task.cancelled() else None
        if isinstance(error, MediumError):
            log.critical("ending at once, nothing more is acknowledged: %s", error)
            end_at_once(error)
        elif error is not None:
            raise error


async def run_gateway(settings: Settings, stop: asyncio.Event, links: Sequence[Link] = ()) -> None:
    """Open, run, close."""
    buffer = await open_buffer_soon(settings)
    try:
        await Gateway(buffer, settings, links).run(stop)
    finally:
        await buffer.close()
    log.info("gateway stopped, everything accepted is on the disk")
