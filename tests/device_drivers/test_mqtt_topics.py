"""Topics and payloads of MQTT patches."""

import json
from datetime import UTC, datetime

import pytest

from device_drivers.base import Channel, DecodeError, DeviceContext, Frame
from device_drivers.profiles.mqtt_topics import decoder, parse_topic

PATCH = "NFLX_0A1B2C3D"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def receive(kind, payload):
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return decoder(DeviceContext(PATCH)).receive(Frame(PATCH, Channel("mqtt", kind), raw, NOW))


def numbered(**fields):
    return {"device_id": PATCH, "boot": 3, "sequence": 9, **fields}


@pytest.mark.parametrize(
    ("topic", "parsed"),
    [
        ("patches/v1/NFLX_0A1B2C3D/sensor", ("NFLX_0A1B2C3D", Channel("mqtt", "sensor"))),
        ("patches/v1/x/alert", ("x", Channel("mqtt", "alert"))),
        ("patches/v1/x/command", None),
        ("patches/v1//sensor", None),
        ("patches/v1/x/y/sensor", None),
        ("patches/v2/x/sensor", None),
        ("x/patches/v1/x/sensor", None),
        ("", None),
    ],
)
def test_topics(topic, parsed):
    assert parse_topic(topic) == parsed


def test_the_counters_leave_the_payload():
    (seen,) = receive("sensor", numbered(timestamp="t", reading_value=1)).observations
    assert (seen.place, seen.occurred_at) == (("sensor", 3, 9), "t")
    assert seen.data == {"device_id": PATCH, "timestamp": "t", "reading_value": 1}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"device_id": "NFLX_00000000", "boot": 1, "sequence": 1}, "not the device of the topic"),
        ({"boot": 1, "sequence": 1}, "missing:device_id"),
        ({"device_id": PATCH, "sequence": 1}, "missing:boot"),
        ({"device_id": PATCH, "boot": 1}, "missing:sequence"),
        ({"device_id": PATCH, "boot": True, "sequence": 1}, "boot: must be a whole number"),
        ({"device_id": PATCH, "boot": 1, "sequence": -1}, "sequence: must be"),
        ({"device_id": PATCH, "boot": 1, "sequence": 2**63}, "sequence: must be"),
        ({"device_id": PATCH, "boot": 1, "sequence": 1.0}, "sequence: must be"),
    ],
)
def test_refused(payload, reason):
    found = receive("sensor", payload)
    assert found.observations == []
    assert reason in found.refused[0].reason


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"1", b"\xff", b'{"a":NaN}', b"[" * 100_000])
def test_not_json(raw):
    with pytest.raises(DecodeError):
        receive("sensor", raw)


def test_status_is_an_audit_trail_of_one_shape():
    fields = numbered(timestamp="2026-11-24T00:00:00Z", code="occlusion", severity="fault", detail="line 2")
    (seen,) = receive("status", fields).observations
    assert seen.type == "audit_trail"
    assert seen.data["kind"] == "device_status"
    for change in ({"severity": "bad"}, {"code": "Not A Code"}, {"kind": "gap_marker"}, {"extra": 1}):
        assert receive("status", {**fields, **change}).refused


def test_adhesion_has_no_other_fields():
    (seen,) = receive("adhesion", numbered(timestamp="t", adhesion_quality="good")).observations
    assert seen.data == {"device_id": PATCH, "adhesion_quality": "good"}
    assert receive("adhesion", numbered(timestamp="t", adhesion_quality="good", application_site="back")).refused
