"""From what a patch said to an event ready to seal: completed, validated once, serialised once."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from buffer.lanes import Lane, lane_of
from schemas.envelope import ENVELOPES
from schemas.event_types import EventType
from schemas.problems import field_errors, sentence
from schemas.wire import WireEvent, to_wire

SOURCE_SERVICE = "patch-gateway"


@dataclass(frozen=True, slots=True)
class Wearer:
    """Whose event it is: the patient's token and the wear session."""

    patient: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """An event and the lane it travels in."""

    event: WireEvent
    lane: Lane


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why there is no event: `missing:<field>`, or which fields are wrong."""

    reason: str


def make_event(
    event_type: EventType,
    data: Mapping[str, Any],
    *,
    occurred_at: str | None,
    gateway_id: str,
    key: str,
    wearer: Wearer = Wearer(),
) -> Ready | Unfit:
    """One envelope as the central service takes it, or why not."""
    fields = {
        "type": event_type,
        "data": data,
        "occurred_at": occurred_at,
        "producer": gateway_id,
        "source_service": SOURCE_SERVICE,
        "user_id": wearer.patient,
        "session_id": wearer.session_id,
        "trace_id": secrets.token_hex(16),
        "idempotency_key": key,
    }
    try:
        envelope = ENVELOPES[event_type].model_validate_json(to_json(fields, exclude_none=True))
    except ValidationError as error:
        return Unfit(reason_of(error))
    return Ready(to_wire(envelope), lane_of(event_type, data))


def at_time(event: WireEvent, captured: datetime, true: datetime) -> WireEvent | Unfit:
    """The event with the true time wherever it has the one of its capture, by a clock that was wrong."""
    body = from_json(event.body)
    for fields in (body, body["data"]):
        for name, value in fields.items():
            if _is_time(value, captured):
                fields[name] = true.isoformat()
    try:
        return to_wire(ENVELOPES[EventType(body["type"])].model_validate_json(to_json(body)))
    except ValidationError as error:
        return Unfit(reason_of(error))


def _is_time(value: object, moment: datetime) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) == moment
    except (ValueError, TypeError):
        return False


def reason_of(error: ValidationError) -> str:
    """`missing:<field>` where fields are missing, else which are wrong. A time the patch left out stands twice in an
    envelope; the payload's field is named.
    """
    missing = [str(entry["loc"][-1]) for entry in error.errors() if entry["type"] == "missing"]
    own = [name for name in missing if name != "occurred_at"] or missing
    return f"missing:{','.join(own)}" if missing else sentence(field_errors(error))
