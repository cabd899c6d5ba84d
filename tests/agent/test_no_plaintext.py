"""Nobody reads it who should not: canary values are in no file of the gateway, running, killed or stopped."""

import json

from publisher import Publisher, reading
from rig import make_gateway, random_device, wait_for

PATIENT = "pt_canarypatientzzzzz"
CANARIES = [
    b"canary", PATIENT.encode(), b"31415.926", b"glucose", b"unobtainium", b"reading_value", b"device_status",
    b"wear-", b"2026-11-24T10:15:30",
]  # fmt: skip


def leaks(folder, device_id):
    """(file, canary) of every hit under the gateway's folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        # The log may say which patch a refusal is about; the database may not.
        canaries = CANARIES if path.suffix == ".log" else [*CANARIES, device_id.encode()]
        found += [(path.name, canary) for canary in canaries if canary in content]
    return found


def test_nothing_is_written_in_clear(folder, broker):
    gateway = make_gateway(folder / "gateway", broker)
    gateway.settings.write_text(gateway.settings.read_text() + '[logging]\nlevel = "debug"\n')
    gateway.start()
    gateway.wait_connected()
    device_id = random_device()
    claims = ["pair", "--device-id", device_id, "--batch", "BATCH_20261101_ABC", "--type", "insulin_patch"]
    more = ["--transport", "mqtt", "--patient", PATIENT, "--json"]
    password = json.loads(gateway.command(*claims, *more).stdout)["mqtt_password"]
    broker.reload()
    publisher = Publisher(broker.port, device_id, password)
    publisher.publish("sensor", reading(device_id, 1, reading_value=31415.926, unit_of_measurement="canary"))
    dose = {"delivery_timestamp": "2026-11-24T10:15:30Z", "delivery_method": "micro_needle", "delivery_success": False,
            "substance_delivered": "unobtainium", "dosage_amount": 1, "unit_of_measurement": "IU"}  # fmt: skip
    publisher.publish("dosage", {"device_id": device_id, "boot": 1, "sequence": 1, **dose})
    status = {"timestamp": "2026-11-24T10:15:30Z", "code": "canary_code", "severity": "fault", "detail": "canary"}
    publisher.publish("status", {"device_id": device_id, "boot": 1, "sequence": 1, **status})
    adhesion = {"timestamp": "2026-11-24T10:15:30Z", "adhesion_quality": "good"}
    publisher.publish("adhesion", {"device_id": device_id, "boot": 1, "sequence": 1, **adhesion})
    publisher.publish("sensor", b"canary that is not JSON, 31415.926")
    publisher.publish("sensor", reading(device_id, 2, canary="canary"))

    def all_in() -> bool:
        counters = gateway.ask("status")["counters"]
        return counters.get("durable") == 3 and counters.get("quarantined") == 2 and counters.get("waiting") == 1

    wait_for(all_in)
    assert leaks(gateway.folder, device_id) == []
    gateway.kill()
    assert leaks(gateway.folder, device_id) == []
    gateway.start()
    gateway.wait_connected()
    assert gateway.command("unpair", device_id).returncode == 0
    publisher.close()
    gateway.stop()
    assert leaks(gateway.folder, device_id) == []
    assert (gateway.folder / "state" / "buffer.db").stat().st_mode & 0o077 == 0


def test_a_leak_would_be_found(tmp_path):
    (tmp_path / "buffer.db").write_bytes(b"...NFLX_0A1B2C3D...31415.926")
    assert len(leaks(tmp_path, "NFLX_0A1B2C3D")) == 2
