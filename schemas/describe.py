"""The contract as JSON Schema."""

from typing import Any

from schemas.envelope import ENVELOPE
from schemas.event_types import EventType
from schemas.payloads import PAYLOADS


def json_schema(event_type: str | None = None) -> dict[str, Any] | None:
    """Of the IngestEnvelope with every payload, or of one type's payload; None for an unknown type."""
    if event_type is None:
        return ENVELOPE.json_schema() | {"title": "IngestEnvelope"}
    try:
        payload = PAYLOADS.get(EventType(event_type))
    except ValueError:
        return None
    return payload.model_json_schema() if payload else {"title": event_type, "type": "object"}
