"""The ingestion API on a real PostgreSQL: answers, deduplication, tenants, hostile bodies."""

import gzip
import json
from datetime import UTC, datetime

import asyncpg
import httpx
import pytest
import zstandard
from samples import PATCH, PAYLOADS, envelope

from central.app import Api
from central.postgresql import Stored
from schemas.responses import ErrorResponse, IngestResponse


async def rows(central, key):
    connection = await asyncpg.connect(central.where["postgresql"])
    try:
        return await connection.fetch("SELECT * FROM events WHERE idempotency_key = $1", key)
    finally:
        await connection.close()


def batch(central, *events):
    answer = central.post("/v1/events/batch", {"events": list(events)})
    return answer, answer.json().get("results")


@pytest.mark.parametrize("event_type", [*sorted(PAYLOADS), "recall", "audit_trail"])
def test_every_type_is_taken(central, event_type):
    data = None if event_type in PAYLOADS else {"free": ["object"]}
    event = envelope(event_type, data, idempotency_key=f"api.{event_type}.1")
    answer, (result,) = batch(central, event)
    assert answer.status_code == 200, answer.text
    assert (result["index"], result["idempotency_key"], result["status"]) == (0, f"api.{event_type}.1", "ingested")
    IngestResponse.model_validate_json(json.dumps({k: result[k] for k in IngestResponse.model_fields}))


async def test_the_same_event_twice_is_one_row(central):
    event = envelope("sensor_reading", idempotency_key="api.twice.1")
    _, (first, second) = batch(central, event, event)
    _, (third,) = batch(central, event)
    assert [r["status"] for r in (first, second, third)] == ["ingested", "deduped", "deduped"]
    assert first["event_id"] == second["event_id"] == third["event_id"]
    assert len(await rows(central, "api.twice.1")) == 1


async def test_another_payload_under_a_known_key_the_first_wins(central):
    before = central.stats()["counters"].get("payload_differs", 0)
    event = envelope("sensor_reading", idempotency_key="api.differs.1")
    other = envelope(
        "sensor_reading", PAYLOADS["sensor_reading"] | {"reading_value": 1}, idempotency_key="api.differs.1"
    )
    _, results = batch(central, event, other)
    assert [r["status"] for r in results] == ["ingested", "deduped"]
    (row,) = await rows(central, "api.differs.1")
    assert json.loads(row["data_json"])["reading_value"] == 104.5
    assert central.stats()["counters"]["payload_differs"] == before + 1


def test_a_key_of_another_type_or_device_is_refused(central):
    event = envelope("sensor_reading", idempotency_key="api.reused.1")
    device = envelope(
        "sensor_reading", PAYLOADS["sensor_reading"] | {"device_id": "NFLX_ZZZZZZZZ"}, idempotency_key="api.reused.1"
    )
    answer, results = batch(central, event, envelope("dosage_delivery", idempotency_key="api.reused.1"), device)
    assert answer.status_code == 207
    assert [r["status"] for r in results] == ["ingested", "rejected", "rejected"]
    assert results[1]["problem"]["status"] == 422


def test_single(central):
    event = envelope("cart", idempotency_key=None)
    first = central.post("/v1/events", event, **{"idempotency-key": "api.single.1"})
    again = central.post("/v1/events", event, **{"idempotency-key": "api.single.1"})
    assert (first.status_code, again.status_code) == (201, 200)
    IngestResponse.model_validate_json(first.text)
    bad = central.post("/v1/events", envelope("cart", {}))
    assert bad.status_code == 422
    problem = ErrorResponse.model_validate_json(bad.text)
    assert problem.errors
    assert problem.errors[0].field.startswith("data.")


def test_a_bad_event_does_not_hold_the_good_ones(central):
    good, bad = envelope("cart", idempotency_key="api.mixed.1"), envelope("cart", {"cart_id": 7})
    answer, results = batch(central, bad, good, "no object")
    assert answer.status_code == 207
    assert [r["status"] for r in results] == ["rejected", "ingested", "rejected"]
    assert [r["index"] for r in results] == [0, 1, 2]


def test_times_out_of_range(central):
    _, results = batch(
        central,
        envelope("cart", occurred_at="1999-12-31T23:59:59Z", idempotency_key="api.old.1"),
        envelope("cart", occurred_at="2101-01-01T00:00:00Z", idempotency_key="api.future.1"),
        envelope("cart", occurred_at="2003-05-05T00:00:00+05:30", idempotency_key="api.past.1"),
    )
    assert [r["status"] for r in results] == ["rejected", "rejected", "ingested"]


def test_authorisation(central):
    url = central.url + "/v1/events/batch"
    for headers in ({}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic eA=="}):
        answer = httpx.post(url, json={"events": []}, headers=headers, trust_env=False)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        ErrorResponse.model_validate_json(answer.text)


def test_tenants(central):
    own = central.post("/v1/events", envelope("cart", idempotency_key="api.tenant.1", tenant_id="demo"))
    assert own.status_code == 201
    other = central.post("/v1/events", envelope("cart", idempotency_key="api.tenant.2", tenant_id="another"))
    assert other.status_code == 403
    whole = {"events": [envelope("cart", idempotency_key="api.tenant.3"), envelope("cart", tenant_id="another")]}
    assert central.post("/v1/events/batch", whole).status_code == 403
    again = central.post("/v1/events", envelope("cart", idempotency_key="api.tenant.3"))
    assert again.status_code == 201, "nothing of a refused request is stored"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b'{"events":{}}', {}, 400),
        (b'{"events":[]}', {}, 400),
        (b'{"events":[1],"more":1}', {}, 400),
        (b'{"events":[' + b"1," * 1_000 + b"1]}", {}, 413),
        (b"x", {"content-encoding": "br"}, 415),
        (b"x", {"content-encoding": "gzip"}, 400),
        (b"x", {"content-encoding": "zstd"}, 400),
        (gzip.compress(b" " * (6 << 20)), {"content-encoding": "gzip"}, 413),
        (zstandard.compress(b" " * (6 << 20)), {"content-encoding": "zstd"}, 413),
        (b" " * (6 << 20), {}, 413),
        (b'{"events":[' + b"[" * 300 + b"]" * 300 + b"]}", {}, 400),
    ],
)
def test_hostile_bodies(central, body, headers, status):
    answer = central.post("/v1/events/batch", body, **headers)
    assert answer.status_code == status
    ErrorResponse.model_validate_json(answer.text)


def test_an_event_that_is_too_large(central):
    event = envelope("audit_trail", {"text": "a" * 70_000}, idempotency_key="api.large.1")
    _, (result,) = batch(central, event)
    assert result["problem"]["status"] == 413


def test_a_device_id_too_long_for_an_index_is_that_events_problem(central):
    import random

    name = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9_000))
    good = envelope("cart", idempotency_key="api.index.1")
    _, results = batch(central, good, envelope("audit_trail", {"device_id": name}, idempotency_key="api.index.2"))
    assert [r["status"] for r in results] == ["ingested", "rejected"]


async def test_what_the_database_cannot_hold_is_that_events_problem():
    """Not a 503, which a gateway answers by sending it again for ever. No known event does this: so a stub."""

    class Store:
        pool = None

        async def ingest(self, _tenant, rows):
            if any(row.producer == "bad" for row in rows):
                raise asyncpg.DataError
            return [Stored(1, datetime.now(UTC), deduped=False) for _ in rows]

    events = [envelope("cart", idempotency_key=f"k.{n}", producer="bad" if n == 3 else "good") for n in range(6)]
    results = await Api(Store(), None, None)._ingest("tenant", events)
    assert [isinstance(result, ErrorResponse) for result in results] == [n == 3 for n in range(6)]


@pytest.mark.parametrize("digits", [100, 4_000, 5_000])
def test_long_numbers(central, digits):
    raw = json.dumps(envelope("audit_trail", {"n": 0}, idempotency_key=f"api.digits.{digits}"))
    answer = central.post("/v1/events", raw.replace('"n": 0', f'"n": {"9" * digits}').encode())
    assert answer.status_code == (201 if digits < 5_000 else 400)


def test_no_value_comes_back(central):
    event = envelope("sensor_reading", {"device_id": PATCH, "reading_value": "Jane Doe", "Jane Doe": 1})
    answer, _ = batch(central, event, envelope("Jane Doe", {}))
    assert "Jane" not in answer.text


def test_health_and_unknown_paths(central):
    assert httpx.get(central.url + "/healthz", trust_env=False).json()["status"] == "ok"
    for path, method, status in (("/v1/nothing", "GET", 404), ("/v1/events", "DELETE", 405)):
        answer = httpx.request(method, central.url + path, trust_env=False)
        assert answer.status_code == status
        ErrorResponse.model_validate_json(answer.text)
