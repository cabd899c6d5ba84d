"""The machine records its own session; replaying the file gives what the live run gave."""

import base64
import json
import re
import statistics
import subprocess
import time
from datetime import UTC, datetime

import pytest
from clinic import Clinic
from rig import PROGRAM

RECORDING = "/var/tmp/session.btsnoop"
FRAME = re.compile(r"ble: frame device=(\S+) characteristic=(\S+) at=(\S+ \S+?)[\"+]")


@pytest.fixture
def clinic(vm, central):
    made = Clinic(vm, central)
    yield made
    made.close()


def replay(folder, clinic, patch, *options):
    device = f"{patch.address}={clinic.devices[patch]},diagnostic_sensor"
    command = [PROGRAM, "replay", "--json", *options, "--device", device, folder / "session.btsnoop"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_recording_of_a_session_replays_to_the_same_events(clinic, tmp_path):
    patch = clinic.ward.add(1, passkey=123456, minutes=20)
    clinic.start(more='[logging]\nlevel = "debug"')
    program = "/opt/patch-gateway/venv/bin/patch-gateway"
    clinic.vm.run(f"systemd-run -q --unit recording {program} capture record {RECORDING}").ok()
    clinic.vm.run(f"until [ -s {RECORDING} ]; do sleep .2; done; sleep 1", timeout=30).ok()
    clinic.pair(patch)
    clinic.wait_complete(patch)
    clinic.wait_for(lambda: clinic.radio(patch)["reason"] == "connected", 30)
    patch.sensor.status = 0x02
    for offset in range(21, 81):
        clinic.ward.do(patch.measure(offset))
        time.sleep(0.15)
    clinic.wait_complete(patch)
    clinic.wait_for(lambda: clinic.events(patch, "cgm_device_battery_low"), 20)
    assert clinic.vm.run(f"stat -c %a {RECORDING}").ok() == "600\n"
    clinic.vm.run("systemctl stop recording").ok()
    assert " notification" in clinic.vm.run("journalctl -b -u recording -o cat").ok()  # what it says it recorded
    (tmp_path / "session.btsnoop").write_bytes(base64.b64decode(clinic.vm.run(f"base64 {RECORDING}").ok()))

    live = {event["idempotency_key"]: (event["occurred_at"], event["data"]) for event in clinic.events(patch, "")}
    replayed = {
        event["idempotency_key"]: (datetime.fromisoformat(event["occurred_at"]), event["data"])
        for event in replay(tmp_path, clinic, patch)
        if not event["idempotency_key"].startswith("replay.")
    }
    assert len(live) == 82
    assert replayed == live

    there = [frame["time"] for frame in replay(tmp_path, clinic, patch, "--frames")
             if frame["att"] in {"notification", "indication"} and frame["characteristic"] == "2aa7"]  # fmt: skip
    journal = clinic.vm.run("journalctl -b -u patch-gateway -o cat | grep 'ble: frame' | grep 2aa7").ok()
    received = [datetime.fromisoformat(stamp).replace(tzinfo=UTC) for _, _, stamp in FRAME.findall(journal)]
    assert len(there) == len(received) == 81
    delays = [
        (here - datetime.fromisoformat(on_air)).total_seconds() for here, on_air in zip(received, there, strict=True)
    ]
    print(f"received_at after the recording: median {statistics.median(delays):.4f} s, most {max(delays):.3f} s")
    assert statistics.median(delays) <= 0.05
    assert max(delays) <= 2
