"""What every profile promises: any bytes on any channel give payloads and refused pieces, or the one decode error."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings, strategies as st

from device_drivers.base import Decoded, DecodeError, DeviceContext, Frame, Quirks
from device_drivers.device_types import DEVICE_TYPES
from device_drivers.registry import all_profiles
from schemas.payloads import PAYLOADS

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PATCH = "NFLX_0A1B2C3D"
SPECIFIED = Quirks()
CHANNELS = sorted((name, channel) for name, profile in all_profiles().items() for channel in profile.CHANNELS)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
field_names = st.sampled_from(
    ["device_id", "boot", "sequence", "timestamp", "adhesion_quality", "code", "severity", "reading_value", "kind"]
)


def check(profile_name, channel, payloads, quirks=SPECIFIED, boot=None):
    decoder = all_profiles()[profile_name].decoder(DeviceContext(PATCH, quirks=quirks, boot=boot))
    for payload in payloads:
        try:
            decoded = decoder.receive(Frame(PATCH, channel, payload, NOW))
        except DecodeError:
            continue
        assert isinstance(decoded, Decoded)
        for seen in decoded.observations:
            assert seen.data["device_id"] == PATCH
            assert seen.place is None or seen.place.sequence >= 0


@pytest.mark.parametrize(("name", "channel"), CHANNELS)
@given(st.lists(st.binary(max_size=64), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_bytes(name, channel, payloads):
    check(name, channel, payloads, boot=1)
    check(name, channel, payloads, Quirks("ccitt_false", "warning_first"))


@pytest.mark.parametrize(("name", "channel"), [item for item in CHANNELS if item[0] == "mqtt_topics"])
@given(st.dictionaries(field_names, json_values, max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_json(name, channel, fields):
    import json

    fields = {"device_id": PATCH, "boot": 1, "sequence": 1, **fields}
    check(name, channel, [json.dumps(fields).encode()])


def test_device_types_name_profiles_that_exist():
    for row in DEVICE_TYPES.values():
        assert row.profiles <= set(all_profiles())
        for event_type, defaults in row.defaults.items():
            assert set(defaults.values) <= set(PAYLOADS[event_type].model_fields)
            assert defaults.source
