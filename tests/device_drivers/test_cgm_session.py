"""What a glucose patch says beside its measurements, and how its records are numbered over a long wear."""

from datetime import UTC, datetime, timedelta

import pytest

from device_drivers.base import DeviceContext, Frame, Quirks, Write
from device_drivers.cgm_values import Annunciation
from device_drivers.emulated import cgm
from device_drivers.profiles.continuous_glucose import (
    FEATURE,
    MEASUREMENT,
    RUN_TIME,
    SESSION_START,
    SOCP,
    STATUS,
    decoder,
)  # fmt: skip
from schemas.audit_shapes import DeviceStatus
from schemas.event_types import EventType

START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
PATCH = "NFLX_0A1B2C3D"


def record(offset=5, **changes):
    return cgm.measurement(cgm.Record(120, offset, trend=20, quality=90, **changes))


class Decode:
    """A decoder that has read feature and session start; `at` is how long the session runs."""

    def __init__(self, **facts):
        self.decoder = decoder(DeviceContext(PATCH, facts=facts))
        self(FEATURE, cgm.feature())
        self(SESSION_START, cgm.session_start(START))

    def __call__(self, channel, payload, *, at=timedelta(hours=1), live=None):
        return self.decoder.receive(Frame(PATCH, channel, payload, START + at, live))

    def facts(self, *offsets, live):
        found = [self(MEASUREMENT, record(offset), at=timedelta(minutes=offset), live=live) for offset in offsets]
        return {name: value for each in found for name, value in each.facts.items()}

    def sequences(self, *offsets, at=timedelta(hours=1), live=None):
        found = [self(MEASUREMENT, record(offset), at=at, live=live) for offset in offsets]
        return [seen.place.sequence for each in found for seen in each.observations]


def statuses(decoded):
    return [seen for seen in decoded.observations if seen.type is EventType.AUDIT_TRAIL]


def test_a_fault_is_an_event_when_it_begins_and_when_it_ends():
    decode = Decode()
    (begun,) = statuses(decode(MEASUREMENT, record(5, status=0x08)))
    assert begun.place == ("cgm_sensor_malfunction", 20261124080000, 5)
    assert (begun.data["code"], begun.data["severity"]) == ("sensor_malfunction", "fault")
    assert begun.occurred_at == begun.data["timestamp"] == "2026-11-24T08:05:00+00:00"
    assert statuses(decode(MEASUREMENT, record(6, status=0x08))) == []
    (ended,) = statuses(decode(MEASUREMENT, record(7)))
    assert (ended.data["code"], ended.data["severity"], ended.data["detail"]) == ("sensor_malfunction", "info", "ended")


@pytest.mark.parametrize("bit", range(16))
def test_every_bit_is_said_or_is_in_the_reading(bit):
    """Unknown ones are kept and marked; those of calibration are in `calibration_status`."""
    octets = {"status": 1 << bit} if bit < 8 else {"calibration": 1 << bit - 8}
    codes = [seen.data["code"] for seen in statuses(Decode()(MEASUREMENT, record(5, **octets)))]
    assert codes == [] if bit in {9, 10, 11, 14} else len(codes) == 1
    if bit in {6, 7, 15}:
        assert codes == [f"reserved_status_bit_{bit}"]
    for seen in statuses(Decode()(MEASUREMENT, record(5, **octets))):
        DeviceStatus.model_validate_json(str(seen.data).replace("'", '"'))


def test_the_status_that_is_read():
    (seen,) = statuses(Decode()(STATUS, cgm.with_crc(b"\x05\x00\x02\x00\x00")))
    assert (seen.data["code"], seen.data["severity"]) == ("device_battery_low", "warning")


def test_the_status_octets_in_nordics_order_are_a_quirk_of_the_model():
    """T1: read as specified, a stopped session would look like a low glucose."""
    value = cgm.with_crc(b"\x05\x00\x04\x00\x01")
    nordic = decoder(
        DeviceContext(
            PATCH,
            facts={"cgm_boot": 20261124080000, "cgm_start": START.isoformat()},
            quirks=Quirks(cgm_status_order="warning_first"),
        )
    )
    (seen,) = statuses(nordic.receive(Frame(PATCH, STATUS, value, START)))
    assert seen.data["code"] == "session_stopped"
    assert Annunciation(1).status == 1


def test_run_time_and_interval_are_facts():
    decode = Decode()
    assert decode(RUN_TIME, cgm.with_crc(b"\x68\x01")).facts == {"cgm_run_time": 360}
    assert decode(SOCP, cgm.with_crc(b"\x03\x05")).facts == {"cgm_interval": 5}
    # T10: two octets in the supplement's text
    assert decode(SOCP, cgm.with_crc(b"\x03\x05\x00")).facts == {"cgm_interval": 5}
    assert decode(SOCP, cgm.with_crc(b"\x1c\x02\x02")).facts == {}


@pytest.mark.parametrize(("feature", "octets"), [(cgm.feature(), "025c7a"), (b"\x6e\x8e\x01\x16\xff\xff", "02")])
def test_the_interval_is_asked_for_with_the_crc_the_feature_demands(feature, octets):
    """T3: feature first."""
    made = decoder(DeviceContext(PATCH))
    (write,) = made.receive(Frame(PATCH, FEATURE, feature, START)).writes
    assert write.channel == SOCP
    assert write.payload[0] == 0x02
    assert len(write.payload) == len(octets) // 2
    if len(write.payload) > 1:
        assert write == Write(SOCP, cgm.with_crc(b"\x02"))


def test_fetched_records_tell_their_spacing_and_live_ones_do_not():
    decode = Decode()
    assert "cgm_spacing" not in decode.facts(5, 10, live=True)
    assert decode.facts(20, 25, live=False)["cgm_spacing"] == 5
    assert decode.facts(26, 27, live=False)["cgm_spacing"] == 1
    assert decode.facts(32, 37, live=False).get("cgm_spacing") is None


def test_a_live_record_that_goes_back_is_kept_aside_and_the_session_read_again():
    """It may be another session's: under this one's key it would look like a double, and be lost."""
    decode = Decode()
    decode.sequences(50, live=True)
    found = decode(MEASUREMENT, record(1), live=True)
    assert found.observations == []
    assert "goes back" in found.refused[0].reason
    assert found.refused[0].place is None
    assert found.reads == [SESSION_START, STATUS]
    assert decode.sequences(1, live=False) == [1]
    assert decode.sequences(1, live=None) == [1]  # a capture does not say who asked


def test_t12_the_offset_wraps_after_45_days():
    decode = Decode()
    late = timedelta(minutes=65_535)
    assert decode.sequences(65_534, 65_535, at=late) == [65_534, 65_535]
    found = decode(MEASUREMENT, record(2), at=late + timedelta(minutes=3), live=True).observations[0]
    assert found.place.sequence == 65_538
    assert found.occurred_at == (START + timedelta(minutes=65_538)).isoformat()
    assert decode.sequences(65_530, at=late + timedelta(minutes=4)) == [65_530]
    assert decode.sequences(3, at=late + timedelta(minutes=5)) == [65_539]


def test_t12_an_old_record_is_no_wrap():
    decode = Decode()
    assert decode.sequences(40_000, 10, at=timedelta(minutes=40_001)) == [40_000, 10]


def test_a_record_without_a_result_has_a_place_all_the_same():
    body = b"\x03\xff\x07\x05\x00" + cgm.sfloat(0) + cgm.sfloat(90)
    (piece,) = Decode()(MEASUREMENT, cgm.with_crc(bytes([len(body) + 3]) + body)).refused
    assert piece.place == ("cgm", 20261124080000, 5)
