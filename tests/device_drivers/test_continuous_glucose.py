"""Measurements to contract fields, with the session they belong to."""

from datetime import UTC, datetime, timedelta

import pytest

from device_drivers.base import DecodeError, DeviceContext, Frame
from device_drivers.emulated import cgm
from device_drivers.profiles.continuous_glucose import FEATURE, MEASUREMENT, SESSION_START, decoder

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
PATCH = "NFLX_0A1B2C3D"


def frame(channel, payload, at=NOW):
    return Frame(PATCH, channel, payload, at)


def record(offset=5, glucose=120, **changes):
    return cgm.measurement(cgm.Record(glucose, offset, trend=20, quality=90, **changes))


@pytest.fixture
def decode():
    made = decoder(DeviceContext(PATCH))
    made.receive(frame(FEATURE, cgm.feature()))
    made.receive(frame(SESSION_START, cgm.session_start(START)))
    return made


def test_a_reading(decode):
    found = decode.receive(frame(MEASUREMENT, record()))
    (seen,) = found.observations
    assert seen.place == ("cgm", 20261124080000, 5)
    assert seen.occurred_at == "2026-11-24T08:05:00+00:00"
    assert seen.data == {
        "device_id": PATCH,
        "sensor_type": "glucose",
        "reading_value": 120.0,
        "unit_of_measurement": "mg/dL",
        "timestamp": "2026-11-24T08:05:00+00:00",
        "reading_quality": "high",
        "calibration_status": "calibrated",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"quality": 70}, {"reading_quality": "high"}),
        ({"quality": 69}, {"reading_quality": "medium"}),
        ({"quality": 39}, {"reading_quality": "low"}),
        ({"status": 0x08}, {"reading_quality": "error"}),
        ({"warning": 0x80}, {"reading_quality": "error", "alert_triggered": False}),
        ({"warning": 0x04}, {"alert_triggered": True}),
        ({"status": 0x10}, {"alert_triggered": True}),
        ({"calibration": 0x08}, {"calibration_status": "needs_calibration"}),
        ({"calibration": 0x02}, {"calibration_status": "calibrated"}),
    ],
)
def test_annunciation(decode, changes, expected):
    fields = {"glucose": 120, "offset": 5, "trend": 0, "quality": 90, **changes}
    *_, seen = decode.receive(frame(MEASUREMENT, cgm.measurement(cgm.Record(**fields)))).observations
    assert {name: seen.data.get(name) for name in expected} == expected


def test_a_number_is_not_turned_into_a_direction(decode):
    (seen,) = decode.receive(frame(MEASUREMENT, record())).observations
    assert "trend_direction" not in seen.data
    assert "clinical_significance" not in seen.data


def test_without_a_session_start_nothing_is_invented():
    made = decoder(DeviceContext(PATCH))
    found = made.receive(frame(MEASUREMENT, record()))
    assert found.observations == []
    assert "session start" in found.refused[0].reason


def test_a_given_boot_and_an_anchored_clock():
    """A capture that begins in the middle: the boot comes from the command line, the clock from the first record."""
    made = decoder(DeviceContext(PATCH, boot=3))
    first = made.receive(frame(MEASUREMENT, record(offset=10)))
    later = made.receive(frame(MEASUREMENT, record(offset=11), NOW + timedelta(minutes=3)))
    assert first.observations[0].occurred_at == NOW.isoformat()
    assert later.observations[0].occurred_at == (NOW + timedelta(minutes=1)).isoformat()
    assert later.observations[0].place.boot == 3


def test_impossible_years():
    for year in (1999, 2100, 9998):
        found = decoder(DeviceContext(PATCH)).receive(frame(SESSION_START, cgm.session_start(START.replace(year=year))))
        assert "year" in found.refused[0].reason
        assert found.facts == {}


def test_facts_survive_a_restart(decode):
    facts = {"cgm_feature": cgm.FEATURE_BITS, "cgm_boot": 20261124080000, "cgm_start": START.isoformat()}
    again = decoder(DeviceContext(PATCH, facts=facts))
    assert again.receive(frame(MEASUREMENT, record())) == decode.receive(frame(MEASUREMENT, record()))


def test_special_values_are_set_aside(decode):
    nan = cgm.with_crc(b"\x0e\x03\xff\x07\x05\x00" + cgm.sfloat(0) + cgm.sfloat(90))
    value = cgm.with_crc(bytes([len(nan)]) + nan[1:-2])
    found = decode.receive(frame(MEASUREMENT, value))
    assert found.observations == []


def test_one_bad_record_does_not_take_the_good_one_with_it(decode):
    good, bad = record(offset=5), bytearray(record(offset=6))
    bad[-1] ^= 1
    found = decode.receive(frame(MEASUREMENT, good + bytes(bad)))
    assert [seen.place.sequence for seen in found.observations] == [5]
    assert [piece.payload for piece in found.refused] == [bytes(bad)]


def test_what_cannot_be_split(decode):
    with pytest.raises(DecodeError):
        decode.receive(frame(MEASUREMENT, b"\x00\x00"))
    with pytest.raises(DecodeError):
        decode.receive(frame(FEATURE, b"\x00"))
