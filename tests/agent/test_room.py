"""A buffer that fills: readings wait on patches and at the broker, then the oldest go and are named; doses never."""

import asyncio
import json
import os
import shutil
import sqlite3
from collections import Counter

import pytest
from glucose import KEK, NOW, RECORD, Gateway, record
from publisher import reading
from upstreams import Upstream

from agent.counters import Counters
from agent.ingest import Ingest
from agent.jobs import Jobs
from agent.room import PAUSED, Room
from agent.sync import Sync
from buffer.lanes import Lane
from buffer.medium import Trouble
from buffer.room import Level
from buffer.store import EventBuffer
from buffer.thinning import THINNED, Part
from device_drivers.base import Channel, Frame
from device_drivers.links.base import Batch
from schemas.wire import WireEvent
from uploader.backoff import Backoff
from uploader.base import Accepted, Refused

PATCHES = [f"NFLX_0A1B2C{number:02d}" for number in range(4)]


class Link:
    """Notes what it is told."""

    def __init__(self):
        self.said = []

    def pause(self, reason):
        self.said.append(reason)


@pytest.fixture
async def small(tmp_path):
    """A buffer of 256 pages, its patches, and what each of them sent."""
    buffer = await EventBuffer.open(tmp_path / "b.db", KEK, gateway_id="gw-test", tick=0.005, quota_octets=1)
    for device_id in PATCHES:
        patch = RECORD.model_copy(
            update={"device_id": device_id, "transport": "mqtt", "address": None, "device_type": "insulin_patch"}
        )
        await buffer.submit(lambda draft, patch=patch: draft.put_device(patch), now=True)
    yield buffer
    await buffer.close()


def frames(device_id, first, count, kind="sensor"):
    """Readings one second apart, or doses."""
    for sequence in range(first, first + count):
        body = reading(device_id, sequence, timestamp=f"2026-11-24T{sequence // 3600:02}:{sequence // 60 % 60:02}:{sequence % 60:02}Z")  # fmt: skip  # noqa: E501
        if kind == "dosage":
            body = {
                "device_id": device_id, "boot": 1, "sequence": sequence, "substance_delivered": "insulin",
                "dosage_amount": 1.5, "unit_of_measurement": "IU", "delivery_timestamp": body["timestamp"],
                "delivery_method": "micro_needle", "delivery_success": True,
            }  # fmt: skip
        yield Frame(device_id, Channel("mqtt", kind), json.dumps(body).encode(), NOW)


async def fill(buffer, share, weights=(1, 1, 1, 1), first=()):
    """Readings of all patches, side by side, and a dose now and then; how many of each were stored, with `first`."""
    ingest, sent, turn = Ingest(buffer, "gw-test", Counters()), Counter(first), 0
    while buffer.room.share < share:
        batch = []
        for device_id, weight in zip(PATCHES, weights, strict=True):
            batch += frames(device_id, sent[device_id], 5 * weight)
            sent[device_id] += 5 * weight
        if turn % 5 == 0:
            batch += frames(PATCHES[0], sent["dosage"], 1, "dosage")
            sent["dosage"] += 1
        turn += 1
        fates = await ingest.receive(Batch(batch), "mqtt")[0]
        assert {fate for fate, *_ in fates} == {"durable"}
    return sent


async def found(buffer):
    """Rows by patch, doses, and what markers name by patch."""
    rows, named = Counter(), Counter()
    for device_id, lost in buffer.lost.items():
        named[device_id] += lost.count
    for lane in Lane:
        claim = await buffer.claim(lane, 100_000, 1 << 30)
        assert not claim.damaged
        buffer.release(lane, claim.rows)
        for event in claim.events:
            data = json.loads(event.body)["data"]
            if data.get("kind") == "gap_marker":
                named[data["device_id"]] += data["count"]
                assert "given up" in data["reason"]
                assert "2026-11-24T00:00:00Z" <= data["first_at"] <= data["last_at"] < "2026-11-25"
            elif "substance_delivered" in data:
                rows["dosage"] += 1
            elif "reading_value" in data:
                rows[data["device_id"]] += 1
    return rows, named


async def test_at_85_percent_links_are_told_to_wait_and_go_on_when_there_is_room(small):
    link = Link()
    room = Room(small, [link])
    await room.step()
    await fill(small, 0.86)
    await room.step()
    assert small.level is Level.PAUSE
    while small.lanes[Lane.SENSOR]:
        claim = await small.claim(Lane.SENSOR, 1_000, 1 << 30)
        await small.submit(lambda draft, rows=claim.rows: draft.forget(rows, Lane.SENSOR), now=True, relief=True)
        small.release(Lane.SENSOR, claim.rows)
    await room.step()
    assert link.said == [None, PAUSED, None]
    assert room.given_up == 0


async def test_at_95_percent_the_oldest_go_and_markers_name_them(small):
    sent = await fill(small, 0.955)
    room = Room(small, [])
    await room.step()
    assert small.level is Level.PAUSE
    assert small.room.share < 0.94
    rows, named = await found(small)
    assert rows["dosage"] == sent["dosage"]
    assert sum(named.values()) == room.given_up > 0
    for device_id in PATCHES:
        assert named[device_id] > 0
        assert rows[device_id] + named[device_id] == sent[device_id]
    jobs = Jobs(small)
    assert await jobs._gap_markers() == "4 markers"
    assert not small.lost
    assert await found(small) == (rows, named)
    await fill(small, 0.955, first=sent)
    await room.step()
    assert await jobs._gap_markers() == "nothing to name", "those from before are not sent yet"
    assert set(small.lost) == set(PATCHES)


async def test_what_was_given_up_is_still_to_be_named_after_a_restart(small, tmp_path):
    await fill(small, 0.955)
    await Room(small, []).step()
    before = dict(small.lost)
    for suffix in ("", "-wal"):
        shutil.copy(f"{tmp_path}/b.db{suffix}", f"{tmp_path}/copy.db{suffix}")
    again = await EventBuffer.open(tmp_path / "copy.db", KEK, gateway_id="gw-test", quota_octets=1)
    assert again.lost == before
    await again.close()


async def test_many_patches_and_no_upstream_do_not_fill_it_with_markers(small):
    """Rounds of filling and giving up: what is named grows, not what names it."""
    sent, room, jobs = Counter(), Room(small, []), Jobs(small)
    for _ in range(4):
        sent = await fill(small, 0.955, first=sent)
        await room.step()
        await jobs._gap_markers()
    assert small.lanes[Lane.URGENT] <= len(PATCHES)
    rows, named = await found(small)
    for device_id in PATCHES:
        assert rows[device_id] + named[device_id] == sent[device_id]


async def test_a_patch_that_floods_pays_for_it(small):
    sent = await fill(small, 0.955, weights=(1, 1, 1, 20))
    room = Room(small, [])
    await room.step()
    assert small.level is Level.PAUSE
    rows, named = await found(small)
    assert named.keys() == {PATCHES[3]}
    assert rows[PATCHES[3]] + named[PATCHES[3]] == sent[PATCHES[3]]
    assert [rows[device_id] for device_id in PATCHES[:3]] == [sent[device_id] for device_id in PATCHES[:3]]


async def test_what_is_being_sent_is_not_given_up(small):
    await fill(small, 0.955)
    flying = await small.claim(Lane.SENSOR, 300, 1 << 20)
    await Room(small, []).step()
    await small.submit(lambda draft: draft.forget(flying.rows, Lane.SENSOR), now=True, relief=True)
    small.release(Lane.SENSOR, flying.rows)
    _, named = await found(small)
    left = await small.claim(Lane.SENSOR, 1, 1 << 20)
    assert left.rows[0] > flying.rows[-1]
    assert small.lanes[Lane.SENSOR] >= 0
    assert sum(named.values()) > 0


@pytest.mark.parametrize("late", ["lane = ?", "lane IN"], ids=["the claim is slow", "giving up is slow"])
async def test_a_row_is_either_sent_or_given_up_however_slow_a_look_is(small, monkeypatch, late):
    """Each found the same oldest rows before the other took them; and what is stored meanwhile is none of them."""
    sent = await fill(small, 0.955)
    look = small.look.rows

    async def slow(sql, *arguments, **options):
        rows = await look(sql, *arguments, **options)
        if "sealed FROM event" in sql and late in sql:
            await asyncio.sleep(0.3)
        return rows

    monkeypatch.setattr(small.look, "rows", slow)
    upstream = Upstream()
    sync = Sync(small, upstream, Backoff(0.01, 0.02), Counters(), batch_events=200, batch_octets=1 << 20)
    small._in_flight[Lane.DOSAGE] = set(range(1, 100_000))  # of the doses nothing is sent
    quick_and_slow = [sync.step(), Room(small, [])._give_up(Part(THINNED), 100)]
    tasks = []
    for step in quick_and_slow if late == "lane IN" else reversed(quick_and_slow):
        tasks.append(asyncio.create_task(step))
        await asyncio.sleep(0)
    await asyncio.sleep(0.15)
    ingest = Ingest(small, "gw-test", Counters())
    await ingest.receive(Batch(list(frames(PATCHES[1], sent[PATCHES[1]], 20))), "mqtt")[0]
    sent[PATCHES[1]] += 20
    await asyncio.gather(*tasks)
    await small.submit(lambda _: None, now=True)
    small.release(Lane.DOSAGE, set(range(1, 100_000)))
    rows, named = await found(small)
    delivered = Counter(key.split(".")[0] for keys in upstream.sent for key in keys)
    assert delivered.total()
    assert named.total()
    assert rows + named + delivered == sent


async def test_a_dose_that_finds_no_room_gets_it(small, monkeypatch):
    """The quota is used up between two looks at it: the dose waits, readings go, the dose is stored."""
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    await fill(small, 0.955)
    big = [
        WireEvent(f"{PATCHES[0]}.dosage.9.{n}", b'{"x":"' + os.urandom(8_000).hex().encode() + b'"}') for n in range(3)
    ]
    doses = small.submit(lambda draft: [draft.append(dose, Lane.DOSAGE, PATCHES[0]) for dose in big], now=True)
    await asyncio.sleep(0.1)
    assert not doses.done()
    assert small.trouble is Trouble.FULL
    await Room(small, []).step()
    await asyncio.wait_for(doses, 5)
    assert small.trouble is None


@pytest.mark.parametrize("each_batch", [False, True], ids=["one batch", "one of each"])
async def test_what_cannot_be_set_aside_for_want_of_room_does_not_keep_the_rest(small, monkeypatch, each_batch):
    """Full of doses: the upstream refuses some, and a quarantine entry takes more room than the dose. Nor does one
    that never fits keep what waits behind it.
    """
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    stored = 0
    while small.trouble is None:
        doses = [WireEvent(f"{PATCHES[0]}.dosage.1.{stored + n}", os.urandom(200).hex().encode()) for n in range(50)]
        waiting = small.submit(lambda draft, doses=doses: [draft.append(dose, Lane.DOSAGE) for dose in doses], now=True)
        await asyncio.wait([waiting], timeout=0.3)
        stored += 50
    huge = WireEvent("NFLX_HUGE0000.dosage.1.1", os.urandom(600_000).hex().encode())
    never = small.submit(lambda draft: draft.append(huge, Lane.DOSAGE))

    def first_refused(events):
        return [Refused("not this"), *[Accepted()] * (len(events) - 1)]

    upstream = Upstream(*[first_refused] * 1_000) if each_batch else Upstream(Refused("not these"))
    sync = Sync(small, upstream, Backoff(0.01, 0.02), Counters(), batch_events=100, batch_octets=1 << 20)
    async with asyncio.timeout(20):
        while small.lanes[Lane.DOSAGE] or not waiting.done():
            if await sync.step() is None:
                await asyncio.sleep(0.01)
    assert not never.done()
    never.cancel()
    sent = [key for keys in upstream.sent for key in keys]
    assert len(sent) == len(set(sent)) == stored, "each once"
    refused = len(upstream.sent) if each_batch else 100
    assert small.quarantined == refused
    assert sync.state.acknowledged == stored - refused


async def test_more_refused_doses_than_can_wait_do_not_keep_what_can_be_sent(small, monkeypatch):
    """They stand first, and find no room in quarantine before those behind them are gone."""
    monkeypatch.setattr("buffer.writer._RETRY_SECONDS", 0.02)
    monkeypatch.setattr("agent.sync._MOST_SET_ASIDE", 100)
    monkeypatch.setattr("agent.sync._IDLE_WAIT", 0.05)
    stored = 0
    while small.trouble is None:
        kind = "bad" if stored < 300 else "good"
        doses = [WireEvent(f"{PATCHES[0]}.{kind}.1.{stored + n}", os.urandom(200).hex().encode()) for n in range(50)]
        waiting = small.submit(lambda draft, doses=doses: [draft.append(dose, Lane.DOSAGE) for dose in doses], now=True)
        await asyncio.wait([waiting], timeout=0.3)
        stored += 50

    def some_refused(events):
        return [Refused("no") if ".bad." in event.idempotency_key else Accepted() for event in events]

    upstream = Upstream(*[some_refused] * 1_000)
    sync = Sync(small, upstream, Backoff(0.01, 0.02), Counters(), batch_events=100, batch_octets=1 << 20)
    async with asyncio.timeout(30):
        while small.lanes[Lane.DOSAGE] or not waiting.done():
            await asyncio.sleep(await sync.step() or 0.01)
    good = [key for keys in upstream.sent for key in keys if ".good." in key]
    assert len(good) == len(set(good)) == stored - 300, "each once"
    assert small.quarantined == 300
    assert small.trouble is None


async def test_rows_that_do_not_open_are_given_up_too(small, tmp_path):
    """In quarantine they would take more room than they had."""
    sent = await fill(small, 0.955)
    with sqlite3.connect(tmp_path / "b.db") as connection:
        connection.execute("UPDATE event SET sealed = zeroblob(length(sealed)) WHERE lane = 2 AND id <= 50")
        connection.execute("UPDATE event SET dek_id = 999 WHERE lane = 2 AND id BETWEEN 51 AND 60")
    connection.close()
    room = Room(small, [])
    await room.step()
    assert small.level is Level.PAUSE
    assert small.quarantined == 0
    rows, named = await found(small)
    assert 50 <= named[None] <= 60
    assert sum(rows.values()) + sum(named.values()) == sum(sent.values())


async def test_only_doses_are_kept_even_at_the_quota(small):
    ingest, sequence = Ingest(small, "gw-test", Counters()), 0
    while small.room.share < 0.955:
        await ingest.receive(Batch(list(frames(PATCHES[0], sequence, 50, "dosage"))), "mqtt")[0]
        sequence += 50
    room = Room(small, [])
    await room.step()
    assert room.given_up == 0
    assert small.lanes[Lane.DOSAGE] == sequence


async def test_readings_over_ble_stay_on_the_patch_and_are_fetched_later(tmp_path):
    buffer = await EventBuffer.open(tmp_path / "b.db", KEK, gateway_id="gw-test", tick=0.005, quota_octets=1)
    await buffer.submit(lambda draft: draft.put_device(RECORD), now=True)
    gateway = Gateway(buffer)
    await gateway.begin()
    assert await gateway.records(0, 1) == ["durable"] * 2
    filler = [WireEvent(f"NFLX_FILLER00.x.1.{n}", os.urandom(6_000).hex().encode()) for n in range(120)]
    while buffer.room.share < 0.86:
        event = filler.pop()
        await buffer.submit(lambda draft, event=event: draft.append(event, Lane.TELEMETRY), now=True)
    assert buffer.level is Level.PAUSE
    assert await gateway.records(2, 3, live=True) == ["left_on_patch"]
    assert gateway.missing() is None, "nothing is fetched"
    claim = await buffer.claim(Lane.TELEMETRY, 100, 1 << 30)
    await buffer.submit(lambda draft: draft.forget(claim.rows, Lane.TELEMETRY), now=True, relief=True)
    assert await gateway.records(5, live=True) == ["durable"]
    other = sqlite3.connect(tmp_path / "b.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    urgent = buffer.submit(lambda draft: draft.append(filler.pop(), Lane.DOSAGE))
    exhausted = asyncio.create_task(gateway.exhausted())
    while buffer.trouble is None:
        await asyncio.sleep(0.01)
    other.execute("ROLLBACK")
    await asyncio.gather(urgent, exhausted)
    assert await gateway.gaps() == [], "the patch gave all it had, but not all was taken; decided twice"
    assert gateway.missing() == (2, True), "they are still to be fetched"
    assert await gateway.records(2, 3, 4) == ["durable"] * 3
    assert len(await gateway.stored(Lane.SENSOR)) == 6
    assert record(2)
    await buffer.close()
