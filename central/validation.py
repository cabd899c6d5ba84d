"""Events of a request, each validated alone: a row to store, or its problem."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import to_json

from central.problems import ProblemError, problem
from schemas.envelope import ENVELOPE
from schemas.problems import field_errors
from schemas.responses import ErrorResponse

MAX_EVENT = 64 << 10
_FIRST_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_CLOCK_AHEAD = timedelta(hours=24)


class Row(NamedTuple):
    """The columns of the ingest statement, in its order."""

    type: str
    occurred_at: datetime
    producer: str
    source_service: str
    user_id: str | None
    order_id: str | None
    session_id: str | None
    trace_id: str | None
    idempotency_key: str | None
    data_json: str
    payload_hash: bytes


def without_tenant(event: Any, tenant: str) -> Any:
    """The event as validated: a client may name its own tenant; ProblemError (403) when it names another."""
    if isinstance(event, dict) and "tenant_id" in event:
        if event["tenant_id"] != tenant:
            raise ProblemError(problem("other-tenant"))
        return {name: value for name, value in event.items() if name != "tenant_id"}
    return event


def validate(event: Any, now: datetime) -> Row | ErrorResponse:
    """One event, strictly: only JSON text distinguishes a time from a string that looks like a number."""
    text = to_json(event)
    if len(text) > MAX_EVENT:
        return problem("too-large", f"the event is larger than {MAX_EVENT} octets")
    try:
        envelope = ENVELOPE.validate_json(text)
    except ValidationError as error:
        return problem("validation", errors=field_errors(error))
    occurred_at = envelope.occurred_at.astimezone(UTC)
    if not _FIRST_TIME <= occurred_at <= now + _CLOCK_AHEAD:
        return problem("occurred-at-out-of-range", "occurred_at must lie between 2000 and one day from now")
    data = (
        envelope.data if isinstance(envelope.data, dict) else envelope.data.model_dump(mode="json", exclude_none=True)
    )
    data_json = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(f"{envelope.type}|{occurred_at.isoformat()}|{data_json}".encode()).digest()
    return Row(
        envelope.type,
        occurred_at,
        envelope.producer,
        envelope.source_service,
        envelope.user_id,
        envelope.order_id,
        envelope.session_id,
        envelope.trace_id,
        envelope.idempotency_key,
        data_json,
        digest[:16],
    )
