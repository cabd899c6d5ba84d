"""What may be written to a patch, over every octet of every control point: the gateway observes."""

import ast
from pathlib import Path

import pytest

from device_drivers.base import Channel, GattPlan, Write
from device_drivers.registry import all_profiles, gatt_plans
from device_drivers.writes import permitted

PLANS = gatt_plans(all_profiles())
RACP, SOCP = Channel("181f", "2a52"), Channel("181f", "2aac")
COMMAND = Channel("183a", "2b25")


def opcodes(channel, plans=PLANS):
    return {octet for octet in range(256) for rest in (b"", b"\0", b"\x01\x01") if allowed(channel, octet, rest, plans)}


def allowed(channel, octet, rest, plans):
    return permitted(Write(channel, bytes([octet]) + rest), plans)


def test_racp_reports_and_stops_and_never_deletes():
    assert opcodes(RACP) == {0x01, 0x03}


def test_socp_asks_for_the_interval_and_sets_nothing():
    """Neither a calibration, nor an alert level, nor the start or stop of a session."""
    denied = {0x01, 0x04, 0x07, 0x0A, 0x0D, 0x10, 0x13, 0x16, 0x19, 0x1A, 0x1B}
    assert opcodes(SOCP) == {0x02}
    assert not opcodes(SOCP) & denied


def test_therapy_is_refused_even_where_a_plugin_declares_it():
    plugin = GattPlan("183a", writes={COMMAND: frozenset(range(256))})
    assert opcodes(COMMAND, [*PLANS, plugin]) == set()


def test_nothing_else_is_written():
    written = {channel for plan in PLANS for channel in plan.writes}
    assert written == {RACP, SOCP}
    for profile in all_profiles().values():
        for channel in profile.CHANNELS - written:
            assert opcodes(channel) == set(), channel
    assert not permitted(Write(RACP, b""), PLANS)


def test_one_place_writes():
    """Bleak's write has one caller, behind `permitted`; nothing clears BlueZ's cache or unpairs through bleak."""
    root = Path(__file__).parents[2]
    called = {}
    for package in ("agent", "device_drivers", "buffer", "uploader"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute):
                    called.setdefault(node.attr, []).append(path.name)
    assert called["write_gatt_char"] == ["ble_connection.py"]
    for forbidden in ("write_gatt_descriptor", "clear_cache", "unpair"):
        assert forbidden not in called, called[forbidden]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.service)
def test_plans_name_channels_that_their_profile_decodes(plan):
    (profile,) = [profile for profile in all_profiles().values() if profile.GATT is plan]
    named = {*plan.reads, *plan.subscriptions, *plan.writes}
    if plan.records:
        named |= {plan.records.control, plan.records.records}
    assert named <= profile.CHANNELS
