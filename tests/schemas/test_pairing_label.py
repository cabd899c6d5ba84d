"""Labels: every verdict is a value, and no changed label is ever accepted."""

import base64
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings, strategies as st

from schemas.key_list import KeyList, KeyListError, LabelKey, Recall, read_key_list, sign_key_list
from schemas.pairing_label import PREFIX, PairingLabel, Verdict, decode, encode, verify

MAKER, OTHER, ROOT = (Ed25519PrivateKey.generate() for _ in range(3))
TODAY = date(2026, 11, 24)
LABEL = PairingLabel(
    kid=7,
    device_type="insulin_patch",
    device_id="NFLX_0A1B2C3Z",
    batch_number="BATCH_20261101_0Z9",
    expiry=date(2027, 11, 1),
    address_type=1,
    address=bytes.fromhex("C0FFEE000001"),
    secret=bytes(range(16)),
)
TEXT = encode(LABEL, MAKER)


def keys(**changes):
    public = base64.b64encode(MAKER.public_key().public_bytes_raw()).decode()
    fields = {"kid": 7, "public_key": public, "not_before": date(2026, 1, 1), "not_after": date(2026, 12, 31)}
    recalled = changes.pop("recalled", [])
    key = LabelKey(**{**fields, **changes})
    return KeyList(issued_at=datetime(2026, 11, 1, tzinfo=UTC), sequence=1, keys=[key], recalled=recalled)


def test_round_trip():
    assert len(TEXT) == 171
    decoded = decode(TEXT)
    assert decoded is not None
    assert decoded[0] == LABEL
    found = verify(TEXT, keys(), today=TODAY)
    assert (found.verdict, found.label) == (Verdict.ACCEPTED, LABEL)


@pytest.mark.parametrize(
    ("text", "known", "today", "paired", "verdict"),
    [
        (TEXT, keys(), date(2027, 11, 2), (), Verdict.EXPIRED),
        (TEXT, keys(), TODAY, {"NFLX_0A1B2C3Z"}, Verdict.ALREADY_PAIRED),
        (TEXT, keys(revoked=True), TODAY, (), Verdict.REVOKED_KEY),
        (TEXT, keys(not_after=date(2026, 10, 31)), TODAY, (), Verdict.REVOKED_KEY),
        (TEXT, keys(kid=8), TODAY, (), Verdict.UNKNOWN_KEY),
        (TEXT, keys(recalled=[Recall(batch=LABEL.batch_number)]), TODAY, (), Verdict.RECALLED),
        (
            TEXT,
            keys(recalled=[Recall(batch=LABEL.batch_number, devices=[LABEL.device_id])]),
            TODAY,
            (),
            Verdict.RECALLED,
        ),
        (
            TEXT,
            keys(recalled=[Recall(batch=LABEL.batch_number, devices=["NFLX_00000000"])]),
            TODAY,
            (),
            Verdict.ACCEPTED,
        ),
        (encode(LABEL, OTHER), keys(), TODAY, (), Verdict.FORGED),
        (TEXT.removeprefix(PREFIX), keys(), TODAY, (), Verdict.NOT_A_PAIRING_CODE),
        (TEXT.lower(), keys(), TODAY, (), Verdict.NOT_A_PAIRING_CODE),
        ("https://example.org", keys(), TODAY, (), Verdict.NOT_A_PAIRING_CODE),
        ("", keys(), TODAY, (), Verdict.NOT_A_PAIRING_CODE),
    ],
)
def test_verdicts(text, known, today, paired, verdict):
    assert verify(text, known, today=today, paired=paired).verdict is verdict


def claims(label, **request):
    from agent.pairing import PairRequest, read_claims

    return read_claims(PairRequest(label=encode(label, MAKER), **request), keys(), TODAY)


def test_the_address_beside_a_label():
    sensor = replace(LABEL, device_type="diagnostic_sensor")
    given = "F0:F1:F2:F3:F4:00"
    assert claims(sensor).address == "C0:FF:EE:00:00:01"
    assert claims(sensor, address="c0:ff:ee:00:00:01").address == "C0:FF:EE:00:00:01"
    assert "names the address C0:FF:EE:00:00:01" in claims(sensor, address=given).reason
    assert claims(replace(sensor, address=bytes(6), address_type=2), address=given).address == given


def test_a_label_of_a_type_without_a_ble_profile():
    assert claims(LABEL).reason == "An insulin_patch is read over MQTT only: add --transport mqtt."
    assert claims(LABEL, transport="mqtt").device_id == LABEL.device_id


def test_every_bit_flip_is_refused():
    raw = base64.b32decode(TEXT.removeprefix(PREFIX) + "===")
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        text = PREFIX + base64.b32encode(bytes(flipped)).decode().rstrip("=")
        assert verify(text, keys(), today=TODAY).verdict is not Verdict.ACCEPTED


def test_unused_bits_of_the_last_character_must_be_zero():
    """165 base32 characters hold 825 bits, a token 824: the spare bit would be a second spelling."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    other = alphabet[alphabet.index(TEXT[-1]) ^ 1]
    assert verify(TEXT[:-1] + other, keys(), today=TODAY).verdict is Verdict.NOT_A_PAIRING_CODE


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_mutated_label_is_accepted(data):
    at = data.draw(st.integers(0, len(TEXT) - 1))
    kind = data.draw(st.sampled_from(["replace", "insert", "delete", "swap"]))
    char = data.draw(st.characters())
    if kind == "replace":
        text = TEXT[:at] + char + TEXT[at + 1 :]
    elif kind == "insert":
        text = TEXT[:at] + char + TEXT[at:]
    elif kind == "delete":
        text = TEXT[:at] + TEXT[at + 1 :]
    else:
        text = TEXT[:at] + TEXT[at : at + 2][::-1] + TEXT[at + 2 :]
    found = verify(text, keys(), today=TODAY)
    assert found.verdict is not Verdict.ACCEPTED or text.strip() == TEXT


@given(st.text(max_size=400))
def test_any_text_gives_a_verdict(text):
    assert verify(text, keys(), today=TODAY).verdict is Verdict.NOT_A_PAIRING_CODE


@given(
    st.integers(0, 36**8 - 1), st.integers(0, 36**3 - 1), st.integers(0, 65_535), st.binary(min_size=16, max_size=16)
)
def test_all_claims_survive(serial, batch, days, secret):
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def base36(number, width):
        return "".join(digits[number // 36**power % 36] for power in reversed(range(width)))

    label = PairingLabel(
        kid=days,
        device_type="vaccine_patch",
        device_id=f"NFLX_{base36(serial, 8)}",
        batch_number=f"BATCH_20260101_{base36(batch, 3)}",
        expiry=date(2020, 1, 1) + timedelta(days=days),
        address_type=2,
        address=bytes(6),
        secret=secret,
        flags=15,
    )
    decoded = decode(encode(label, MAKER))
    assert decoded is not None
    assert decoded[0] == label


def test_the_secret_is_not_shown():
    assert "secret" not in repr(LABEL)


def test_key_list_file():
    root = ROOT.public_key().public_bytes_raw()
    content = sign_key_list(keys(), ROOT)
    assert read_key_list(content, root) == keys()
    with pytest.raises(KeyListError, match="signature"):
        read_key_list(sign_key_list(keys(), OTHER), root)
    for broken in (b"", b"{}", b"[]", content[:-5], content.replace(b'"list":"', b'"list":"%%')):
        with pytest.raises(KeyListError):
            read_key_list(broken, root)
