"""Battery, device information, current time, and what an advertisement says."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from device_drivers import advertising
from device_drivers.base import Channel, DecodeError, DeviceContext, Frame, GattPlan
from device_drivers.profiles import battery, current_time, device_information
from device_drivers.registry import gatt_plans

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PATCH = "NFLX_0A1B2C3D"


def decode(profile, channel, value):
    payload = bytes.fromhex(value) if isinstance(value, str) else value
    return profile.decoder(DeviceContext(PATCH)).receive(Frame(PATCH, channel, payload, NOW))


def test_battery():
    found = decode(battery, battery.LEVEL, "57")
    assert found.facts == {"battery_level": 87}
    (seen,) = found.observations
    assert (seen.place, seen.data["code"], seen.data["detail"]) == (None, "battery_level", "87 %")
    for wrong in ("65", "", "0000"):
        with pytest.raises(DecodeError):
            decode(battery, battery.LEVEL, wrong)


@pytest.mark.parametrize(
    ("uuid", "value", "facts"),
    [
        ("2a24", b"Guardian 4\0", {"model_number": "Guardian 4"}),
        ("2a29", b"", {"manufacturer_name": ""}),
        # a real Guardian Link 3
        ("2a50", "01F90100000001", {"pnp_id": "bluetooth vendor 0x01F9 product 0x0000 v0100"}),
        ("2a23", "0000000000DC16A2", {"system_id": "a216dc0000000000"}),
        ("2bff", b"\x03label\0(01)123\0", {"udi_label": "label", "udi_device_identifier": "(01)123"}),
        ("2bff", b"\x0aDI\0OID\0", {"udi_device_identifier": "DI", "udi_authority": "OID"}),
        ("2bff", b"\0", {}),
    ],
)
def test_device_information(uuid, value, facts):
    assert decode(device_information, Channel("180a", uuid), value).facts == facts


@pytest.mark.parametrize(
    ("uuid", "value"),
    [("2a24", b"\xff\xfe"), ("2a24", b"a\nb"), ("2a50", "01"), ("2a23", "00"), ("2bff", b""), ("2bff", b"\x01no end")],
)
def test_device_information_of_another_form(uuid, value):
    with pytest.raises(DecodeError):
        decode(device_information, Channel("180a", uuid), value)


@pytest.mark.parametrize(
    ("value", "clock"),
    [
        ("EA070B180C000002000000"[:20], "0 min ahead of UTC"),
        ("EA070B180D1E0002000000"[:20], "90 min ahead of UTC"),
        ("EA070B1801000002000000"[:20], "660 min behind UTC"),
        ("00000000000000000000", "not set"),
    ],
)
def test_current_time(value, clock):
    assert decode(current_time, current_time.CURRENT_TIME, value).facts == {"clock": clock}


def test_current_time_of_another_length():
    with pytest.raises(DecodeError):
        decode(current_time, current_time.CURRENT_TIME, "00")


def test_device_information_is_read_first_and_records_last():
    plans = gatt_plans(["continuous_glucose", "battery", "device_information", "mqtt_topics"])
    assert [plan.service for plan in plans] == ["180a", "180f", "181f"]
    assert plans[0].reads[0] == device_information.MODEL


LOUD = GattPlan("feed", advertised=lambda octets: (octets[0] == 1, octets[1]) if len(octets) == 2 else None)
FEED = "0000feed-0000-1000-8000-00805f9b34fb"


def test_an_urgent_flag_in_an_advertisement():
    assert advertising.read({FEED: b"\x01\x07"}, [GattPlan("181f"), LOUD]) == (True, 7)
    assert advertising.read({FEED: b"\x01"}, [LOUD]) == advertising.NOTHING
    assert advertising.read({FEED: b"\x01\x07"}, [GattPlan("feed")]) == advertising.NOTHING


@given(st.dictionaries(st.text(max_size=40) | st.just(FEED), st.binary(max_size=40), max_size=4))
def test_any_advertisement(service_data):
    advertising.read(service_data, [*gatt_plans(["continuous_glucose", "battery"]), LOUD])
