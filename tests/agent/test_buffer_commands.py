"""`patch-gateway buffer`: stats, verify, and the quarantine by hand."""

import asyncio
import json
import sqlite3
from dataclasses import replace
from datetime import timedelta

import pytest
from buffers import open_buffer
from glucose import CLAIMS, NOW, PATCH, RECORD, START
from rig import BATCH, PATIENT, make_gateway
from upstreams import Upstream

from agent import offline
from agent.counters import Counters
from agent.ingest import Ingest
from agent.jobs import Jobs
from agent.pairing import unpair
from agent.quarantine_commands import quarantine
from agent.sync import Sync
from buffer.devices import Application
from buffer.lanes import Lane
from buffer.lost import Lost
from buffer.medium import Trouble
from buffer.quarantine import Limits, entry
from buffer.writer import Writer
from config.load import load
from device_drivers.base import Channel, Frame
from device_drivers.device_types import DEVICE_TYPES, Defaults
from device_drivers.emulated import cgm, cgm_capture
from device_drivers.links.base import Batch
from device_drivers.profiles.continuous_glucose import FEATURE, MEASUREMENT, SESSION_START
from schemas.event_types import EventType
from uploader.backoff import Backoff
from uploader.base import Refused

SENSOR = Channel("mqtt", "sensor")


def reading(sequence, **changes):
    return json.dumps({
        "device_id": PATCH, "boot": 1, "sequence": sequence, "sensor_type": "glucose", "reading_value": 111,
        "unit_of_measurement": "mg/dL", "timestamp": NOW.isoformat(), "reading_quality": "high",
        "calibration_status": "calibrated", **changes,
    }).encode()  # fmt: skip


async def put(gateway, payload, sender=PATCH):
    future, _ = gateway.ingest.receive(Batch([Frame(sender, SENSOR, payload, NOW)]), "mqtt")
    return [name for name, *_ in await future]


async def by_hand(gateway, **arguments):
    return await quarantine(gateway.buffer, Ingest(gateway.buffer, "gw-test", Counters()), arguments)


async def over_mqtt(gateway):
    await gateway.buffer.submit(
        lambda draft: draft.put_device(RECORD.model_copy(update={"transport": "mqtt"})), now=True
    )


async def test_a_frame_of_a_patch_that_is_paired_by_now_becomes_an_event(gateway):
    await gateway.buffer.submit(unpair(PATCH), now=True)
    assert await put(gateway, reading(1)) == ["quarantined"]
    (shown,) = (await by_hand(gateway, action="list"))["entries"]
    assert shown["reason"].startswith("unknown_device")
    await over_mqtt(gateway)
    assert await by_hand(gateway, action="requeue") == {"requeued": [{"id": shown["id"], "fate": "durable"}]}
    assert gateway.buffer.quarantined == 0
    assert [data["reading_value"] for data in await gateway.stored(Lane.SENSOR)] == [111.0]
    assert await put(gateway, reading(1)) == ["duplicate"], "as if it had come right away"


async def test_what_is_still_wrong_stays_with_its_reason(gateway):
    await over_mqtt(gateway)
    await put(gateway, reading(1, extra=True))
    (before,) = (await by_hand(gateway, action="list"))["entries"]
    assert (await by_hand(gateway, action="requeue", ids=[before["id"]]))["requeued"][0]["fate"] == "quarantined"
    (after,) = (await by_hand(gateway, action="list"))["entries"]
    assert after["reason"] == before["reason"]
    assert gateway.buffer.quarantined == 1


async def test_a_stored_record_that_made_no_event_is_not_lost_when_it_is_tried_again(gateway, monkeypatch):
    """It is marked as here, so that it is not fetched again: that mark must not make it a duplicate of itself."""
    await gateway.begin()
    body = b"\x00" + cgm.sfloat(120) + b"\x00\x00"
    value = cgm.with_crc(bytes([len(body) + 3]) + body)
    assert (await gateway.say(MEASUREMENT, value))[0][-1] == "quarantined"
    assert (await by_hand(gateway, action="requeue"))["requeued"][0]["fate"] == "quarantined"
    assert gateway.buffer.quarantined == 1
    row = DEVICE_TYPES["diagnostic_sensor"]
    known = {EventType.SENSOR_READING: Defaults({"reading_quality": "high"}, "the next version knows")}
    monkeypatch.setitem(DEVICE_TYPES, "diagnostic_sensor", replace(row, defaults=known))
    assert (await by_hand(gateway, action="requeue"))["requeued"][0]["fate"] == "durable"
    assert gateway.buffer.quarantined == 0
    assert [data["reading_value"] for data in await gateway.stored(Lane.SENSOR)] == [120.0]
    assert (await gateway.say(MEASUREMENT, value))[0][-1] == "duplicate"


async def test_a_record_of_another_session_is_not_filed_under_this_one(gateway):
    """It was set aside before its session was known; then another began. And the real record is no duplicate of it."""
    for offset in (1, 7):
        at = START + timedelta(minutes=offset)
        (fate, *_), _ = await gateway.say(MEASUREMENT, cgm.measurement(cgm.Record(55, offset, 20, 90)), at=at)
        assert fate == "quarantined"
    later = START + timedelta(hours=2)
    await gateway.say(FEATURE, cgm.feature(), at=later)
    await gateway.say(SESSION_START, cgm.session_start(later), at=later)
    before = dict(gateway.buffer.devices[PATCH].record.facts)
    done = (await by_hand(gateway, action="requeue"))["requeued"]
    assert [(each["fate"], "another session" in each["why"]) for each in done] == [("kept", True)] * 2
    assert gateway.buffer.quarantined == 2
    assert gateway.buffer.devices[PATCH].record.facts == before
    for offset in (1, 7):
        at = later + timedelta(minutes=offset)
        fates, _ = await gateway.say(MEASUREMENT, cgm.measurement(cgm.Record(180, offset, 20, 90)), at=at)
        assert "durable" in fates
    assert [data["reading_value"] for data in await gateway.stored(Lane.SENSOR)] == [180.0, 180.0]


async def test_what_holds_no_record_is_kept(gateway):
    answer = entry(PATCH, "was damaged", "181f/2a52", NOW, b"\x06\0\1\1")  # of the control point: success
    await gateway.buffer.submit(lambda draft: draft.quarantine(answer), now=True)
    (done,) = (await by_hand(gateway, action="requeue"))["requeued"]
    assert done["fate"] == "kept"
    assert "no record in it" in done["why"]
    assert gateway.buffer.quarantined == 1


async def test_an_event_that_the_upstream_refused_is_sent_again(gateway):
    await over_mqtt(gateway)
    await put(gateway, reading(7, alert_triggered=True))
    claim = await gateway.buffer.claim(Lane.URGENT, 10, 1 << 20)
    refused = entry(PATCH, "refused upstream: not wanted", "upstream", NOW, claim.events[0].body)

    def refuse(draft):
        draft.forget(claim.rows, Lane.URGENT)
        draft.quarantine(refused)

    await gateway.buffer.submit(refuse, now=True)
    gateway.buffer.release(Lane.URGENT, claim.rows)
    assert (await by_hand(gateway, action="requeue"))["requeued"][0]["fate"] == "queued"
    again = await gateway.buffer.claim(Lane.URGENT, 10, 1 << 20)
    assert again.events == claim.events


async def test_what_is_given_up_is_named(gateway):
    await put(gateway, b"not JSON")
    await put(gateway, b"not JSON either")
    assert await by_hand(gateway, action="discard") == {"discarded": 2}
    assert gateway.buffer.quarantined == 0
    (marker,) = await gateway.stored(Lane.URGENT)
    assert (marker["kind"], marker["count"], marker["device_id"]) == ("gap_marker", 2, PATCH)
    assert "discarded by hand" in marker["reason"]
    assert "There is no entry 1" in await by_hand(gateway, action="discard", ids=[1])


@pytest.mark.parametrize("kept", [1_000, 0])
async def test_what_a_marker_names_stays_named(tmp_path, kept):
    """Refused by the upstream, then discarded by hand, or not kept where the quarantine is full."""
    buffer = await open_buffer(tmp_path, tick=0.005, limits=Limits(per_sender=kept))
    lost = Lost(device_id=PATCH, count=5_000, first_at=NOW, last_at=NOW)
    await buffer.submit(lambda draft: draft.give_up(lost), now=True)
    jobs = Jobs(buffer)
    await jobs._gap_markers()
    upstream = Upstream(Refused("its time is in the future"))
    sync = Sync(buffer, upstream, Backoff(0.01, 0.02), Counters(), batch_events=9, batch_octets=1 << 20)
    while await sync.step() is not None:
        pass
    await buffer.submit(lambda _: None, now=True)
    assert buffer.quarantined == min(1, kept)
    ingest = Ingest(buffer, "gw-test", Counters())
    assert await quarantine(buffer, ingest, {"action": "discard"}) == {"discarded": min(1, kept)}
    await jobs._gap_markers()
    claim = await buffer.claim(Lane.URGENT, 10, 1 << 20)
    told = [json.loads(event.body)["data"] for event in claim.events]
    assert [each["count"] for each in told if each.get("device_id") == PATCH] == [5_000]
    await buffer.close()


async def test_an_old_adhesion_report_is_not_what_the_next_is_compared_with(gateway):
    def report(sequence, quality):
        body = {"device_id": PATCH, "boot": 1, "sequence": sequence, "adhesion_quality": quality}
        body["timestamp"] = (NOW + timedelta(minutes=sequence)).isoformat()
        return Batch([Frame(PATCH, Channel("mqtt", "adhesion"), json.dumps(body).encode(), NOW)])

    async def said(*arguments):
        ((fate, *_),) = await gateway.ingest.receive(report(*arguments), "mqtt")[0]
        return fate

    await gateway.buffer.submit(unpair(PATCH), now=True)
    assert await said(1, "good") == "quarantined"
    application = Application(site="abdomen", applied_at=NOW)
    paired = RECORD.model_copy(update={"transport": "mqtt", "device_type": "insulin_patch", "application": application})
    await gateway.buffer.submit(lambda draft: draft.put_device(paired), now=True)
    assert await said(2, "poor") == "durable"
    assert (await by_hand(gateway, action="requeue"))["requeued"][0]["fate"] == "durable"
    assert await said(3, "good") == "durable"
    qualities = [data["adhesion_quality"] for data in await gateway.stored(Lane.DOSAGE)]
    assert qualities == ["poor", "good", "good"]


@pytest.mark.parametrize(
    ("channel", "payload", "why"),
    [("buffer", b"x", "it is no frame"), ("mqtt/sensor", b"x" * 20_000, "only the first octets of 20000")],
)
async def test_what_cannot_be_tried_again_is_kept(gateway, channel, payload, why):
    await gateway.buffer.submit(lambda draft: draft.quarantine(entry(PATCH, "r", channel, NOW, payload)), now=True)
    (done,) = (await by_hand(gateway, action="requeue"))["requeued"]
    assert done["fate"] == "kept"
    assert why in done["why"]
    assert gateway.buffer.quarantined == 1


async def test_values_are_masked(gateway, caplog):
    await over_mqtt(gateway)
    await put(gateway, reading(1, extra={"deep": [1, "secret"]}))
    (masked,) = (await by_hand(gateway, action="show", ids=[1]))["entries"]
    assert json.loads(masked["payload"])["extra"] == {"deep": ["***", "***"]}
    assert "111" not in masked["payload"]
    assert not caplog.records
    (shown,) = (await by_hand(gateway, action="show", ids=[1], reveal=True))["entries"]
    assert '"reading_value":111' in shown["payload"]
    assert "values were shown" in caplog.text


async def test_a_quarantined_entry_can_be_taken_once(gateway):
    await put(gateway, b"x")
    ((_, _, item),) = await gateway.buffer.look.quarantine_entries()
    assert await gateway.buffer.submit(lambda draft: draft.take_quarantined(item), now=True)
    assert not await gateway.buffer.submit(lambda draft: draft.take_quarantined(item), now=True)
    assert (gateway.buffer.quarantined, gateway.buffer.quarantine_octets) == (0, 0)


async def test_requeued_twice_at_once_it_is_there_once(gateway):
    """From two terminals, or named twice: what is wrong with it still is, so it is set aside again."""
    await put(gateway, b"x")
    both = await asyncio.gather(by_hand(gateway, action="requeue"), by_hand(gateway, action="requeue", ids=[1, 1]))
    assert [len(each["requeued"]) for each in both] == [1, 1]
    assert gateway.buffer.quarantined == 1
    assert len(await gateway.buffer.look.quarantine_ids()) == 1
    await put(gateway, b"y")  # the writer goes on


@pytest.fixture
def process(folder):
    made = make_gateway(folder / "gateway")
    yield made
    made.stop()


def test_on_the_command_line(process):
    paired = process.command(
        "pair", "--device-id", PATCH, "--batch", BATCH, "--type", CLAIMS.device_type, "--address", cgm_capture.ADDRESS,
        "--passkey", "012345", "--patient", PATIENT,
    )  # fmt: skip
    assert paired.returncode == 0, paired.stderr
    process.command("replay", "--into-buffer", "--fault", "corrupt=0.1", str(cgm_capture.SHIPPED))
    stats = process.ask("buffer", "stats")
    assert stats["lanes"]["sensor"]["rows"] > 40
    assert stats["quarantine"]["entries"] == 6
    assert "Quarantine: 6 entries" in process.command("buffer", "stats").stdout
    assert process.ask("buffer", "verify")["sound"] is True
    listed = process.command("buffer", "quarantine", "list", "--limit", "2").stdout
    assert "wrong CRC" in listed
    assert "and 4 older ones" in listed
    assert "(12 octets)" in process.command("buffer", "quarantine", "show", "1").stdout
    assert process.command("buffer", "quarantine", "show", "99").returncode == 1
    assert process.command("buffer", "quarantine", "discard").returncode == 2
    assert "6 discarded" in process.command("buffer", "quarantine", "discard", "--all").stdout
    assert "empty" in process.command("buffer", "quarantine", "list").stdout


def test_verify_finds_a_row_that_does_not_open(process):
    done = process.command("buffer", "verify")
    assert (done.returncode, "There is no buffer at" in done.stderr) == (2, True), "not done, which is not damage"
    process.command("pair", "--device-id", PATCH, "--batch", BATCH, "--type", "insulin_patch", "--transport", "mqtt")
    database = process.folder / "state" / "buffer.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE event SET lane = 3")
    connection.close()
    done = process.command("buffer", "verify")
    assert done.returncode == 1
    assert "event       1 rows, 1 damaged" in done.stdout
    assert "DAMAGED: keep a copy" in done.stdout


def test_a_file_that_is_no_sound_buffer_is_said_and_not_written_to(process):
    """Another program's database, an empty file, a damaged one."""
    process.command("pair", "--device-id", PATCH, "--batch", BATCH, "--type", "insulin_patch", "--transport", "mqtt")
    database = process.folder / "state" / "buffer.db"
    sound = database.read_bytes()
    database.unlink()
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE recipe (name TEXT)")
    connection.close()
    foreign = database.read_bytes()
    for command, code in (("stats", 1), ("verify", 2)):
        done = process.command("buffer", command)
        assert (done.returncode, "is no buffer of patch-gateway" in done.stderr) == (code, True), command
    assert database.read_bytes() == foreign
    database.write_bytes(b"")
    for command, code in (("stats", 1), ("verify", 2)):
        done = process.command("buffer", command)
        assert (done.returncode, "There is no buffer at" in done.stderr) == (code, True), command
    assert database.read_bytes() == b""
    database.write_bytes(sound[: len(sound) // 2])
    done = process.command("buffer", "verify")
    assert (done.returncode, "malformed" in done.stdout) == (1, True)
    assert process.command("buffer", "stats").returncode == 74
    database.write_bytes(sound)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE device SET sealed = zeroblob(40)")
    connection.close()
    assert "A row of the table device is damaged" in process.command("buffer", "stats").stderr


def test_a_command_does_not_wait_for_ever_for_room(process, monkeypatch):
    async def no_room(writer, _):
        writer._say(Trouble.FULL)
        return False

    monkeypatch.setattr(offline, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(Writer, "_try", no_room)
    claims = {"device_id": PATCH, "batch_number": BATCH, "device_type": "insulin_patch", "transport": "mqtt"}
    answer = offline.run_offline(load(process.folder / "gateway.toml"), "pair", claims)
    assert not answer.ok
    assert answer.error == "Not done, or not all of it: there is no room for more. Mend that, then do it again."
