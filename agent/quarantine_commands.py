"""The commands of `patch-gateway buffer`, through the control socket or offline."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.ingest import Ingest
from agent.quarantine import about, discard, frame_of, payload_of, problem, send_again
from agent.setup import database_path
from buffer.quarantine import Quarantined
from buffer.store import EventBuffer
from config.settings import Settings

log = logging.getLogger(__name__)

_MOST = 10_000


async def stats(buffer: EventBuffer, settings: Settings) -> dict[str, Any]:
    """How full the buffer is, and with what."""
    path = database_path(settings)
    pages, free = await buffer.pages()
    quota = settings.buffer.quota_mib << 20
    return {
        "database": {"octets": _size(path), "pages": pages, "free_pages": free, "wal_octets": _size(path, "-wal")},
        "quota": {"octets": quota, "percent": round(100 * (pages - free) * buffer.page_size / quota, 2)},
        "lanes": {
            lane.name.lower(): {"rows": rows, "oldest_day": await buffer.oldest_day(lane)}
            for lane, rows in buffer.lanes.items()
        },
        "quarantine": {"entries": buffer.quarantined, "octets": buffer.quarantine_octets},
        "not_kept": sum(buffer.overflow.values()),
        "patches": len(buffer.devices),
        "unsaved": buffer.unsaved,
        "disk_full": buffer.full,
    }


def _size(path: Path, suffix: str = "") -> int:
    found = path.with_name(path.name + suffix)
    return found.stat().st_size if found.exists() else 0


async def quarantine(buffer: EventBuffer, ingest: Ingest, arguments: Mapping[str, Any]) -> dict[str, Any] | str:
    """list, show, requeue, discard; a text says why not."""
    action, ids = arguments.get("action"), arguments.get("ids")
    if action == "list":
        rows = await buffer.quarantine_entries(int(arguments.get("limit") or 100))
        return {"entries": [about(*row) for row in rows], "all": buffer.quarantined}
    entries = await buffer.quarantine_entries(_MOST if ids is None else _MOST * 10)
    wanted = {row: (seen, item) for row, seen, item in entries if ids is None or row in ids}
    missing = [row for row in ids or () if row not in wanted]
    if missing:
        return f"There is no entry {missing[0]}: `patch-gateway buffer quarantine list` shows those that are."
    if action == "show":
        return _shown(wanted, reveal=bool(arguments.get("reveal")))
    if action == "discard":
        items = [(row, item) for row, (_, item) in wanted.items()]
        return {"discarded": await buffer.submit(discard(items, buffer.gateway_id), now=True, relief=True)}
    if action == "requeue":
        return {"requeued": [await _again(buffer, ingest, row, item) for row, (_, item) in sorted(wanted.items())]}
    return f"There is no action {action}."


def _shown(wanted: Mapping[int, tuple[int, Quarantined]], *, reveal: bool) -> dict[str, Any]:
    if reveal:
        log.warning("quarantine: values were shown entries=%s", ",".join(map(str, wanted)))
    entries = (
        about(row, seen, item) | {"payload": payload_of(item, reveal=reveal)} for row, (seen, item) in wanted.items()
    )
    return {"entries": list(entries)}


async def _again(buffer: EventBuffer, ingest: Ingest, row: int, item: Quarantined) -> dict[str, Any]:
    why_not = problem(item)
    if why_not:
        return {"id": row, "fate": "kept", "why": why_not}
    framed = frame_of(item)
    if framed is None:
        await buffer.submit(send_again(row, item), now=True)
        return {"id": row, "fate": "queued"}
    fates = await ingest.again(*framed, lambda draft: draft.take_quarantined(row, item))
    return {"id": row, "fate": ", ".join(sorted({name for name, *_ in fates})) or "gone"}
