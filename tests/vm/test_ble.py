"""Glucose patches through real BlueZ: paired by passkey, read, subscribed, every record at central once."""

import pytest
from clinic import Clinic


@pytest.fixture
def clinic(vm, central):
    made = Clinic(vm, central)
    yield made
    made.close()


def test_scan_pair_by_passkey_connect_subscribe_decode_durable(clinic):
    patch = clinic.ward.add(1, passkey=123456)
    clinic.start()
    (paired,) = clinic.pair(patch)
    assert paired["bond"] == "bonded", paired
    bond = clinic.vm.run("cat /var/lib/bluetooth/*/F0:F1:F2:F3:F4:01/info").ok()
    assert "LongTermKey]" in bond
    assert "Authenticated=3" in bond  # BlueZ's name for an authenticated P-256 key
    clinic.wait_complete(patch)
    clinic.wait_for(lambda: clinic.radio(patch)["reason"] == "connected", 30, lambda: clinic.radio(patch))
    clinic.ward.do(patch.measure(31))
    clinic.wait_complete(patch)
    shown = clinic.radio(patch)
    assert shown["about"] == {
        "model_number": "Emulated CGM", "firmware_revision": "1.4.2", "battery_level": 90,
    }  # fmt: skip
    assert clinic.link()["warnings"] == []
