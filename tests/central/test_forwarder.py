"""From the outbox to ClickHouse exactly once: deaths and lost answers at every step, rows it cannot read."""

import asyncio
import json

import asyncpg
import httpx
import pytest
from samples import envelope

from central.clickhouse import ClickHouse
from central.embedded import why_no_clickhouse
from central.forwarder import Forwarder
from central.postgresql import PostgreSQL
from central.validation import validate
from schemas.responses import ErrorResponse


class Unlucky(ClickHouse):
    """The real server, but the answer to an insert gets lost, or the sender dies, by a script."""

    script: list[str]

    async def insert(self, token, rows):
        fate = self.script.pop(0) if self.script else "ok"
        if fate == "dies before":
            raise httpx.ConnectError("died")
        await super().insert(token, rows)
        if fate == "answer lost":
            raise httpx.ReadError("lost")


@pytest.fixture
async def stores(central):
    """A database of its own in the same servers."""
    if central.where["clickhouse"] is None:
        pytest.skip(f"no ClickHouse engine here: {central.where['note']}")
    admin = await asyncpg.connect(central.where["postgresql"])
    await admin.execute("DROP DATABASE IF EXISTS forwarding")
    await admin.execute("CREATE DATABASE forwarding")
    await admin.close()
    store = await PostgreSQL.connect(central.where["postgresql"].replace("/postgres?", "/forwarding?"))
    clickhouse = Unlucky(central.where["clickhouse"])
    clickhouse.script = []
    yield store, clickhouse
    await store.close()
    await clickhouse.close()


async def ingest(store, tenant, *events):
    from datetime import UTC, datetime

    rows = [validate(event, datetime.now(UTC)) for event in events]
    assert not any(isinstance(row, ErrorResponse) for row in rows), rows
    await store.ingest(tenant, rows)


async def run(store, clickhouse):
    """Passes until nothing is left; a failed pass is a process that died."""
    failures = 0
    async with store.pool.acquire() as connection:
        while True:
            try:
                if not await Forwarder(store.pool, clickhouse).step(connection):
                    return failures
            except httpx.HTTPError:
                failures += 1


def count(central, tenant):
    return json.loads(
        central.clickhouse(
            f"SELECT [count(), uniqExact(idempotency_key)] FROM central.events_raw WHERE tenant_id = '{tenant}'"
        )
    )


async def test_exactly_once_through_deaths_and_lost_answers(central, stores, monkeypatch):
    store, clickhouse = stores
    monkeypatch.setattr("central.forwarder.BLOCK", 30)
    events = [envelope("sensor_reading", idempotency_key=f"fw.once.{n}") for n in range(200)]
    await ingest(store, "once", *events[:120])
    clickhouse.script = ["ok", "answer lost", "dies before", "answer lost", "answer lost", "ok", "dies before"]
    assert await run(store, clickhouse) == 5
    await ingest(store, "once", *events)
    await run(store, clickhouse)
    assert count(central, "once") == [200, 200]
    assert (await store.counts())["outbox"] == 0


async def test_a_row_that_clickhouse_cannot_read_holds_nothing_up(central, stores):
    store, clickhouse = stores
    good = [envelope("sensor_reading", idempotency_key=f"fw.poison.{n}") for n in range(20)]
    bad = envelope("audit_trail", {"reading_value": "no number"}, idempotency_key="fw.poison.bad")
    await ingest(store, "poison", *good[:7], bad, *good[7:])
    await run(store, clickhouse)
    assert count(central, "poison") == [20, 20]
    counts = await store.counts()
    assert (counts["outbox"], counts["refused"]) == (0, 1)
    reason = await store.pool.fetchval("SELECT reason FROM olap_refused")
    assert "no number" not in reason


async def test_many_months_in_one_block(central, stores):
    store, clickhouse = stores
    events = [
        envelope("cart", occurred_at=f"{2001 + n // 12}-{n % 12 + 1:02}-01T00:00:00Z", idempotency_key=f"fw.months.{n}")
        for n in range(130)
    ]
    await ingest(store, "months", *events)
    await run(store, clickhouse)
    assert count(central, "months") == [130, 130]


def test_where_the_engine_cannot_run():
    assert "atomics" in str(why_no_clickhouse("aarch64", "Features : fp asimd crc32", 8 << 30))
    assert why_no_clickhouse("aarch64", "Features : fp asimd atomics", 8 << 30) is None
    assert "2 GiB" in str(why_no_clickhouse("x86_64", "", 1 << 30))
    assert "armv7l" in str(why_no_clickhouse("armv7l", "", 8 << 30))


async def test_an_error_that_nobody_foresaw_is_said_and_ends_nothing(stores, monkeypatch):
    monkeypatch.setattr("central.forwarder._FAILED", 0.05)
    store, clickhouse = stores
    forwarder = Forwarder(store.pool, clickhouse)
    steps = []

    async def step(_):
        steps.append(forwarder.last_error)
        raise asyncpg.InternalClientError("an unknown protocol state")

    forwarder.step = step
    running = asyncio.create_task(forwarder.run())
    async with asyncio.timeout(10):
        while len(steps) < 3:
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "an unknown protocol state" in steps[-1]
