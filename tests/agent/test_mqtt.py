"""A real Mosquitto, the real daemon, the real central service: every topic, hostile messages, waiting adhesion."""

import json

import asyncpg
import pytest
from publisher import Publisher, documented_messages, reading
from rig import make_gateway, random_device, wait_for

PATCH = "NFLX_0A1B2C3D"


@pytest.fixture
def gateway(folder, broker, central):
    made = make_gateway(folder / "gateway", broker, (central.url, central.key))
    made.start()
    made.wait_connected()
    yield made
    made.stop()


@pytest.fixture
def patch(gateway, broker):
    """A paired patch and its publisher."""
    device_id = random_device()
    password = gateway.pair_mqtt(device_id)
    broker.reload()
    publisher = Publisher(broker.port, device_id, password)
    yield device_id, publisher
    publisher.close()


async def stored(central, device_id):
    """(key, type, data) of a device's events in PostgreSQL, in order of arrival."""
    connection = await asyncpg.connect(central.where["postgresql"])
    try:
        sql = "SELECT idempotency_key, type, data_json, user_id FROM events WHERE data_json->>'device_id' = $1"
        return [(r[0], r[1], json.loads(r[2]), r[3]) for r in await connection.fetch(sql, device_id)]
    finally:
        await connection.close()


def counted(gateway, name, at_least=1):
    return wait_for(lambda: gateway.ask("status")["counters"].get(name, 0) >= at_least, what=name)


async def test_every_documented_topic(gateway, broker, central):
    messages = documented_messages()
    assert {topic.rsplit("/", 1)[1] for topic, _ in messages} == {"sensor", "dosage", "adhesion", "status", "alert"}
    device_id = random_device()
    site = ["--site", "abdomen", "--applied-at", "2026-11-24T08:00:00Z"]
    password = gateway.pair_mqtt(device_id, "insulin_patch", *site)
    broker.reload()
    publisher = Publisher(broker.port, device_id, password)
    for topic, payload in messages:
        publisher.publish(topic.rsplit("/", 1)[1], payload | {"device_id": device_id})
    counted(gateway, "durable", 5)
    publisher.close()
    wait_for(lambda: sum(gateway.ask("status")["queue"].values()) == 0, what="the drain")
    events = await stored(central, device_id)
    by_key = {key: (kind, data) for key, kind, data, _ in events}
    assert len(events) == 7, "device_activation and patch_application of pairing, and the five messages"
    assert {user for *_, user in events} == {"pt_testpatientaaaaaaa"}
    kinds = {topic.rsplit("/", 1)[1]: payload for topic, payload in messages}
    for kind, payload in kinds.items():
        stored_type, data = by_key[f"{device_id}.{kind}.{payload['boot']}.{payload['sequence']}"]
        assert stored_type == {
            "sensor": "sensor_reading", "alert": "sensor_reading", "dosage": "dosage_delivery",
            "adhesion": "patch_application", "status": "audit_trail",
        }[kind]  # fmt: skip
        for field in payload.keys() - {"boot", "sequence", "device_id", "timestamp"}:
            assert data[field] == payload[field]
    adhesion = by_key[f"{device_id}.adhesion.{kinds['adhesion']['boot']}.{kinds['adhesion']['sequence']}"][1]
    assert (adhesion["application_site"], adhesion["application_timestamp"]) == ("abdomen", "2026-11-24T08:00:00Z")


async def test_hostile_messages_are_set_aside_and_the_daemon_goes_on(gateway, patch, central):
    device_id, publisher = patch

    def without(field):
        return {name: value for name, value in reading(device_id, 1).items() if name != field}

    hostile = [
        ("sensor", b"not json", "not JSON"),
        ("sensor", b"\xff\xfe", "not JSON"),
        ("sensor", reading("NFLX_00000000", 1), "not the device of the topic"),
        ("sensor", {**reading(device_id, 1), "unknown": 1}, "data.unknown"),
        ("sensor", {**reading(device_id, 1), "reading_value": "high"}, "data.reading_value"),
        ("sensor", without("reading_quality"), "missing:reading_quality"),
        ("sensor", without("timestamp"), "missing:timestamp"),
        ("dosage", {"device_id": device_id, "boot": 1, "sequence": 1}, "missing:"),
        ("adhesion", {"device_id": device_id, "boot": 1, "sequence": 1, "timestamp": "2026-11-24T10:00:00Z"},
         "missing:adhesion_quality"),
        ("status", {"device_id": device_id, "boot": 1, "sequence": 1, "code": "x", "severity": "worse"}, "severity"),
    ]  # fmt: skip
    for kind, payload, _ in hostile:
        publisher.publish(kind, payload)
    publisher.publish("sensor", reading(device_id, 2))
    counted(gateway, "quarantined", len(hostile))
    counted(gateway, "durable", 1)
    shown = gateway.ask("status")
    assert shown["quarantine"]["entries"] == len(hostile)
    publisher.publish("sensor", b"once more: not json")
    counted(gateway, "quarantined", len(hostile) + 1)
    newest = gateway.ask("status")["quarantine"]["newest"]
    assert any("not JSON" in item["reason"] for item in newest)
    assert "high" not in json.dumps(shown["quarantine"]["newest"])
    wait_for(lambda: gateway.ask("status")["queue"]["sensor"] == 0)
    keys = [key for key, *_ in await stored(central, device_id)]
    assert f"{device_id}.sensor.1.2" in keys
    assert f"{device_id}.sensor.1.1" not in keys


def test_a_payload_of_a_mebibyte(gateway, folder, broker):
    """Our broker refuses it; a broker with defaults hands it over, and its head is quarantined."""
    from rig import make_broker

    class Defaults(type(broker.server)):
        def _configuration(self):
            text = super()._configuration()
            return "\n".join(
                line for line in text.splitlines() if not line.startswith(("message_size", "max_inflight"))
            )

    gateway.stop()
    other = make_broker(folder / "defaults")
    other.server.stop()
    lax = Defaults(other.server.folder, other.server.port)
    lax.start()
    try:
        made = make_gateway(folder / "second", other)
        made.start()
        made.wait_connected()
        device_id = random_device()
        password = made.pair_mqtt(device_id)
        lax.process.send_signal(1)
        publisher = wait_for(lambda: Publisher(lax.port, device_id, password))
        publisher.publish("sensor", b"[" + b"1," * (1 << 19) + b"1]")
        publisher.publish("sensor", reading(device_id, 1))
        counted(made, "quarantined")
        counted(made, "durable")
        assert "1048579 octets" in json.dumps(made.ask("status")["quarantine"])
        publisher.close()
        made.stop()
    finally:
        lax.stop()


def test_unknown_and_foreign_devices(gateway, patch, broker):
    device_id, publisher = patch
    other = random_device()
    # Mosquitto's access list stops a patch that publishes as another one.
    publisher.publish("sensor", reading(other, 1), device_id=other)
    publisher.publish("sensor", reading(device_id, 1))
    counted(gateway, "durable")
    assert gateway.ask("status")["quarantine"]["entries"] == 0
    # The broker still lets it in, but the gateway no longer knows it.
    with_password = broker.server.passwords.read_text(), broker.server.access.read_text()
    assert gateway.command("unpair", device_id).returncode == 0
    assert device_id not in broker.server.passwords.read_text() + broker.server.access.read_text()
    broker.server.passwords.write_text(with_password[0])
    broker.server.access.write_text(with_password[1])
    publisher.publish("sensor", reading(device_id, 2))
    counted(gateway, "quarantined")
    assert "unknown_device" in json.dumps(gateway.ask("status")["quarantine"])


async def test_adhesion_waits_for_the_application(gateway, patch, central):
    device_id, publisher = patch
    for sequence, quality in enumerate(["excellent", "excellent", "good", "good", "poor"], start=1):
        report = {"device_id": device_id, "boot": 1, "sequence": sequence, "adhesion_quality": quality}
        publisher.publish("adhesion", report | {"timestamp": f"2026-11-24T10:0{sequence}:00Z"})
    counted(gateway, "waiting", 5)
    assert "5 reports waiting for the application" in gateway.command("status").stdout
    again = ["pair", "--device-id", device_id, "--batch", "BATCH_20261101_ABC", "--type", "diagnostic_sensor",
             "--transport", "mqtt", "--patient", "pt_testpatientaaaaaaa"]  # fmt: skip
    done = gateway.command(*again, "--site", "back", "--applied-at", "2026-11-24T09:00:00+05:30")
    assert done.returncode == 0, done.stderr
    assert "3 waiting adhesion reports became events" in done.stdout
    assert "password" not in done.stdout, "recording the application must not change the patch's password"
    wait_for(lambda: sum(gateway.ask("status")["queue"].values()) == 0)
    found = [(key, data.get("adhesion_quality")) for key, kind, data, _ in await stored(central, device_id)
             if kind == "patch_application"]  # fmt: skip
    assert {(key.split(".")[3], quality) for key, quality in found if quality} == {
        ("1", "excellent"), ("3", "good"), ("5", "poor")
    }  # fmt: skip
    assert len(found) == 4, "the application itself says nothing of adhesion"
    report = {"device_id": device_id, "boot": 1, "sequence": 6, "adhesion_quality": "poor"}
    publisher.publish("adhesion", report | {"timestamp": "2026-11-24T10:06:00Z"})
    counted(gateway, "unchanged", 1)
    other_site = gateway.command(*again, "--site", "chest", "--applied-at", "2026-11-24T09:00:00Z")
    assert other_site.returncode == 1
    assert "recorded already" in other_site.stderr
