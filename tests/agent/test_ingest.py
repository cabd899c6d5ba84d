"""Ingest and sync around a real buffer: late frames, a decoder's bug, refused events, gap markers, damaged rows."""

import asyncio
import json
import os
import sqlite3
from datetime import UTC, datetime

import pytest
from publisher import reading
from upstreams import Upstream

from agent.counters import Counters
from agent.gaps import unreadable_rows
from agent.ingest import Ingest
from agent.jobs import Jobs
from agent.sync import Sync
from buffer.devices import DeviceRecord
from buffer.lanes import Lane
from buffer.lost import Lost
from buffer.quarantine import Limits
from buffer.store import EventBuffer
from device_drivers.base import Channel, Frame
from device_drivers.links.base import Batch
from uploader.backoff import Backoff
from uploader.base import Accepted, Refused, Retry

PATCH = "NFLX_0A1B2C3D"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEK = os.urandom(32)
RECORD = DeviceRecord(
    device_id=PATCH, batch_number="BATCH_20261101_ABC", device_type="diagnostic_sensor", transport="mqtt",
    activation_method="manual_entry", patient=None, session_id="wear-1", paired_at=NOW,
)  # fmt: skip


@pytest.fixture
async def buffer(tmp_path):
    opened = await EventBuffer.open(
        tmp_path / "b.db", KEK, gateway_id="gw-test", tick=0.01, limits=Limits(per_sender=2)
    )
    await opened.submit(lambda draft: draft.put_device(RECORD), now=True)
    yield opened
    await opened.close()


def batch(*payloads, kind="sensor", device=PATCH):
    frames = [
        Frame(device, Channel("mqtt", kind), p if isinstance(p, bytes) else json.dumps(p).encode(), NOW)
        for p in payloads
    ]
    return Batch(frames)


def sync_to(buffer, upstream, batch_events=500):
    backoff = Backoff(0.01, 0.01, uniform=lambda _, bound: bound)
    return Sync(buffer, upstream, backoff, Counters(), batch_events=batch_events, batch_octets=1 << 20)


async def drain(sync, buffer):
    while await sync.step() is not None:
        pass
    await buffer.submit(lambda _: None, now=True)  # what was delivered is forgotten with the next group


async def test_a_redelivered_message_is_stored_once(buffer):
    counters = Counters()
    ingest = Ingest(buffer, "gw-test", counters)
    await ingest.receive(batch(reading(PATCH, 1), reading(PATCH, 1)), "mqtt")[0]
    await ingest.receive(batch(reading(PATCH, 1), reading(PATCH, 2)), "mqtt")[0]
    assert buffer.lanes[Lane.SENSOR] == 2
    assert (counters.total["durable"], counters.total["duplicate"]) == (2, 2)


async def test_alerts_go_to_the_urgent_lane_at_once(tmp_path):
    slow = await EventBuffer.open(tmp_path / "slow.db", KEK, gateway_id="gw-test", tick=60)
    await slow.submit(lambda draft: draft.put_device(RECORD), now=True)
    await Ingest(slow, "gw-test", Counters()).receive(
        batch(reading(PATCH, 1, alert_triggered=True), kind="alert"), "mqtt"
    )[0]
    assert slow.lanes[Lane.URGENT] == 1
    await slow.close()


async def test_unpaired_while_a_frame_was_on_its_way(buffer):
    ingest = Ingest(buffer, "gw-test", Counters())
    gone = buffer.submit(lambda draft: draft.remove_device(PATCH))
    await ingest.receive(batch(reading(PATCH, 1)), "mqtt")[0]
    await gone
    ((_, _, item),) = await buffer.look.quarantine_entries()
    assert "unpaired or paired anew" in item.reason
    assert buffer.lanes[Lane.SENSOR] == 0


async def test_what_a_former_patient_measured_never_reaches_the_next(buffer):
    from datetime import timedelta

    from agent.pairing import Claims, PairRequest, pair, unpair

    claims = Claims(device_id=PATCH, batch_number=RECORD.batch_number, device_type=RECORD.device_type,
                    activation_method="manual_entry")  # fmt: skip

    async def wear(patient):
        await buffer.submit(unpair(PATCH), now=True)
        request = PairRequest(transport="mqtt", patient=patient)
        assert (await buffer.submit(pair(request, claims, "gw-test", timedelta(minutes=10)), now=True)).new

    def at(sequence, moment):
        return reading(PATCH, sequence, timestamp=moment.isoformat())

    ingest = Ingest(buffer, "gw-test", Counters())
    await wear("pt_aaaaaaaaaaaaaaaa")
    await wear("pt_bbbbbbbbbbbbbbbb")
    past, future = datetime.now(UTC) - timedelta(hours=3), datetime.now(UTC) + timedelta(minutes=1)
    fates = await ingest.receive(batch(at(1, past), at(2, future)), "mqtt")[0]
    assert [name for name, *_ in fates] == ["quarantined", "durable"]
    await wear("pt_bbbbbbbbbbbbbbbb")
    assert [name for name, *_ in await ingest.receive(batch(at(3, past)), "mqtt")[0]] == ["quarantined"]
    ((_, _, item), *_) = await buffer.look.quarantine_entries()
    assert item.reason.startswith("before_pairing")


async def test_wrong_transport(buffer):
    await Ingest(buffer, "gw-test", Counters()).receive(batch(reading(PATCH, 1)), "ble")[0]
    ((_, _, item),) = await buffer.look.quarantine_entries()
    assert "wrong_transport" in item.reason


async def test_a_decoders_bug_keeps_the_octets(buffer, monkeypatch):
    monkeypatch.setattr("device_drivers.profiles.mqtt_topics.MqttDecoder.receive", lambda *_: 1 / 0)
    await Ingest(buffer, "gw-test", Counters()).receive(batch(reading(PATCH, 1)), "mqtt")[0]
    ((_, _, item),) = await buffer.look.quarantine_entries()
    assert "internal error" in item.reason


async def test_a_bug_while_deciding_sets_that_record_aside_and_acknowledges_the_rest(buffer, monkeypatch):
    from buffer.draft import Draft

    real = Draft.add_record

    def broken(self, device_id, stream, boot, sequence, step=1):
        found = real(self, device_id, stream, boot, sequence, step)
        if sequence == 2:
            raise RuntimeError("bug")
        return found

    monkeypatch.setattr(Draft, "add_record", broken)
    fates = await Ingest(buffer, "gw-test", Counters()).receive(batch(*(reading(PATCH, n) for n in (1, 2, 3))), "mqtt")[
        0
    ]
    assert [name for name, *_ in fates] == ["durable", "quarantined", "durable"]
    ((_, _, item),) = await buffer.look.quarantine_entries()
    assert "internal error" in item.reason


async def test_a_full_quarantine_is_named_by_a_gap_marker_that_is_uploaded(buffer):
    ingest = Ingest(buffer, "gw-test", Counters())
    for number in range(5):
        await ingest.receive(batch(b"bad %d" % number), "mqtt")[0]
    assert (buffer.quarantined, sum(buffer.overflow.values())) == (2, 3)
    jobs = Jobs(buffer)
    assert await jobs._gap_markers() == "1 markers"
    assert not buffer.overflow
    claim = await buffer.claim(Lane.URGENT, 10, 1 << 20)
    marker = json.loads(claim.events[0].body)
    assert marker["type"] == "audit_trail"
    assert {k: marker["data"][k] for k in ("kind", "device_id", "count")} == {
        "kind": "gap_marker", "device_id": PATCH, "count": 3
    }  # fmt: skip
    await ingest.receive(batch(b"bad 9"), "mqtt")[0]
    assert sum(buffer.overflow.values()) == 1


async def test_a_damaged_count_of_what_was_not_kept_stops_no_marker(buffer):
    ingest = Ingest(buffer, "gw-test", Counters())
    for number in range(5):
        await ingest.receive(batch(b"bad %d" % number), "mqtt")[0]
    await buffer._connection.execute("UPDATE overflow SET sealed = zeroblob(40)")
    await buffer.submit(lambda draft: draft.give_up(Lost(count=7, first_at=NOW, last_at=NOW)), now=True)
    assert await Jobs(buffer)._gap_markers() == "2 markers"
    claim = await buffer.claim(Lane.URGENT, 10, 1 << 20)
    assert sorted(json.loads(event.body)["data"]["count"] for event in claim.events) == [3, 7]


async def test_while_the_file_is_checked_rows_are_claimed(buffer):
    async def busy(*_):
        raise AssertionError("the check has a connection of its own")

    buffer.look.connection.execute_fetchall = busy
    assert await Jobs(buffer)._quick_check() == "ok"


async def test_nothing_of_the_alerts_topic_waits_for_the_tick(tmp_path):
    """What is no alert would stand before the alerts behind it."""
    patient = await EventBuffer.open(tmp_path / "b.db", KEK, gateway_id="gw-test", tick=3_600)
    await patient.submit(lambda draft: draft.put_device(RECORD), now=True)
    fates = await asyncio.wait_for(
        Ingest(patient, "gw-test", Counters()).receive(batch(b"?", kind="alert"), "mqtt")[0], 5
    )
    assert [fate for fate, *_ in fates] == ["quarantined"]
    await patient.close()


async def test_retries_keep_and_refusals_set_aside(buffer):
    ingest = Ingest(buffer, "gw-test", Counters())
    await ingest.receive(batch(*(reading(PATCH, n) for n in range(4))), "mqtt")[0]

    def mixed(events):
        return [Accepted(), Refused("not this one"), Retry("later", 0.0), Accepted(deduped=True)]

    upstream = Upstream(Retry("down"), mixed)
    sync = sync_to(buffer, upstream)
    await drain(sync, buffer)
    keys = [f"{PATCH}.sensor.1.{n}" for n in range(4)]
    assert upstream.sent == [keys, keys, [keys[2]]]
    assert sum(buffer.lanes.values()) == 0
    ((_, _, item),) = await buffer.look.quarantine_entries()
    assert item.reason == "refused upstream: not this one"
    assert (sync.state.acknowledged, sync.state.refused, sync.state.deduped) == (3, 1, 1)


async def test_what_is_claimed_beside_damaged_rows_that_cannot_be_set_aside_is_claimed_again(buffer, monkeypatch):
    ingest = Ingest(buffer, "gw-test", Counters())
    await ingest.receive(batch(*(reading(PATCH, n) for n in range(5))), "mqtt")[0]
    await buffer._connection.execute("UPDATE event SET sealed = zeroblob(80) WHERE id = (SELECT min(id) FROM event)")
    bugs = [lambda _: {}["a bug, once"]]
    right = unreadable_rows
    monkeypatch.setattr("agent.sync.unreadable_rows", lambda *given: bugs.pop() if bugs else right(*given))
    upstream = Upstream()
    sync = sync_to(buffer, upstream)
    with pytest.raises(KeyError):
        await sync.step()
    sync = sync_to(buffer, upstream)
    await drain(sync, buffer)
    assert sum(".sensor." in key for keys in upstream.sent for key in keys) == 4
    assert sum(buffer.lanes.values()) == 0


async def test_what_was_taken_is_not_slowed_by_what_was_not(buffer):
    """One event of each batch gets no verdict: that is no outage."""
    await Ingest(buffer, "gw-test", Counters()).receive(batch(*(reading(PATCH, n) for n in range(9))), "mqtt")[0]
    some = [lambda events: [Retry("not named"), *[Accepted()] * (len(events) - 1)]] * 3
    sync = sync_to(buffer, Upstream(*some, Retry("down")), batch_events=3)
    assert [await sync.step() for _ in range(3)] == [0.0] * 3
    assert sync.state.reachable
    assert await sync.step() > 0


async def test_unauthorised_waits_a_minute(buffer):
    await Ingest(buffer, "gw-test", Counters()).receive(batch(reading(PATCH, 1)), "mqtt")[0]
    sync = sync_to(buffer, Upstream(Retry("no key", unauthorised=True)))
    assert await sync.step() == 60
    assert (sync.state.reachable, sync.state.reason) == (False, "no key")


async def test_lanes_are_not_mixed_and_urgent_goes_first(buffer):
    ingest = Ingest(buffer, "gw-test", Counters())
    await ingest.receive(batch(*(reading(PATCH, n) for n in range(3))), "mqtt")[0]
    await ingest.receive(batch(reading(PATCH, 1, alert_triggered=True), kind="alert"), "mqtt")[0]
    upstream = Upstream()
    await drain(sync_to(buffer, upstream), buffer)
    assert [len(keys) for keys in upstream.sent] == [1, 3]
    assert ".alert." in upstream.sent[0][0]


async def test_a_row_that_does_not_open_leaves_the_queue_and_is_named(tmp_path):
    buffer = await EventBuffer.open(tmp_path / "b.db", KEK, gateway_id="gw-test")
    await buffer.submit(lambda draft: draft.put_device(RECORD), now=True)
    await Ingest(buffer, "gw-test", Counters()).receive(batch(reading(PATCH, 1), reading(PATCH, 2)), "mqtt")[0]
    await buffer.close()
    with sqlite3.connect(tmp_path / "b.db") as connection:
        connection.execute("UPDATE event SET sealed = zeroblob(80) WHERE id = 1")
    connection.close()
    buffer = await EventBuffer.open(tmp_path / "b.db", KEK, gateway_id="gw-test", tick=0.01)
    upstream = Upstream()
    await drain(sync_to(buffer, upstream), buffer)
    sent = [key for keys in upstream.sent for key in keys]
    assert f"{PATCH}.sensor.1.2" in sent
    assert any(".gateway." in key for key in sent), "the gap marker"
    assert sum(buffer.lanes.values()) == 0
    assert buffer.quarantined == 1
    await buffer.close()
