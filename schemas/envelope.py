"""IngestEnvelope (contract 2.2): one event on its way to the central service."""

from typing import Annotated, Any, Literal, Union

from pydantic import Field, TypeAdapter, create_model

from schemas.base import DateTime, IdempotencyKey, JsonObject, Label, Model
from schemas.event_types import EventType
from schemas.payloads import PAYLOADS


class IngestEnvelope(Model):
    """The fields all envelopes share; `ENVELOPE` validates `data` by `type`.

    `tenant_id` is absent on the wire: the server assigns it from the API key.
    """

    type: EventType
    data: Any
    occurred_at: DateTime
    producer: Label
    source_service: Label
    user_id: Label | None = None
    order_id: Label | None = None
    session_id: Label | None = None
    trace_id: Label | None = None
    idempotency_key: IdempotencyKey | None = None


def _envelope_of(event_type: EventType) -> type[IngestEnvelope]:
    return create_model(
        f"IngestEnvelope_{event_type.value}",
        __base__=IngestEnvelope,
        type=(Literal[event_type], ...),  # type: ignore[arg-type] # a literal of a variable
        data=(PAYLOADS.get(event_type, JsonObject), ...),
    )


ENVELOPES: dict[EventType, type[IngestEnvelope]] = {event_type: _envelope_of(event_type) for event_type in EventType}

ENVELOPE: TypeAdapter[IngestEnvelope] = TypeAdapter(
    Annotated[Union[tuple(ENVELOPES.values())], Field(discriminator="type")]  # type: ignore[arg-type]  # noqa: UP007 - built from a table, which `|` cannot
)
