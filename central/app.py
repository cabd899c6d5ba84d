"""The HTTP API: `POST /v1/events/batch`, `POST /v1/events`, `GET /v1/stats`, `GET /healthz`."""

import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from central.auth import Keys
from central.bodies import MAX_BODY, events_of, inflate, parse
from central.clickhouse import ClickHouse, ClickHouseError
from central.forwarder import Forwarder
from central.postgresql import PostgreSQL, Stored
from central.problems import ProblemError, problem, problem_response
from central.validation import Row, validate, without_tenant
from schemas.responses import ErrorResponse, IngestResponse

log = logging.getLogger(__name__)

_RETRY_LATER = {"Retry-After": "5"}
_OUTAGE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class Api:
    """The service's handlers and counters."""

    def __init__(self, store: PostgreSQL, clickhouse: ClickHouse | None, forwarder: Forwarder | None) -> None:
        self._store, self._clickhouse, self._forwarder = store, clickhouse, forwarder
        self.keys = Keys(store.pool)
        self.counters: Counter[str] = Counter()

    def application(self) -> Starlette:
        routes = [
            Route("/v1/events/batch", self._guarded(self.batch), methods=["POST"]),
            Route("/v1/events", self._guarded(self.single), methods=["POST"]),
            Route("/v1/stats", self._guarded(self.stats), methods=["GET"]),
            Route("/healthz", self._guarded(self.health), methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_problem, Exception: _internal})

    def _guarded(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except ProblemError as error:
                return problem_response(error.problem, error.headers)
            except _OUTAGE as error:
                log.warning("PostgreSQL does not answer error=%s", type(error).__name__)
                return problem_response(problem("unavailable", "the database does not answer"), _RETRY_LATER)

        return guarded

    async def batch(self, request: Request) -> Response:
        """200 when every event is accepted, 207 otherwise; results in the order sent, each with its index and key."""
        caller = await self.keys.caller(request, "ingest")
        events = events_of(await _body(request))
        results = await self._ingest(caller.tenant, events)
        shown = []
        for index, (event, result) in enumerate(zip(events, results, strict=True)):
            key = event.get("idempotency_key") if isinstance(event, dict) else None
            about = {"index": index, "idempotency_key": key if isinstance(key, str) else None}
            if isinstance(result, ErrorResponse):
                shown.append(about | {"status": "rejected", "problem": result.model_dump(exclude_none=True)})
            else:
                shown.append(about | result.model_dump())
        status = 207 if any(isinstance(result, ErrorResponse) for result in results) else 200
        answer = to_json({"batch_id": uuid.uuid4().hex, "results": shown})
        return Response(answer, status, media_type="application/json")

    async def single(self, request: Request) -> Response:
        """201 ingested, 200 deduped, or the event's problem."""
        caller = await self.keys.caller(request, "ingest")
        event = parse(await _body(request))
        header = request.headers.get("idempotency-key")
        if header and isinstance(event, dict):
            event.setdefault("idempotency_key", header)
        result = (await self._ingest(caller.tenant, [event]))[0]
        if isinstance(result, ErrorResponse):
            return problem_response(result)
        return Response(result.to_json(), 200 if result.deduped else 201, media_type="application/json")

    async def stats(self, request: Request) -> Response:
        """Row counts of both stores, over all tenants: needs the scope `admin`."""
        await self.keys.caller(request, "admin")
        clickhouse = None
        if self._clickhouse:
            try:
                clickhouse = await self._clickhouse.counts()
            except (httpx.HTTPError, ClickHouseError):
                return problem_response(problem("unavailable", "ClickHouse does not answer"), _RETRY_LATER)
        shown = {"postgresql": await self._store.counts(), "clickhouse": clickhouse, "counters": dict(self.counters)}
        return Response(to_json(shown), media_type="application/json")

    async def health(self, _request: Request) -> Response:
        """200 while PostgreSQL answers; ClickHouse being away is said, and waited out by the outbox."""
        await self._store.pool.fetchval("SELECT 1")
        shown = {
            "status": "ok",
            "postgresql": "ok",
            "clickhouse": "not configured" if self._forwarder is None else self._forwarder.last_error or "ok",
        }
        return Response(to_json(shown), media_type="application/json")

    async def _ingest(self, tenant: str, events: list[Any]) -> list[IngestResponse | ErrorResponse]:
        now = datetime.now(UTC)
        checked = [validate(without_tenant(event, tenant), now) for event in events]
        rows = [row for row in checked if isinstance(row, Row)]
        stored = iter(await self._store_rows(tenant, rows))
        return [self._answer(next(stored)) if isinstance(found, Row) else self._rejected(found) for found in checked]

    async def _store_rows(self, tenant: str, rows: list[Row]) -> list[Stored | ErrorResponse]:
        """What PostgreSQL cannot hold is that row's problem: it must not be answered "later" for ever."""
        if not rows:
            return []
        try:
            return list(await self._store.ingest(tenant, rows))
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError):
            if len(rows) == 1:
                return [problem("validation", "the database cannot hold a value in it")]
        middle = len(rows) // 2
        return [*await self._store_rows(tenant, rows[:middle]), *await self._store_rows(tenant, rows[middle:])]

    def _rejected(self, found: ErrorResponse) -> ErrorResponse:
        self.counters["rejected"] += 1
        return found

    def _answer(self, stored: Stored | ErrorResponse) -> IngestResponse | ErrorResponse:
        if isinstance(stored, ErrorResponse):
            return self._rejected(stored)
        if not stored.same_identity:
            self.counters["rejected"] += 1
            return problem("idempotency-key-reused", "its first event has another type or device")
        if not stored.same_payload:
            self.counters["payload_differs"] += 1
            log.warning(
                "payload_differs: a known key came with another payload, the first is kept event=%d", stored.event_id
            )
        status = "deduped" if stored.deduped else "ingested"
        self.counters[status] += 1
        return IngestResponse(
            event_id=str(stored.event_id),
            status="deduped" if stored.deduped else "ingested",
            deduped=stored.deduped,
            received_at=stored.received_at,
        )


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            break  # `inflate` says that it is too large
    return inflate(body, request.headers.get("content-encoding", "").strip().lower())


async def _http_problem(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    kind = {404: "not-found", 405: "method-not-allowed"}.get(status, "internal")
    return problem_response(problem(kind))


async def _internal(_request: Request, error: Exception) -> Response:
    log.error("internal error type=%s", type(error).__name__)
    return problem_response(problem("internal"))
