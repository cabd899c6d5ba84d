"""PostgreSQL: schema, monthly partitions, the ingest statement."""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, NamedTuple

import asyncpg

from central.validation import Row

log = logging.getLogger(__name__)

_DUPLICATES = (
    "SELECT k.idempotency_key, k.event_id, k.received_at, k.payload_hash, e.type,"
    " e.data_json->>'device_id' AS device_id"
    " FROM event_keys k LEFT JOIN events e ON e.id = k.event_id AND e.occurred_at = k.occurred_at"
    " WHERE k.tenant_id = $1 AND k.idempotency_key = ANY ($2)"
)
_COUNTS = """
SELECT (SELECT count(*) FROM events) AS events,
       (SELECT count(*) FROM events WHERE split_part(idempotency_key, '.', 2) = 'gateway') AS own,
       (SELECT count(DISTINCT (tenant_id, coalesce(idempotency_key, id::text))) FROM events) AS keys,
       (SELECT count(*) FROM olap_outbox) AS outbox,
       (SELECT count(*) FROM olap_refused) AS refused
"""


class Stored(NamedTuple):
    """The fate of one row: new, or the earlier event that owns its key."""

    event_id: int
    received_at: datetime
    deduped: bool
    same_payload: bool = True
    same_identity: bool = True


def _sql(name: str) -> str:
    return (files("central") / "ddl" / name).read_text(encoding="utf-8")


class PostgreSQL:
    """A pool and what the service asks of it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self._ingest = _sql("ingest.sql")
        self._months: set[tuple[int, int]] = set()

    @classmethod
    async def connect(cls, dsn: str) -> "PostgreSQL":
        """Connect, make the schema when the database is empty, make the months around now."""
        store = cls(await asyncpg.create_pool(dsn, min_size=1, max_size=4, command_timeout=30))
        async with store.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(7261)")
            if not await connection.fetchval("SELECT to_regclass('events') IS NOT NULL"):
                await connection.execute(_sql("postgresql.sql"))
        await store.ensure_months([datetime.now(UTC)])
        return store

    async def ensure_months(self, moments: Sequence[datetime]) -> None:
        """A partition for each month; there is no default partition."""
        for moment in moments:
            month = (moment.year, moment.month)
            if month not in self._months:
                await self.pool.execute("SELECT ensure_events_partition($1)", moment)
                self._months.add(month)

    async def ingest(self, tenant: str, rows: Sequence[Row]) -> list[Stored]:
        """Store a batch in one statement; a key that is known already is not stored again."""
        await self.ensure_months([row.occurred_at for row in rows])
        now = datetime.now(UTC)
        async with self.pool.acquire() as connection:
            new = {
                row["ord"]: row["event_id"]
                for row in await connection.fetch(self._ingest, tenant, *zip(*rows, strict=True))
            }
            old = await self._duplicates(connection, tenant, rows, new)
        stored = []
        for ordinal, row in enumerate(rows, start=1):
            if ordinal in new:
                stored.append(Stored(new[ordinal], now, deduped=False))
                continue
            assert row.idempotency_key is not None
            first = old[row.idempotency_key]
            same = first["payload_hash"] == row.payload_hash
            stored.append(
                Stored(first["event_id"], first["received_at"], True, same, same or _same_identity(first, row))
            )
        return stored

    async def _duplicates(
        self, connection: Any, tenant: str, rows: Sequence[Row], new: dict[int, int]
    ) -> dict[str, Any]:
        """The first event of each key that was not stored now; a second statement, since it needs a new snapshot."""
        keys = [row.idempotency_key for ordinal, row in enumerate(rows, start=1) if ordinal not in new]
        if not keys:
            return {}
        return {row["idempotency_key"]: row for row in await connection.fetch(_DUPLICATES, tenant, keys)}

    async def counts(self) -> dict[str, int]:
        """Rows, the gateways' own among them, distinct keys, and what waits for ClickHouse."""
        return dict(await self.pool.fetchrow(_COUNTS))

    async def close(self) -> None:
        await self.pool.close()


def _same_identity(first: Any, row: Row) -> bool:
    """Same type and device: the same record sent again with other sealed fields or re-anchored times."""
    return first["type"] is None or bool(
        first["type"] == row.type and first["device_id"] == json.loads(row.data_json).get("device_id")
    )
