"""From PostgreSQL's outbox to ClickHouse, exactly once.

A block's id and rows are fixed by a commit before anything is sent, and the id is the deduplication token: sending a
block again, after a crash or a lost answer, changes nothing.
"""

import asyncio
import logging

import asyncpg
import httpx

from central.clickhouse import ClickHouse, ClickHouseError

log = logging.getLogger(__name__)

BLOCK = 5_000
_IDLE, _FAILED = 0.2, 2.0
_LOCK = 7262
# Rows that cannot be read as the table's columns: nothing of the block was stored, and never will be as it is.
_UNREADABLE = {"6", "26", "27", "38", "41", "53", "70", "72", "117", "130", "469", "641", "645", "651"}

_OLDEST_CLAIMED = "SELECT min(block_id) FROM olap_outbox WHERE block_id IS NOT NULL"
_CLAIM = """
WITH c AS (
  SELECT event_id FROM olap_outbox WHERE block_id IS NULL ORDER BY event_id LIMIT $1 FOR UPDATE SKIP LOCKED
), b AS (
  SELECT nextval('olap_block_seq') AS id WHERE EXISTS (SELECT FROM c)
), u AS (
  UPDATE olap_outbox o SET block_id = b.id FROM c, b WHERE o.event_id = c.event_id RETURNING o.block_id
)
SELECT min(block_id) FROM u
"""
_READ = """
SELECT string_agg((to_jsonb(x) - 'id')::text, E'\\n' ORDER BY id) FROM (
  SELECT e.id, tenant_id, type,
         to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS occurred_at,
         coalesce(user_id, '') AS user_id, coalesce(order_id, '') AS order_id, coalesce(session_id, '') AS session_id,
         coalesce(producer, '') AS producer, coalesce(source_service, '') AS source_service,
         coalesce(idempotency_key, 'evt:' || e.id) AS idempotency_key, data_json
  FROM olap_outbox o JOIN events e ON e.id = o.event_id AND e.occurred_at = o.occurred_at
  WHERE o.block_id = $1
) x
"""
_DONE = "DELETE FROM olap_outbox WHERE block_id = $1"
# Half of a block that cannot be read moves to a block of its own. Its first half keeps no token that ever stored rows.
_SPLIT = """
WITH ranked AS (
  SELECT event_id, ntile(2) OVER (ORDER BY event_id) AS half FROM olap_outbox WHERE block_id = $1
), ids AS (
  SELECT half, nextval('olap_block_seq') AS id FROM (SELECT DISTINCT half FROM ranked) h
)
UPDATE olap_outbox o SET block_id = ids.id FROM ranked r JOIN ids USING (half) WHERE o.event_id = r.event_id
"""
_SOURCE = "SELECT token FROM olap_source"
_REFUSE = """
WITH d AS (DELETE FROM olap_outbox WHERE block_id = $1 RETURNING event_id, occurred_at)
INSERT INTO olap_refused (event_id, occurred_at, reason) SELECT event_id, occurred_at, $2 FROM d
"""


class Forwarder:
    """One pass after another; one forwarder per database, held by an advisory lock."""

    def __init__(self, pool: asyncpg.Pool, clickhouse: ClickHouse) -> None:
        self._pool, self._clickhouse = pool, clickhouse
        self.last_error: str | None = None

    async def run(self) -> None:
        """Until cancelled. ClickHouse or PostgreSQL being away is waited out."""
        while True:
            try:
                async with self._pool.acquire() as connection:
                    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                        self.last_error = "another forwarder holds the lock"
                        await asyncio.sleep(_FAILED)
                        continue
                    try:
                        while True:
                            await asyncio.sleep(0 if await self.step(connection) else _IDLE)
                    finally:
                        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, httpx.HTTPError, ClickHouseError) as error:
                if self.last_error != str(error):
                    log.warning("forwarder waits error=%s", error)
                self.last_error = str(error)
                await asyncio.sleep(_FAILED)
            except Exception as error:
                self.last_error = f"internal error: {error!r}"
                log.exception("forwarder goes on after an error that it does not know")
                await asyncio.sleep(_FAILED)

    async def step(self, connection: asyncpg.Connection) -> bool:
        """Send one block, an unfinished one first; False when there was none."""
        block = await connection.fetchval(_OLDEST_CLAIMED)
        if block is None:
            block = await connection.fetchval(_CLAIM, BLOCK)
        if block is None:
            return False
        rows = await connection.fetchval(_READ, block)
        if rows is None:
            log.error("the events of a block are gone from PostgreSQL, its outbox rows are set aside block=%d", block)
            await connection.execute(_REFUSE, block, "the event is gone from PostgreSQL")
            return True
        source = await connection.fetchval(_SOURCE)
        try:
            await self._clickhouse.insert(f"blk-{source}-{block}", rows.encode())
        except ClickHouseError as error:
            if error.code not in _UNREADABLE:
                raise
            await self._unreadable(connection, block, rows.count("\n") + 1, str(error))
            return True
        await connection.execute(_DONE, block)
        self.last_error = None
        return True

    async def _unreadable(self, connection: asyncpg.Connection, block: int, rows: int, reason: str) -> None:
        if rows > 1:
            await connection.execute(_SPLIT, block)
            return
        log.error("ClickHouse cannot take an event, PostgreSQL keeps it reason=%s", reason)
        await connection.execute(_REFUSE, block, reason)
