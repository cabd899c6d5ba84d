"""What the central service answers (contract section 4)."""

from typing import Literal

from schemas.base import DateTime, JsonObject, Model, Text, Uri
from schemas.event_types import EventType


class IngestResponse(Model):
    """4.1: the fate of one event."""

    event_id: Text
    status: Literal["ingested", "queued", "deduped"]
    deduped: bool
    received_at: DateTime


class Event(Model):
    """4.2: a stored event."""

    id: Text
    type: EventType
    occurred_at: DateTime
    received_at: DateTime
    producer: Text
    source_service: Text
    user_id: Text | None = None
    order_id: Text | None = None
    session_id: Text | None = None
    trace_id: Text | None = None
    data: JsonObject


class EventsResponse(Model):
    """4.3: one page of events."""

    items: list[Event]
    total: int
    has_more: bool
    next_cursor: Text | None = None


class FieldError(Model):
    """One field and what is wrong with it; never its value."""

    field: Text
    message: Text


class ErrorResponse(Model):
    """4.4: a problem (RFC 9457)."""

    type: Uri
    title: Text
    status: int
    detail: Text | None = None
    instance: Uri | None = None
    errors: list[FieldError] | None = None
