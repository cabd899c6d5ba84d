"""The commands of `patch-gateway buffer`, through the control socket or offline."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.ingest import OTHER_SESSION, Ingest
from agent.quarantine import about, discard, frame_of, payload_of, problem, send_again
from agent.setup import database_path
from agent.status import fullness
from buffer.quarantine import Quarantined
from buffer.store import EventBuffer
from config.settings import Settings

log = logging.getLogger(__name__)

_AT_A_TIME = 500


async def stats(buffer: EventBuffer, settings: Settings) -> dict[str, Any]:
    """How full the buffer is, and with what."""
    path = database_path(settings)
    pages, free = await buffer.look.pages()
    quota = settings.buffer.quota_mib << 20
    return {
        "database": {"octets": _size(path), "pages": pages, "free_pages": free, "wal_octets": _size(path, "-wal")},
        "quota": {"octets": quota, "percent": round(100 * (pages - free) * buffer.page_size / quota, 2)},
        "lanes": {
            lane.name.lower(): {"rows": rows, "oldest_day": await buffer.look.oldest_day(lane)}
            for lane, rows in buffer.lanes.items()
        },
        "quarantine": {"entries": buffer.quarantined, "octets": buffer.quarantine_octets},
        "not_kept": sum(buffer.overflow.values()),
        "patches": len(buffer.devices),
        "unsaved": buffer.unsaved,
        "buffer": fullness(buffer),
    }


def _size(path: Path, suffix: str = "") -> int:
    found = path.with_name(path.name + suffix)
    return found.stat().st_size if found.exists() else 0


async def quarantine(buffer: EventBuffer, ingest: Ingest, arguments: Mapping[str, Any]) -> dict[str, Any] | str:
    """list, show, requeue, discard; a text says why not. No `ids`: every entry, some at a time."""
    action, ids = arguments.get("action"), arguments.get("ids")
    if action == "list":
        rows = await buffer.look.quarantine_entries(int(arguments.get("limit") or 100))
        return {"entries": [about(*row) for row in rows], "all": buffer.quarantined}
    there = await buffer.look.quarantine_ids()
    missing = sorted(set(ids or ()) - set(there))
    if missing:
        return f"There is no entry {missing[0]}: `patch-gateway buffer quarantine list` shows those that are."
    chosen = there if ids is None else list(dict.fromkeys(ids))
    if action == "show":
        return await _shown(buffer, chosen, reveal=bool(arguments.get("reveal")))
    if action == "discard":
        return {"discarded": sum([await _discarded(buffer, part) for part in _parts(chosen)])}
    if action == "requeue":
        return {"requeued": [done for part in _parts(chosen) for done in await _requeued(buffer, ingest, part)]}
    return f"There is no action {action}."


def _parts(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(ids), _AT_A_TIME):
        yield ids[first : first + _AT_A_TIME]


async def _items(buffer: EventBuffer, ids: Sequence[int]) -> list[tuple[int, Quarantined]]:
    found = [(row, await buffer.look.quarantine_entry(row)) for row in ids]
    return [(row, entry[1]) for row, entry in found if entry is not None]


async def _shown(buffer: EventBuffer, ids: Sequence[int], *, reveal: bool) -> dict[str, Any]:
    if reveal:
        log.warning("quarantine: values were shown entries=%s", ",".join(map(str, ids)))
    found = [(row, await buffer.look.quarantine_entry(row)) for row in ids]
    return {
        "entries": [
            about(row, *entry) | {"payload": payload_of(entry[1], reveal=reveal)} for row, entry in found if entry
        ]
    }


async def _discarded(buffer: EventBuffer, ids: Sequence[int]) -> int:
    entries = [(item, await buffer.look.quarantine_digest(row)) for row, item in await _items(buffer, ids)]
    return await buffer.submit(discard(entries, buffer.gateway_id), now=True, relief=True)


async def _requeued(buffer: EventBuffer, ingest: Ingest, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Together, so that they share a commit."""
    items = await _items(buffer, ids)
    return list(await asyncio.gather(*(_again(buffer, ingest, row, item) for row, item in items)))


async def _again(buffer: EventBuffer, ingest: Ingest, row: int, item: Quarantined) -> dict[str, Any]:
    why_not = problem(item)
    if why_not:
        return {"id": row, "fate": "kept", "why": why_not}
    framed = frame_of(item)
    if framed is None:
        sent = await buffer.submit(send_again(item), now=True)
        return {"id": row, "fate": "queued" if sent else "gone"}
    fates = {name for name, *_ in await ingest.again(*framed, lambda draft: draft.take_quarantined(item))}
    if fates == {OTHER_SESSION}:
        return {"id": row, "fate": "kept", "why": "it was received in another session than its patch is in now"}
    if not fates:
        return {"id": row, "fate": "kept", "why": "there is no record in it, or it is gone by now"}
    return {"id": row, "fate": ", ".join(sorted(fates))}
