"""The SQL that a Draft is made of."""

from collections.abc import Iterable
from typing import Any, NamedTuple

Statements = list[tuple[str, list[tuple[Any, ...]]]]

TABLES_WITH_DEK = ("event", "held", "device", "former", "waiting", "quarantine", "overflow", "lost")

INSERT_EVENT = "INSERT INTO event(id, lane, dek_id, sealed) VALUES (?, ?, ?, ?)"
INSERT_HELD = "INSERT INTO held(lane, dek_id, sealed) VALUES (?, ?, ?)"
DELETE_EVENT = "DELETE FROM event WHERE id = ?"
INSERT_DEK = "INSERT INTO dek(id, device_ref, day, epoch, dict_id, wrapped, words) VALUES (?, ?, ?, ?, ?, ?, ?)"
PUT_DEVICE = (
    "INSERT INTO device(ref, blind, dek_id, sealed) VALUES (?, ?, ?, ?)"
    " ON CONFLICT(ref) DO UPDATE SET dek_id = excluded.dek_id, sealed = excluded.sealed"
)
PUT_MARK = (
    "INSERT INTO mark(device_ref, stream, boot, floor, settled, runs) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT(device_ref, stream, boot) DO UPDATE"
    " SET floor = excluded.floor, settled = excluded.settled, runs = excluded.runs"
)
PUT_LOST = "INSERT OR REPLACE INTO lost(blind, dek_id, sealed) VALUES (?, ?, ?)"
INSERT_QUARANTINE = "INSERT INTO quarantine(id, digest, sender, seen, dek_id, sealed) VALUES (?, ?, ?, 1, ?, ?)"
SEEN_AGAIN = "UPDATE quarantine SET seen = seen + 1 WHERE digest = ?"
OVERFLOW = (
    "INSERT INTO overflow(sender, count, first_at, last_at, dek_id, sealed) VALUES (?, 1, ?, ?, ?, ?)"
    " ON CONFLICT(sender) DO UPDATE SET count = count + 1, last_at = excluded.last_at"
)


class Op(NamedTuple):
    """One statement with its parameters."""

    sql: str
    parameters: tuple[Any, ...]


def grouped(ops: Iterable[Op]) -> Statements:
    """In their order, runs of one statement together."""
    found: Statements = []
    for op in ops:
        if not found or found[-1][0] != op.sql:
            found.append((op.sql, []))
        found[-1][1].append(op.parameters)
    return found
