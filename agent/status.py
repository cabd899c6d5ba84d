"""What `status` and `patches` show: a JSON object, without values and without patient tokens."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from agent.bonding import patch_states
from agent.counters import Counters
from agent.jobs import JobState
from agent.records import accesses
from agent.sync import SyncState
from buffer.devices import DeviceRecord
from buffer.lanes import Lane
from buffer.store import EventBuffer
from config.settings import Settings
from device_drivers.links.base import LinkState
from device_drivers.links.ble_base import BleState, PatchState

# What a patch says of itself that helps a technician
_ABOUT = ("model_number", "firmware_revision", "battery_level", "clock")


@dataclass(slots=True)
class Live:
    """What only a running daemon knows."""

    started_at: datetime
    counters: Counters
    links: Callable[[], list[LinkState]]
    upstream: Callable[[], SyncState]
    jobs: list[JobState]
    restarts: dict[str, int]
    given_up: Callable[[], int]


async def status(buffer: EventBuffer, settings: Settings, live: Live | None) -> dict[str, Any]:
    """All of it, machine-readable."""
    shown: dict[str, Any] = {
        "gateway": settings.gateway.id,
        "version": version("patch-gateway"),
        "daemon": "running" if live else "not running",
        "time": _text(datetime.now(UTC)),
        "patches": patches(buffer, live),
        "queue": {lane.name.lower(): rows for lane, rows in buffer.lanes.items()} | {"unsaved": buffer.unsaved},
        "quarantine": {
            "entries": buffer.quarantined,
            "not_kept": sum(buffer.overflow.values()),
            "newest": [
                {"reason": item.reason, "sender": item.sender, "seen": seen, "received_at": _text(item.received_at)}
                for _, seen, item in await buffer.look.quarantine_entries(5)
            ],
        },
        "buffer": fullness(buffer),
    }
    if live is None:
        return shown
    upstream = live.upstream()
    shown["buffer"]["given_up"] = live.given_up()
    return shown | {
        "pid": os.getpid(),
        "started_at": _text(live.started_at),
        "links": [_link(link) for link in live.links()],
        "upstream": {
            "reachable": upstream.reachable,
            "reason": upstream.reason,
            "last_success": _text(upstream.last_success),
            "acknowledged": upstream.acknowledged,
            "own": upstream.own,
            "deduped": upstream.deduped,
            "refused": upstream.refused,
        },
        "counters": dict(live.counters.total),
        "jobs": [
            {"job": job.name, "every_seconds": job.every_seconds, "last_run": _text(job.last_run), "result": job.result}
            for job in live.jobs
        ],
        "restarted_tasks": live.restarts,
    }


def fullness(buffer: EventBuffer) -> dict[str, Any]:
    """How full the buffer is, and what keeps it from taking more."""
    room = buffer.room
    return {
        "level": buffer.level.name.lower(),
        "percent": round(100 * room.share, 1),
        "disk_free_octets": room.free,
        "reserve": ("kept" if room.reserved else "used") if room.reserve else "none",
        "to_be_named": sum(lost.count for lost in buffer.lost.values()),
        "trouble": buffer.trouble.value if buffer.trouble else None,
        "held_for_the_clock": buffer.held,
    }


def patches(buffer: EventBuffer, live: Live | None) -> list[dict[str, Any]]:
    """The registry, a row per patch."""
    rows = []
    for device_id, known in sorted(buffer.devices.items()):
        record = known.record
        waiting = buffer.waiting(device_id)
        row: dict[str, Any] = {
            "device_id": device_id,
            "device_type": record.device_type,
            "batch_number": record.batch_number,
            "transport": record.transport,
            "activation_method": record.activation_method,
            "paired_at": _text(record.paired_at),
            "application": "recorded" if record.application else "not recorded",
            "adhesion": f"{waiting} reports waiting for the application" if waiting else None,
        }
        if any(record.facts.get(access.unclear_fact) for access in accesses(record)):
            row["check"] = "its records are set aside: which session they belong to is unclear, the quarantine says why"
        if live:
            last = live.counters.last.get(device_id)
            row["last_data"] = last.at if last else None
            row["counters"] = dict(live.counters.by_device.get(device_id, {}))
            for state in patch_states(live.links(), device_id)[:1]:
                row["radio"] = _radio(state, record)
        rows.append(row)
    return rows


def _link(link: LinkState) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "link": link.name,
        "connected": link.connected,
        "paused": link.paused,
        "reason": link.reason,
        "since": _text(link.since),
        "connects": link.connects,
        "received": link.received,
    }
    return shown | {"warnings": list(link.warnings.values())} if isinstance(link, BleState) else shown


def _radio(state: PatchState, record: DeviceRecord) -> dict[str, Any]:
    return {
        "connected": state.connected,
        "reason": state.reason,
        "since": _text(state.since),
        "pair_again": state.pair_again,
        "bonded": state.bonded,
        "last_heard": _text(state.last_heard),
        "rssi": state.rssi,
        "connects": state.connects,
        "failures": state.failures,
        "about": {name: record.facts[name] for name in _ABOUT if name in record.facts},
    }


def lane_words(queue: dict[str, int]) -> str:
    """The queue as one line for a terminal."""
    return "  ".join(f"{name} {queue[name]}" for name in (*(lane.name.lower() for lane in Lane), "unsaved"))


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None
