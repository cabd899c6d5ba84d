"""Passkeys, windows and bonds of a BLE patch: what is kept, what is shown, what is said."""

import asyncio
from datetime import UTC, datetime, timedelta

from glucose import NOW, PATCH, RECORD

from agent.ble import passkey
from agent.pairing import Claims, PairRequest, pair


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
    from agent.pairing import Paired

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


async def test_a_radio_that_is_down_neither_says_bonded_nor_hides_that_another_tried_in_vain(monkeypatch):
    from agent import bonding as waiting
    from device_drivers.links.ble_base import BleState, PatchState

    monkeypatch.setattr(waiting, "_SECONDS", 0.4)
    gone = BleState("ble hci0", since=NOW, patches={PATCH: PatchState("waiting for the adapter", bonded=True)})
    wrong = PatchState("the passkey is wrong", pair_again=True, bonded=False, window=NOW)
    there = BleState("ble hci1", connected=True, since=NOW, patches={PATCH: wrong})
    found = await waiting.bonding(lambda: [gone, there], PATCH, NOW)
    assert found == {"bond": "failed", "bond_note": "the passkey is wrong"}
    wrong.pair_again, wrong.reason = False, "pairing"
    found = await waiting.bonding(lambda: [gone, there], PATCH, NOW)
    assert found["bond"] == "waiting"
    assert "pairing" in found["bond_note"]


async def test_a_daemon_with_much_to_do_answers_in_time_all_the_same(monkeypatch):
    """The client waits 30 s by the clock, however few looks the daemon finds time for: here one each 3 s."""
    from agent import bonding as waiting
    from device_drivers.links.ble_base import BleState, PatchState

    now = [0.0]

    async def busy(_):
        now[0] += 3.0

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", lambda: now[0])
    monkeypatch.setattr(waiting.asyncio, "sleep", busy)
    there = BleState("ble hci1", connected=True, since=NOW, patches={PATCH: PatchState("pairing")})
    found = await waiting.bonding(lambda: [there], PATCH, NOW)
    assert found["bond"] == "waiting"
    assert now[0] < 25


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
