"""WireEvent: an envelope serialised once; the sealed bytes are the sent bytes."""

from typing import NamedTuple

from schemas.envelope import IngestEnvelope


class WireEvent(NamedTuple):
    """`body` is the JSON of one IngestEnvelope, `idempotency_key` the key inside it."""

    idempotency_key: str
    body: bytes


def to_wire(envelope: IngestEnvelope) -> WireEvent:
    """Serialise an envelope that has a key; ValueError without one."""
    if envelope.idempotency_key is None:
        raise ValueError("an event without an idempotency key must not leave the gateway")
    return WireEvent(envelope.idempotency_key, envelope.to_json())
