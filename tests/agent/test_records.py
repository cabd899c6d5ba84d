"""Stored records of a BLE patch in the buffer: what is missing, what will never come, what is said once."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from agent.ble import Registry, passkey
from agent.counters import Counters
from agent.ingest import Ingest
from agent.pairing import Claims, PairRequest, pair, unpair
from agent.show import show_patches
from agent.status import patches
from buffer.devices import DeviceRecord
from buffer.lanes import Lane
from buffer.store import EventBuffer
from device_drivers.base import Frame
from device_drivers.byte_reader import crc16
from device_drivers.emulated import cgm
from device_drivers.links.base import Batch, Exhausted
from device_drivers.profiles.battery import LEVEL
from device_drivers.profiles.continuous_glucose import (
    FEATURE,
    GATT,
    MEASUREMENT,
    RUN_TIME,
    SESSION_START,
    SOCP,
    STATUS,
)  # fmt: skip
from device_drivers.profiles.device_information import MODEL

PATCH = "NFLX_0A1B2C3D"
START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
NOW = START + timedelta(hours=3)
KEK = os.urandom(32)
RECORD = DeviceRecord(
    device_id=PATCH, batch_number="BATCH_20261101_ABC", device_type="diagnostic_sensor", transport="ble",
    activation_method="manual_entry", session_id="wear-1", paired_at=NOW, address="F0:F1:F2:F3:F4:00",
)  # fmt: skip

CLAIMS = Claims(
    device_id=PATCH, batch_number=RECORD.batch_number, device_type=RECORD.device_type, activation_method="manual_entry",
    address=RECORD.address, passkey=123456,
)  # fmt: skip


class Gateway:
    """A buffer with one paired glucose patch; `say` is what its radio delivers."""

    def __init__(self, buffer):
        self.buffer = buffer
        self.ingest = Ingest(buffer, "gw-test", Counters())
        self.registry = Registry(buffer)

    async def say(self, channel, *payloads, live=False, at=NOW):
        future, asked = self.ingest.receive(Batch([Frame(PATCH, channel, p, at, live) for p in payloads]), "ble")
        return [name for name, *_ in await future], asked

    async def begin(self):
        await self.say(FEATURE, cgm.feature())
        await self.say(SESSION_START, cgm.session_start(START))

    async def records(self, *offsets, live=False):
        for offset in offsets if live else ():
            fates, _ = await self.say(MEASUREMENT, record(offset), live=True, at=START + timedelta(minutes=offset))
        if not live:
            fates, _ = await self.say(MEASUREMENT, *(record(offset) for offset in offsets))
        return [fate for fate in fates if fate != "facts"]

    async def exhausted(self):
        future, _ = self.ingest.receive(Batch(exhausted=Exhausted(PATCH, GATT.records)), "ble")
        await future

    def missing(self):
        return self.registry.missing(PATCH, GATT.records)

    async def stored(self, lane):
        """Data of the rows of a lane."""
        claim = await self.buffer.claim(lane, 500, 1 << 20)
        self.buffer.release(lane, claim.rows)
        return [json.loads(event.body)["data"] for event in claim.events]

    async def gaps(self):
        found = [data for data in await self.stored(Lane.URGENT) if data["kind"] == "sequence_gap"]
        return [(data["stream"], data["from"], data["to"]) for data in found]


def record(offset, quality=90):
    return cgm.measurement(cgm.Record(120, offset, trend=20, quality=quality))


@pytest.fixture
async def gateway(tmp_path):
    opened = await EventBuffer.open(tmp_path / "b.db", KEK, gateway_id="gw-test", tick=0.01)
    await opened.submit(lambda draft: draft.put_device(RECORD), now=True)
    yield Gateway(opened)
    await opened.close()


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


async def test_a_wider_interval_is_learnt_after_one_marker(gateway):
    await gateway.begin()
    await gateway.records(*range(31))
    for offset in range(35, 100, 5):
        await gateway.records(offset, live=True)
        if gateway.missing().hole:
            await gateway.exhausted()
    assert await gateway.gaps() == [("cgm", 31, 34)]
    await gateway.records(96, 97)  # and back again
    await gateway.records(99, live=True)
    assert gateway.missing() == (98, True)


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
    ((_, seen, item),) = await gateway.buffer.quarantine_entries()
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


async def test_the_passkey_is_known_to_the_radio_only_while_the_window_is_open(gateway):
    assert gateway.registry.patches()[PATCH].passkey is None
    for until, expected in ((timedelta(minutes=10), 123456), (-timedelta(seconds=1), None)):
        opened = RECORD.model_copy(update={"passkey": 123456, "window_until": datetime.now(UTC) + until})
        await gateway.buffer.submit(lambda draft, record=opened: draft.put_device(record), now=True)
        patch = gateway.registry.patches()[PATCH]
        assert patch.passkey == expected
        assert "123456" not in repr(patch)


async def paired(gateway, passkey=None, secret=None, address=None):
    """The record after a person paired the patch with this."""
    from agent.pairing import Claims, Paired, PairRequest, pair

    claims = Claims(device_id=PATCH, batch_number=RECORD.batch_number, device_type=RECORD.device_type,
                    activation_method="manual_entry", passkey=passkey, secret=secret, address=address)  # fmt: skip
    decide = pair(PairRequest(), claims, "gw-test", timedelta(minutes=10))
    assert isinstance(await gateway.buffer.submit(decide, now=True), Paired)
    return gateway.buffer.devices[PATCH].record


async def test_what_a_person_says_now_replaces_an_older_passkey(gateway):
    assert passkey(await paired(gateway, passkey=123456)) == 123456
    assert passkey(await paired(gateway, passkey=0)) == 0
    labelled = await paired(gateway, secret="AAECAwQFBgcICQoLDA0ODw==")
    assert (labelled.passkey, labelled.label_secret) == (None, "AAECAwQFBgcICQoLDA0ODw==")
    assert (await paired(gateway, secret="AAECAwQFBgcICQoLDA0ODw==")).address == RECORD.address
    both = await paired(gateway, passkey=7, secret="AAECAwQFBgcICQoLDA0ODw==")
    assert passkey(both) == 7


async def test_a_record_without_an_address_takes_the_one_that_is_given(gateway):
    bare = RECORD.model_copy(update={"address": None})
    await gateway.buffer.submit(lambda draft: draft.put_device(bare), now=True)
    assert (await paired(gateway, passkey=1, address="F0:F1:F2:F3:F4:09")).address == "F0:F1:F2:F3:F4:09"


def test_no_secret_shows_in_a_repr():
    from agent.pairing import Claims, PairRequest

    shown = [
        RECORD.model_copy(update={"passkey": 765432, "label_secret": "c2VjcmV0"}),
        PairRequest(label="NFLX1:c2VjcmV0", passkey=765432),
        Claims(device_id=PATCH, batch_number=RECORD.batch_number, device_type=RECORD.device_type,
               activation_method="qr_scan", secret="c2VjcmV0", passkey=765432),
    ]  # fmt: skip
    for text in (words for each in shown for words in (repr(each), str(each))):
        assert "c2VjcmV0" not in text
        assert "765432" not in text


async def test_a_radio_that_is_down_is_named_at_once(monkeypatch):
    from agent import bonding as waiting
    from device_drivers.links.ble_base import BleState, PatchState

    monkeypatch.setattr(waiting, "_DOWN_SECONDS", 0.1)
    down = BleState("ble hci0", reason="there is no adapter hci0", since=NOW)
    found = await waiting.bonding(lambda: [down], PATCH, NOW)
    assert found["bond"] == "waiting"
    assert "there is no adapter hci0" in found["bond_note"]
    assert "close" not in found["bond_note"]
    assert waiting.no_radio([BleState("ble hci0")]) is None, "it has not said anything yet"
    assert waiting.no_radio([down, BleState("ble hci1", connected=True, since=NOW)]) is None
    wrong = PatchState("the passkey is wrong", pair_again=True, window=NOW)
    up = BleState("ble hci0", connected=True, since=NOW, patches={PATCH: wrong})
    assert await waiting.bonding(lambda: [up], PATCH, NOW) == {"bond": "failed", "bond_note": "the passkey is wrong"}


def test_a_failed_bond_is_exit_code_1(monkeypatch, tmp_path, capsys):
    from agent import cli, offline
    from agent.control import Answer

    base = {"device_id": PATCH, "new": True, "application_recorded": False, "released": 0, "transport": "ble"}
    (tmp_path / "gateway.toml").write_text("")
    for bond, code in (("failed", 1), ("waiting", 0), ("bonded", 0), ("not needed", 0)):
        answer = Answer(ok=True, result={**base, "bond": bond})
        monkeypatch.setattr(offline, "ask_or_do", lambda *_, answer=answer: answer)
        asked = ["--config", str(tmp_path / "gateway.toml"), "pair", "--device-id", PATCH]
        assert cli.main(asked) == code
    assert "NOT BONDED" in capsys.readouterr().out


def test_the_passkey_of_a_label_is_the_one_its_patch_derives():
    """HKDF-SHA256(secret, no salt, `nflx-passkey-v1`, 4 octets) mod 10^6, computed by hand here."""
    import base64
    import hashlib
    import hmac

    secret = bytes(range(16))
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    octets = hmac.digest(extracted, b"nflx-passkey-v1\x01", hashlib.sha256)[:4]
    record = RECORD.model_copy(update={"label_secret": base64.b64encode(secret).decode()})
    assert passkey(record) == int.from_bytes(octets, "big") % 1_000_000
    assert passkey(RECORD) is None


async def test_an_unclear_session_is_shown(gateway):
    await gateway.begin()
    assert "check" not in patches(gateway.buffer, None)[0]
    await gateway.say(SESSION_START, cgm.session_start(START + timedelta(hours=9)))
    (row,) = patches(gateway.buffer, None)
    assert "unclear" in row["check"]
    assert f"CHECK: {row['check']}" in show_patches({"patches": [row]})
