"""Stored records of a BLE patch in the buffer: what is missing, what will never come, what is said once."""

from datetime import UTC, datetime, timedelta

from glucose import CLAIMS, NOW, PATCH, START, record

from agent.pairing import PairRequest, pair, unpair
from agent.show import show_patches
from agent.status import patches
from buffer.lanes import Lane
from device_drivers.base import Frame
from device_drivers.byte_reader import crc16
from device_drivers.emulated import cgm
from device_drivers.links.base import Batch
from device_drivers.profiles.battery import LEVEL
from device_drivers.profiles.continuous_glucose import (
    FEATURE,
    MEASUREMENT,
    RUN_TIME,
    SESSION_START,
    SOCP,
    STATUS,
)  # fmt: skip
from device_drivers.profiles.device_information import MODEL


async def test_nothing_is_asked_for_before_the_session_is_known(gateway):
    assert gateway.missing() is None
    await gateway.begin()
    assert gateway.missing() == (0, False)


async def test_what_is_missing_is_asked_for_from_its_first_record_on(gateway):
    await gateway.begin()
    assert await gateway.records(0, 1, 2) == ["durable"] * 3
    assert gateway.missing() == (3, False)
    await gateway.records(6, live=True)
    assert gateway.missing() == (3, True)
    assert await gateway.records(3, 4, 5, 6) == ["durable"] * 3 + ["duplicate"]
    assert gateway.missing() == (7, False)


async def test_what_the_patch_no_longer_has_is_named_once(gateway):
    await gateway.begin()
    await gateway.records(10, 11, 12, 15)
    assert gateway.missing() == (0, True)
    await gateway.exhausted()
    await gateway.exhausted()
    assert await gateway.gaps() == [("cgm", 0, 9), ("cgm", 13, 14)]
    assert gateway.missing() == (16, False)
    assert await gateway.records(13) == ["durable"]  # should it turn up all the same


async def test_five_minutes_between_records_are_no_gap(gateway):
    await gateway.begin()
    await gateway.records(5, 10, 15, 25)
    assert gateway.missing() == (0, True)
    await gateway.exhausted()
    assert await gateway.gaps() == [("cgm", 16, 24)]
    await gateway.records(30, live=True)
    assert gateway.missing() == (31, False)


async def test_a_next_session_names_what_was_never_read_of_the_one_before(gateway):
    await gateway.begin()
    await gateway.records(0, 1, 2, 5)
    later = START + timedelta(hours=2)
    await gateway.say(SESSION_START, cgm.session_start(later), at=later)
    assert gateway.missing() is None  # which session it is shows with the status
    await gateway.say(STATUS, cgm.with_crc(bytes(5)), at=later)
    assert await gateway.gaps() == [("cgm", 3, 4), ("cgm", 6, 119)]
    assert gateway.missing() == (0, False)


async def test_the_end_of_a_session_that_nobody_read_is_named(gateway):
    """The patch was away when its session ended, and gives none of its records once the next one began."""
    await gateway.begin()
    await gateway.say(RUN_TIME, cgm.with_crc((24).to_bytes(2, "little")))
    await gateway.records(*range(101))
    later = START + timedelta(days=10)
    await gateway.say(SESSION_START, cgm.session_start(later), at=later)
    await gateway.say(STATUS, cgm.with_crc(bytes(5)), at=later)
    assert await gateway.gaps() == [("cgm", 101, 1440)]


async def test_without_a_memory_on_the_patch_the_gap_is_named_all_the_same(gateway):
    await gateway.begin()
    await gateway.records(*range(11), live=True)
    await gateway.records(501, live=True)
    assert gateway.missing() == (11, True)
    await gateway.exhausted()
    assert await gateway.gaps() == [("cgm", 11, 500)]
    assert gateway.missing() == (502, False)


async def test_a_wider_interval_is_learnt_after_two_markers(gateway):
    await gateway.begin()
    await gateway.records(*range(31))
    for offset in range(35, 100, 5):
        await gateway.records(offset, live=True)
        if gateway.missing().hole:
            await gateway.exhausted()
    assert await gateway.gaps() == [("cgm", 31, 34), ("cgm", 36, 39)]
    await gateway.records(96, 97)  # and back again
    await gateway.records(99, live=True)
    assert gateway.missing() == (98, True)


async def test_two_drops_that_look_like_a_wider_interval_hide_no_later_hole(gateway):
    await gateway.begin()
    await gateway.records(*range(21))
    for offset in (22, 24):
        await gateway.records(offset, live=True)
        await gateway.exhausted()
    await gateway.records(25, 26, 27, 28, live=True)
    damaged = record(29)[:-1] + bytes([record(29)[-1] ^ 1])
    await gateway.say(MEASUREMENT, damaged, live=True, at=START + timedelta(minutes=29))
    await gateway.records(30, 31, live=True)
    assert gateway.missing() == (29, True)
    assert await gateway.gaps() == [("cgm", 21, 21), ("cgm", 23, 23)]


async def test_a_stop_that_is_seen_late_makes_no_gap_beyond_the_run_time(gateway):
    await gateway.begin()
    await gateway.say(RUN_TIME, cgm.with_crc((2).to_bytes(2, "little")))
    await gateway.records(*range(121))
    late, later = START + timedelta(minutes=3_000), START + timedelta(days=3)
    await gateway.say(SESSION_START, cgm.session_start(START), at=late)
    await gateway.say(STATUS, cgm.with_crc((3_000).to_bytes(2, "little") + b"\1\0\0"), at=late)
    await gateway.say(SESSION_START, cgm.session_start(later), at=later)
    await gateway.say(STATUS, cgm.with_crc(bytes(5)), at=later)
    assert await gateway.gaps() == []


async def test_what_another_wear_read_is_no_gap_of_this_one(gateway):
    await gateway.begin()
    await gateway.records(*range(181))
    await gateway.buffer.submit(unpair(PATCH), now=True)
    again = PairRequest(patient="pt_" + "b" * 20)
    await gateway.buffer.submit(pair(again, CLAIMS, "gw-test", timedelta(minutes=10)), now=True)
    later = START + timedelta(days=400)
    await gateway.say(SESSION_START, cgm.session_start(later), at=later)
    await gateway.say(STATUS, cgm.with_crc(bytes(5)), at=later)
    ((stream, first, last),) = await gateway.gaps()
    paired = gateway.buffer.devices[PATCH].record.paired_at
    assert (stream, first, last) == ("cgm", int((paired - START) / timedelta(minutes=1)), 400 * 1_440 - 1)


async def test_the_next_session_under_the_same_digits_has_keys_of_its_own(gateway):
    """A factory date that nobody ever sets: two looks agree on when the session began."""
    factory, later = datetime(2020, 1, 1, tzinfo=UTC), NOW + timedelta(days=1)
    for channel, value in ((FEATURE, cgm.feature()), (SESSION_START, cgm.session_start(factory))):
        await gateway.say(channel, value)
    await gateway.say(STATUS, cgm.with_crc((300).to_bytes(2, "little") + bytes(3)))
    await gateway.say(MEASUREMENT, *(record(offset) for offset in range(301)))
    await gateway.say(SESSION_START, cgm.session_start(factory), at=later)
    await gateway.say(STATUS, cgm.with_crc((120).to_bytes(2, "little") + bytes(3)), at=later)
    assert gateway.missing() is None
    fates, _ = await gateway.say(MEASUREMENT, record(121), live=True, at=later + timedelta(minutes=1))
    assert fates[-1] == "durable"
    assert gateway.missing() == (0, True)
    fates, _ = await gateway.say(MEASUREMENT, *(record(offset) for offset in range(121)), at=later)
    assert set(fates) == {"facts", "durable"}
    claim = await gateway.buffer.claim(Lane.SENSOR, 1_000, 1 << 20)
    assert len({event.idempotency_key for event in claim.events}) == len(claim.events) == 301 + 122


async def test_a_status_that_goes_back_once_stops_nothing_for_long(gateway):
    await gateway.begin()
    await gateway.say(STATUS, cgm.with_crc((150).to_bytes(2, "little") + bytes(3)))
    await gateway.records(*range(151))
    await gateway.say(STATUS, cgm.with_crc(bytes(5)))  # a status of nothing, as after a reset of its radio
    assert gateway.missing() is None
    fates, _ = await gateway.say(MEASUREMENT, record(152), live=True, at=START + timedelta(minutes=152))
    assert fates[-1] == "durable"
    assert gateway.missing() == (151, True)


async def test_holes_too_many_to_keep_in_mind_are_named(gateway):
    await gateway.begin()
    await gateway.records(0, 1)
    for offset in range(3, 3 + 2 * 80, 2):
        await gateway.records(offset)
    await gateway.records(162)
    await gateway.exhausted()
    assert await gateway.gaps() == [("cgm", offset, offset) for offset in range(2, 162, 2)]


async def test_the_same_patient_again_keeps_the_keys(gateway):
    """A collector wrote the time meanwhile: the start as first read outlives the pairing."""
    await gateway.begin()
    await gateway.records(*range(5))
    await gateway.buffer.submit(unpair(PATCH), now=True)
    await gateway.buffer.submit(pair(PairRequest(), CLAIMS, "gw-test", timedelta(minutes=10)), now=True)
    await gateway.say(SESSION_START, cgm.session_start(START + timedelta(seconds=7)))
    await gateway.say(STATUS, cgm.with_crc((180).to_bytes(2, "little") + bytes(3)))
    await gateway.records(*range(5))
    claim = await gateway.buffer.claim(Lane.SENSOR, 500, 1 << 20)
    assert len(claim.events) == 10
    assert len({event.idempotency_key for event in claim.events}) == 5


async def test_a_record_that_makes_no_event_is_set_aside_and_not_asked_for_again(gateway):
    """Without a quality the contract's field is missing; fetching the record again would change nothing."""
    await gateway.begin()
    body = b"\x00" + cgm.sfloat(120) + b"\x00\x00"
    value = cgm.with_crc(bytes([len(body) + 3]) + body)
    assert (await gateway.say(MEASUREMENT, value))[0][-1] == "quarantined"
    assert gateway.missing() == (1, False)
    assert (await gateway.say(MEASUREMENT, value))[0][-1] == "duplicate"
    ((_, seen, item),) = await gateway.buffer.look.quarantine_entries()
    assert (seen, item.reason) == (1, "missing:reading_quality")


async def test_a_damaged_record_is_set_aside_and_fetched_again(gateway):
    await gateway.begin()
    damaged = record(1)[:-1] + b"\x00"
    assert (await gateway.say(MEASUREMENT, record(0), damaged, record(2), live=True))[0].count("quarantined") == 1
    assert gateway.missing() == (1, True)


async def test_the_model_selects_the_quirks_of_what_follows_at_once(gateway):
    """Before anything of it is durable: the model is read in the same moment as the feature."""
    guardian = bytes.fromhex("009001591404")  # a real one: CRC-16/CCITT-FALSE
    assert (await gateway.say(FEATURE, guardian))[0] == ["quarantined"]
    first, _ = gateway.ingest.receive(Batch([Frame(PATCH, MODEL, b"Guardian 4\0", NOW, False)]), "ble")
    second, asked = gateway.ingest.receive(Batch([Frame(PATCH, FEATURE, guardian, NOW, False)]), "ble")
    assert [name for name, *_ in await second] == ["facts"]
    await first
    (ask,) = asked
    body = b"\x02"
    assert ask.writes[0].payload == body + crc16(body, "ccitt_false").to_bytes(2, "little")
    assert ask.writes[0].channel == SOCP


async def test_a_battery_is_an_event_only_when_it_changes(gateway):
    fates = [(await gateway.say(LEVEL, bytes([level])))[0][-1] for level in (90, 90, 89, 89)]
    assert fates == ["durable", "unchanged", "durable", "unchanged"]
    assert [data["detail"] for data in await gateway.stored(Lane.TELEMETRY)] == ["90 %", "89 %"]


async def test_an_unclear_session_is_shown(gateway):
    await gateway.begin()
    assert "check" not in patches(gateway.buffer, None)[0]
    await gateway.say(SESSION_START, cgm.session_start(START + timedelta(hours=9)))
    (row,) = patches(gateway.buffer, None)
    assert "unclear" in row["check"]
    assert f"CHECK: {row['check']}" in show_patches({"patches": [row]})
