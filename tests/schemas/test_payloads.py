"""Golden samples, and what a strict contract refuses: each with an error that names the field and shows no value."""

import copy
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from samples import PAYLOADS, envelope

from schemas.describe import json_schema
from schemas.envelope import ENVELOPE
from schemas.event_types import EventType
from schemas.payloads import PAYLOADS as MODELS
from schemas.problems import field_errors, sentence
from schemas.responses import ErrorResponse, EventsResponse, FieldError, IngestResponse
from schemas.wire import to_wire

GOLDEN = Path(__file__).parents[1] / "golden"


def errors_of(document) -> list:
    text = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(ValidationError) as caught:
        ENVELOPE.validate_json(text)
    return field_errors(caught.value)


def test_there_is_a_sample_per_payload():
    assert set(PAYLOADS) == {event_type.value for event_type in MODELS}


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
def test_golden(event_type):
    """The bytes on the wire are pinned; every field of the model is in the sample."""
    found = ENVELOPE.validate_json(json.dumps(envelope(event_type)))
    wire = to_wire(found).body.decode()
    path = GOLDEN / f"{event_type}.json"
    assert wire == path.read_text().rstrip("\n")
    assert set(json.loads(wire)["data"]) == set(MODELS[EventType(event_type)].model_fields)
    assert ENVELOPE.validate_json(wire) == found


@pytest.mark.parametrize("event_type", sorted(set(EventType) - set(MODELS)))
def test_types_without_a_section_take_any_object(event_type):
    found = ENVELOPE.validate_json(json.dumps(envelope(event_type, {"any": [1, {"thing": None}]})))
    assert found.data == {"any": [1, {"thing": None}]}
    assert errors_of(envelope(event_type, [1]))[0].field == "data"


BAD = [
    ("sensor_reading", ("data", "reading_value"), True, "data.reading_value"),
    ("sensor_reading", ("data", "reading_value"), "5", "data.reading_value"),
    ("sensor_reading", ("data", "reading_value"), float("nan"), "data.reading_value"),
    ("sensor_reading", ("data", "reading_value"), float("-inf"), "data.reading_value"),
    ("sensor_reading", ("data", "sensor_type"), "heart", "data.sensor_type"),
    ("sensor_reading", ("data", "timestamp"), "2026-11-25T11:16:31", "data.timestamp"),
    ("sensor_reading", ("data", "timestamp"), "2026-11-25 11:16:31Z", "data.timestamp"),
    ("sensor_reading", ("data", "timestamp"), "1795000000", "data.timestamp"),
    ("sensor_reading", ("data", "timestamp"), 1795000000, "data.timestamp"),
    ("sensor_reading", ("data", "timestamp"), "2026-02-30T10:15:30Z", "data.timestamp"),
    ("sensor_reading", ("data", "timestamp"), "0001-01-01T00:00:00+14:00", "data.timestamp"),
    ("sensor_reading", ("occurred_at",), "9999-12-31T23:59:59-14:00", "occurred_at"),
    ("sensor_reading", ("data", "device_id"), "NFLX_0a1b2c3d", "data.device_id"),
    ("sensor_reading", ("data", "device_id"), "NFLX_0A1B2C3", "data.device_id"),
    ("sensor_reading", ("data", "device_id"), "NFLX_0A1B2C3D\n", "data.device_id"),
    ("sensor_reading", ("data", "unit_of_measurement"), "a\0b", "data.unit_of_measurement"),
    ("sensor_reading", ("data", "extra"), 1, "data.extra"),
    ("sensor_reading", ("extra",), 1, "extra"),
    ("sensor_reading", ("tenant_id",), "t", "tenant_id"),
    ("sensor_reading", ("idempotency_key",), "a b", "idempotency_key"),
    ("sensor_reading", ("idempotency_key",), "", "idempotency_key"),
    ("sensor_reading", ("idempotency_key",), "a" * 256, "idempotency_key"),
    ("sensor_reading", ("producer",), "a" * 256, "producer"),
    ("sensor_reading", ("type",), "sensor", "type"),
    ("device_activation", ("data", "batch_number"), "BATCH_20260230_ABC", "data.batch_number"),
    ("device_activation", ("data", "batch_number"), "BATCH_20261301_ABC", "data.batch_number"),
    ("device_activation", ("data", "batch_number"), "BATCH_20260228_AB", "data.batch_number"),
    ("device_activation", ("data", "device_metadata", "expiry_date"), "2026-02-30", "data.device_metadata.expiry_date"),
    ("device_activation", ("data", "activation_location", "country"), "IND", "data.activation_location.country"),
    ("cart", ("data", "cart_total", "amount"), -0.01, "data.cart_total.amount"),
    ("cart", ("data", "cart_total", "currency"), "inr", "data.cart_total.currency"),
    ("cart", ("data", "items_added", 0, "quantity"), 0, "data.items_added.0.quantity"),
    ("cart", ("data", "items_added", 0, "quantity"), 1.5, "data.items_added.0.quantity"),
    ("cart", ("data", "items_added"), None, "data.items_added"),
    ("cart", ("data", "items_added"), [], "data.items_added"),
    ("cart", ("data", "cart_abandonment_duration"), "15 minutes", "data.cart_abandonment_duration"),
    ("cart", ("data", "cart_abandonment_duration"), "P", "data.cart_abandonment_duration"),
    ("cart", ("data", "cart_abandonment_duration"), "PT", "data.cart_abandonment_duration"),
    ("cart", ("data", "cart_abandonment_duration"), "-PT5M", "data.cart_abandonment_duration"),
    ("cart", ("data", "cart_abandonment_duration"), 900, "data.cart_abandonment_duration"),
    ("comparison", ("data", "products_compared"), ["a"], "data.products_compared"),
    ("payment", ("data", "risk_score"), 100.5, "data.risk_score"),
    ("feedback", ("data", "rating"), 6, "data.rating"),
    ("affiliate", ("data", "referral_url"), "not a uri", "data.referral_url"),
    ("audit_trail", ("data",), {"deep": "a\0"}, "data"),
]


@pytest.mark.parametrize(("event_type", "path", "value", "field"), BAD)
def test_refused(event_type, path, value, field):
    document = copy.deepcopy(envelope(event_type, {} if event_type == "audit_trail" else None))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    errors = errors_of(document)
    assert field in {error.field for error in errors}, errors
    if isinstance(value, str) and len(value) > 3:
        assert value not in sentence(errors)


@pytest.mark.parametrize("event_type", sorted(PAYLOADS))
def test_required_fields_are_named(event_type):
    model = MODELS[EventType(event_type)]
    required = {name for name, info in model.model_fields.items() if info.is_required()}
    errors = errors_of(envelope(event_type, {}))
    assert {f"data.{name}" for name in required} == {error.field for error in errors}


def test_values_are_not_quoted():
    """Neither an unknown type nor a key that is no field name is repeated: both could be a patient's."""
    assert "Jane" not in sentence(errors_of(envelope("sensor_reading", type="Jane Doe")))
    odd = envelope("sensor_reading", {**PAYLOADS["sensor_reading"], "Jane Doe, born 1961": 1})
    assert "Jane" not in sentence(errors_of(odd))


def test_nesting_is_bounded():
    deep: dict = {}
    for _ in range(40):
        deep = {"a": deep}
    assert "nested" in sentence(errors_of(envelope("audit_trail", deep)))


def test_an_event_without_a_key_does_not_leave():
    found = ENVELOPE.validate_json(json.dumps(envelope("cart", idempotency_key=None)))
    with pytest.raises(ValueError, match="idempotency key"):
        to_wire(found)


def test_json_schema():
    assert json_schema()["title"] == "IngestEnvelope"
    assert len(json_schema()["discriminator"]["mapping"]) == 45
    assert "reading_value" in json_schema("sensor_reading")["properties"]
    assert json_schema("recall") == {"title": "recall", "type": "object"}
    assert json_schema("sensor") is None


def test_responses():
    IngestResponse.model_validate_json(
        '{"event_id":"1","status":"deduped","deduped":true,"received_at":"2026-01-01T00:00:00Z"}'
    )
    EventsResponse.model_validate_json('{"items":[],"total":0,"has_more":false}')
    ErrorResponse.model_validate_json(
        '{"type":"urn:x:y","title":"t","status":422,"errors":[{"field":"a","message":"b"}]}'
    )
    with pytest.raises(ValidationError):
        IngestResponse.model_validate_json(
            '{"event_id":"1","status":"lost","deduped":true,"received_at":"2026-01-01T00:00:00Z"}'
        )


def test_an_unknown_field_may_have_the_name_of_an_event_type():
    """Found by the fuzzer: it was taken for the tag of the union."""
    with pytest.raises(ValidationError) as caught:
        FieldError.model_validate({"field": "x", "message": "y", "user": 1})
    assert sentence(field_errors(caught.value)) == "user: is not a field of the contract"
