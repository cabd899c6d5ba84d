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


def test_refused_bonds(clinic):
    """A wrong passkey, and a patch that would pair with anybody: no bond stays, and a person is told."""
    wrong, anybody = clinic.ward.add(2, passkey=123456), clinic.ward.add(3)
    clinic.start()
    for patch, words in ((wrong, "the passkey is wrong"), (anybody, "Just Works")):
        (paired,) = clinic.pair(patch, passkeys=[123457])
        assert paired["bond"] == "failed", paired
        assert words in paired["bond_note"]
        assert "pair it again" in paired["bond_note"]
        assert "LongTermKey]" not in clinic.vm.run(f"cat /var/lib/bluetooth/*/{patch.address}/info").out
        assert clinic.radio(patch)["pair_again"]


def test_twelve_patches_at_once(clinic):
    """More than stay connected: each is visited, drained and dropped, the one with the oldest data first."""
    patches = [clinic.ward.add(index, passkey=100_000 + index, minutes=40 + index) for index in range(12)]
    clinic.start("visit_seconds = 10")
    left = dict.fromkeys(patches)
    for _ in range(6):  # as at the bedside: whoever was not bonded yet is paired again
        numbers = [100_000 + patches.index(patch) for patch in left]
        answers = clinic.pair(*left, passkeys=numbers)
        left = {patch: answer for patch, answer in zip(left, answers, strict=True) if answer["bond"] != "bonded"}
        if not left:
            break
    clinic.wait_complete(*patches, seconds=200)
    for patch in patches:
        patch.sensor.measure_until(max(patch.sensor.records) + 15)
    clinic.wait_complete(*patches, seconds=120)
    assert all(clinic.radio(patch)["connects"] >= 2 for patch in patches)
    assert clinic.status()["upstream"]["deduped"] == 0
    assert clinic.audit("sequence_gap") == []


def test_a_link_that_nobody_here_has_is_ended(clinic):
    """Another program's, or of a connect that was given up: such a patch does not advertise."""
    patch = clinic.ward.add(7, passkey=123456, minutes=2)
    clinic.start("stay_connected = 0\nvisit_seconds = 60")
    clinic.pair(patch)
    clinic.wait_complete(patch)
    clinic.wait_for(lambda: not patch.connections, 30)
    device = "/org/bluez/hci0/dev_" + patch.address.replace(":", "_")
    clinic.vm.run(f"busctl --timeout=30 call org.bluez {device} org.bluez.Device1 Connect", 60).ok()
    assert patch.connections
    patch.sensor.measure_until(7)
    clinic.wait_complete(patch)


def test_where_the_registry_and_bluez_differ(clinic):
    """Unpaired while the daemon was down, and a bond that BlueZ lost: both are said; `unpair` takes the bond along."""
    ours, lost, gone = (clinic.ward.add(index, passkey=123456, minutes=2) for index in (4, 5, 6))
    clinic.start()
    clinic.pair(ours, lost, gone)
    clinic.wait_complete(ours, lost, gone)
    program = "/opt/patch-gateway/venv/bin/patch-gateway"
    clinic.vm.run(f"systemctl stop patch-gateway; {program} unpair {clinic.devices[gone]}", timeout=60).ok()
    clinic.vm.run(f"bluetoothctl remove {lost.address}").ok()
    clinic.vm.run("systemctl start patch-gateway", timeout=90).ok()
    (warning,) = clinic.wait_for(lambda: clinic.link()["warnings"], 30, clinic.link)
    assert gone.address in warning
    assert ours.address not in warning
    clinic.wait_for(lambda: clinic.radio(lost)["pair_again"], 60, lambda: clinic.radio(lost))
    assert "BlueZ has no bond with it; pair it again" in clinic.radio(lost)["reason"]
    clinic.ask(("unpair", {"device_id": clinic.devices[ours]}))
    bond = f"ls -d /var/lib/bluetooth/*/{ours.address}"
    clinic.wait_for(lambda: "No such file" in clinic.vm.run(bond).err, 30)
