"""Read the buffer's memory back from the file at open."""

import secrets
from typing import Any

import aiosqlite

from buffer.database import PAGE_SIZE
from buffer.devices import DeviceRecord, Former
from buffer.draft import dek_context
from buffer.errors import SealError
from buffer.keys import KeyRing
from buffer.lanes import Lane
from buffer.lost import Lost
from buffer.marks import Mark
from buffer.quarantine import Limits
from buffer.sealing import Dek
from buffer.state import KEPT_NUMBERS, Entry, MarkKey, State, Waiting

SELECT_DEK = "SELECT id, device_ref, day, epoch, dict_id, wrapped, words FROM dek"


def quota_pages(quota_octets: int) -> int:
    """The quota in pages of the file."""
    return max(256, quota_octets // PAGE_SIZE)


async def load(connection: aiosqlite.Connection, keys: KeyRing, gateway_id: str, limits: Limits) -> State:
    """The State of a database; SealError when the key is not the one it was made with."""
    epoch = await _first_open(connection, keys)
    state = State(gateway_id, epoch)
    by_id: dict[int, Dek] = {}
    for row in await _rows(connection, SELECT_DEK):
        dek = unwrap_dek(row, keys)
        by_id[dek.id] = state.deks[row[1], row[2]] = dek
    for ref, dek_id, sealed in await _rows(connection, "SELECT ref, dek_id, sealed FROM device"):
        record = DeviceRecord.model_validate_json(_opened(by_id, dek_id, sealed, "device"))
        state.devices[record.device_id] = Entry(ref, by_id[dek_id], record)
    for dek_id, sealed in await _rows(connection, "SELECT dek_id, sealed FROM former"):
        former = Former.model_validate_json(_opened(by_id, dek_id, sealed, "former"))
        state.former[former.device_id] = former
    marks = "SELECT device_ref, stream, boot, floor, settled, runs FROM mark ORDER BY id"
    for ref, stream, boot, *mark in await _rows(connection, marks):
        state.marks[MarkKey(ref, stream, boot)] = Mark.from_row(*mark)
    for ref, dek_id, sealed in await _rows(connection, "SELECT device_ref, dek_id, sealed FROM waiting ORDER BY id"):
        state.waiting[ref] = (*state.waiting.get(ref, ()), Waiting(by_id[dek_id], sealed))
    octets = 0
    for digest, sender, length in await _rows(connection, "SELECT digest, sender, length(sealed) FROM quarantine"):
        size = limits.octets_of(length)
        state.quarantine[digest] = (sender, size)
        state.senders[sender] = state.senders.get(sender, 0) + 1
        octets += size
    state.overflow.update({row[0]: row[1] for row in await _rows(connection, "SELECT sender, count FROM overflow")})
    for dek_id, sealed in await _rows(connection, "SELECT dek_id, sealed FROM lost"):
        lost = Lost.model_validate_json(_opened(by_id, dek_id, sealed, "lost"))
        state.lost[lost.device_id] = lost
    # Not GROUP BY: it would sort the whole queue, in a file on a disk that may be full.
    each = ", ".join(f"coalesce(sum(lane = {int(lane)}), 0)" for lane in Lane)
    ((*rows,),) = await _rows(connection, f"SELECT {each} FROM event")
    state.lanes.update(zip(Lane, rows, strict=True))
    last_ref = (await _rows(connection, "SELECT coalesce(max(ref), 0) FROM device"))[0][0]
    last_mark = max((key.device_ref for key in state.marks), default=0)
    last_dek_ref = max((ref for ref, _ in state.deks), default=0)
    state.numbers.update(
        {name: value for name, value in await _rows(connection, "SELECT key, value FROM meta") if name in KEPT_NUMBERS},
        last_ref=max(last_ref, last_mark, last_dek_ref),
        last_dek=max(by_id, default=0),
        last_event=(await _rows(connection, "SELECT coalesce(max(id), 0) FROM event"))[0][0],
        quarantine_octets=octets,
        held=(await _rows(connection, "SELECT count(*) FROM held"))[0][0],
    )
    return state


def _opened(deks: dict[int, Dek], dek_id: int, sealed: bytes, table: str) -> bytes:
    try:
        return deks[dek_id].open(sealed)
    except (KeyError, SealError):
        raise SealError(
            f"A row of the table {table} is damaged: `patch-gateway buffer verify` counts such rows, and"
            " docs/durability.md says under When it is damaged what to do."
        ) from None


def unwrap_dek(row: Any, keys: KeyRing) -> Dek:
    """A Dek from its row, as SELECT_DEK gives it."""
    dek_id, device_ref, day, epoch, dict_id, wrapped, words = row
    dek = Dek(dek_id, keys.unwrap(wrapped, dek_context(dek_id, device_ref, day, epoch, dict_id)), dict_id)
    dek.open_words(words)
    return dek


async def _first_open(connection: aiosqlite.Connection, keys: KeyRing) -> str:
    """Check the key against the database, or bind a new database to it. Returns the epoch of the gateway's own keys."""
    rows = await _rows(connection, "SELECT check_value FROM kek WHERE epoch = ?", (keys.epoch,))
    if not rows:
        epoch = secrets.token_hex(6)
        await connection.execute("BEGIN IMMEDIATE")
        await connection.execute("INSERT INTO kek VALUES (?, ?)", (keys.epoch, keys.check_value()))
        await connection.executemany("INSERT INTO meta VALUES (?, ?)", [("epoch", epoch), ("own", 0)])
        await connection.execute("COMMIT")
        return epoch
    if not keys.verify(rows[0][0]):
        raise SealError(
            "The key is not the one this buffer was made with: restore the right key, or move the buffer away."
        )
    return str((await _rows(connection, "SELECT value FROM meta WHERE key = 'epoch'"))[0][0])


async def _rows(connection: aiosqlite.Connection, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
    return list(await connection.execute_fetchall(sql, parameters))
