"""Each failure of the radio on one machine, one after another: survived, said in words, nothing lost or doubled."""

import time

import pytest
from clinic import Clinic
from vm import VM


@pytest.fixture(scope="module")
def clinic(rig, central):
    with VM(rig.image, rig.stage, rig.snapshot).start() as machine:
        made = Clinic(machine, central)
        for index in (1, 2):
            made.ward.add(index, passkey=123456)
        made.start("scan_silence_seconds = 4\nvisit_seconds = 5")
        made.pair(*made.ward.patches)
        made.wait_complete(*made.ward.patches)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def journal(request, clinic):
    request.node.machine = clinic.vm


@pytest.fixture
def patches(clinic):
    """Both connected, everything so far at central."""
    clinic.wait_for(lambda: all(clinic.radio(p)["connected"] for p in clinic.ward.patches), 90, clinic.status)
    clinic.wait_complete(*clinic.ward.patches)
    return clinic.ward.patches


def more(patches, records=5):
    """Records that the patches take while the failure lasts."""
    for patch in patches:
        patch.sensor.measure_until(max(patch.sensor.records) + records)


def back(clinic, patches, seconds=120):
    """Connected again, the gap filled, and new values arrive by themselves."""
    clinic.wait_complete(*patches, seconds=seconds)
    clinic.wait_for(lambda: all(clinic.radio(p)["reason"] == "connected" for p in patches), 90, clinic.status)
    for patch in patches:
        clinic.ward.do(patch.measure(max(patch.sensor.records) + 1))
    clinic.wait_complete(*patches)
    assert clinic.audit("sequence_gap") == []


@pytest.mark.parametrize("command", ["systemctl kill -s KILL bluetooth", "systemctl restart bluetooth"])
def test_bluetoothd_is_killed_or_restarted(clinic, patches, command):
    before = clinic.link()["connects"]
    clinic.vm.run(command).ok()
    more(patches)
    clinic.wait_for(lambda: clinic.link()["connects"] > before, 60, clinic.link)
    back(clinic, patches)


def test_the_adapter_is_unplugged_and_plugged_in_again(clinic, patches):
    clinic.vm.run("systemctl stop hci-bridge").ok()
    clinic.wait_for(lambda: not clinic.link()["connected"], 20, clinic.link)
    assert "there is no adapter hci0" in clinic.wait_for(
        lambda: clinic.link()["reason"] if "no adapter" in clinic.link()["reason"] else None, 30, clinic.link
    )
    assert clinic.radio(patches[0])["reason"] == "waiting for the adapter"
    more(patches)
    clinic.ward.attach()
    back(clinic, patches)


def test_the_scanner_falls_silent(clinic, patches):
    """Firmware that hangs: no scan hears anything until the radio is switched off and on."""
    clinic.ward.host.deaf = True
    for patch in patches:
        clinic.ward.do(patch.vanish())
    more(patches)
    for patch in patches:
        clinic.ward.do(patch.appear())
    clinic.wait_for(lambda: not clinic.ward.host.deaf, 60, clinic.link)
    back(clinic, patches)


def test_the_link_is_lost_in_the_middle_of_a_transfer(clinic, patches):
    patch = patches[0]
    clinic.ward.do(patch.vanish())
    more([patch], 40)
    patch.faults.drop_link_at = [patch.faults.sent + 15]
    clinic.ward.do(patch.appear())
    back(clinic, patches)
    assert patch.faults.drop_link_at == []


def test_records_arrive_damaged_out_of_order_and_twice(clinic, patches):
    patch = patches[1]
    clinic.ward.do(patch.vanish())
    last = max(patch.sensor.records)
    more([patch], 30)
    patch.faults.wrong_crc_once = {last + 3, last + 9}
    patch.faults.twice = {last + 5}
    patch.faults.reverse = True
    patch.faults.busy = 1
    clinic.ward.do(patch.appear())
    back(clinic, patches)
    patch.faults.reverse = False
    reasons = [item["reason"] for item in clinic.status()["quarantine"]["newest"]]
    assert any("wrong CRC" in reason for reason in reasons)


def test_the_gatt_table_changes(clinic, patches):
    patch = patches[0]
    before = clinic.radio(patch)["connects"]
    more([patch])  # before it: a patch that is connected again tells what it takes
    clinic.ward.do(patch.change_table())
    clinic.wait_for(lambda: clinic.radio(patch)["connects"] > before, 60, lambda: clinic.radio(patch))
    back(clinic, patches)


def test_the_patch_loses_its_half_of_the_bond(clinic, patches):
    """Said once, not tried for ever; the label brings it back."""
    patch, other = patches
    links = []
    patch.device.on("connection", links.append)
    patch.forget_bond()
    clinic.ward.call(patch.lose_link)
    more([patch])
    clinic.wait_for(lambda: clinic.radio(patch)["pair_again"], 120, lambda: clinic.radio(patch))
    assert "pair it again" in clinic.radio(patch)["reason"]
    assert len(links) < 30
    failures = clinic.radio(patch)["failures"]
    time.sleep(5)
    assert clinic.radio(patch)["failures"] == failures
    clinic.wait_complete(other)
    (paired,) = clinic.pair(patch)
    assert paired["bond"] == "bonded", paired
    back(clinic, patches)
