"""The pairing label of a patch: `NFLX1:` + base32(39 octets of claims + 64 octets of Ed25519 signature).

| offset | length | field (big-endian) |
|---|---|---|
| 0 | 1 | version = 1 |
| 1 | 2 | kid, the manufacturer's key |
| 3 | 1 | low nibble device type, high nibble flags |
| 4 | 6 | device_id suffix, base36 |
| 10 | 2 | batch date, days since 2020-01-01 |
| 12 | 2 | batch suffix, base36 |
| 14 | 2 | expiry, days since 2020-01-01 |
| 16 | 1 | address type: 0 public, 1 random static, 2 derived (address zero) |
| 17 | 6 | BLE identity address |
| 23 | 16 | out-of-band secret |
"""

import base64
import binascii
import re
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from typing import get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.key_list import KeyList
from schemas.patch_events import DeviceType

PREFIX = "NFLX1:"
_DOMAIN = b"nflx-pair-v1\0"
_BODY_LENGTH, _TOKEN_LENGTH = 39, 103
_EPOCH = date(2020, 1, 1)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DEVICE_TYPES: tuple[DeviceType, ...] = get_args(DeviceType)
_ALPHABET = re.compile(r"[A-Z2-7]{165}", re.ASCII)


def passkey_of(secret: bytes) -> int:
    """The passkey of LE Secure Connections that the patch derives from its label's secret too, 0 to 999999."""
    derived = HKDF(SHA256(), length=4, salt=None, info=b"nflx-passkey-v1").derive(secret)
    return int.from_bytes(derived, "big") % 1_000_000


@dataclass(frozen=True, slots=True)
class PairingLabel:
    """The claims of one label. `secret` is never shown: it is left out of the repr."""

    kid: int
    device_type: DeviceType
    device_id: str
    batch_number: str
    expiry: date
    address_type: int
    address: bytes
    secret: bytes = field(repr=False)
    flags: int = 0


class Verdict(StrEnum):
    """What a scan of a label comes to."""

    ACCEPTED = "accepted"
    FORGED = "forged"
    EXPIRED = "expired"
    RECALLED = "recalled"
    ALREADY_PAIRED = "already_paired"
    REVOKED_KEY = "revoked_key"
    UNKNOWN_KEY = "unknown_key"
    NOT_A_PAIRING_CODE = "not_a_pairing_code"


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict, and the claims where the signature proves them."""

    verdict: Verdict
    label: PairingLabel | None = None


def encode(label: PairingLabel, key: Ed25519PrivateKey) -> str:
    """The text of the label's QR symbol; ValueError or OverflowError for claims that do not fit the layout."""
    if len(label.secret) != 16 or len(label.address) != 6:
        raise ValueError("the secret has 16 octets and the address 6")
    _, day, suffix = label.batch_number.split("_")
    body = b"".join(
        (
            b"\x01",
            label.kid.to_bytes(2, "big"),
            bytes([_DEVICE_TYPES.index(label.device_type) | label.flags << 4]),
            int(label.device_id.removeprefix("NFLX_"), 36).to_bytes(6, "big"),
            _days(date(int(day[:4]), int(day[4:6]), int(day[6:]))),
            int(suffix, 36).to_bytes(2, "big"),
            _days(label.expiry),
            bytes([label.address_type]),
            label.address,
            label.secret,
        )
    )
    return PREFIX + base64.b32encode(body + key.sign(_DOMAIN + body)).decode().rstrip("=")


def decode(text: str) -> tuple[PairingLabel, bytes, bytes] | None:
    """Claims (not yet proven), body and signature; None for anything that is not a canonical label."""
    token = text.removeprefix(PREFIX)
    if token == text or not _ALPHABET.fullmatch(token):
        return None
    try:
        raw = base64.b32decode(token + "=" * (-len(token) % 8))
    except binascii.Error:
        return None
    if len(raw) != _TOKEN_LENGTH or base64.b32encode(raw).decode().rstrip("=") != token:
        return None
    body, signature = raw[:_BODY_LENGTH], raw[_BODY_LENGTH:]
    serial, batch = int.from_bytes(body[4:10], "big"), int.from_bytes(body[12:14], "big")
    device_type, address_type = body[3] & 0x0F, body[16]
    if body[0] != 1 or serial >= 36**8 or batch >= 36**3 or device_type >= len(_DEVICE_TYPES) or address_type > 2:
        return None
    label = PairingLabel(
        kid=int.from_bytes(body[1:3], "big"),
        device_type=_DEVICE_TYPES[device_type],
        flags=body[3] >> 4,
        device_id=f"NFLX_{_base36(serial, 8)}",
        batch_number=f"BATCH_{_day(body[10:12]):%Y%m%d}_{_base36(batch, 3)}",
        expiry=_day(body[14:16]),
        address_type=address_type,
        address=body[17:23],
        secret=body[23:39],
    )
    return label, body, signature


def verify(text: str, keys: KeyList, *, today: date, paired: Container[str] = ()) -> Verification:
    """Check a label offline against the manufacturer's key and recall list. Every verdict is a value."""
    decoded = decode(text.strip())
    if decoded is None:
        return Verification(Verdict.NOT_A_PAIRING_CODE)
    label, body, signature = decoded
    key = keys.key(label.kid)
    if key is None:
        return Verification(Verdict.UNKNOWN_KEY)
    try:
        Ed25519PublicKey.from_public_bytes(key.public_bytes()).verify(signature, _DOMAIN + body)
    except (InvalidSignature, ValueError):
        return Verification(Verdict.FORGED)
    if key.revoked or not key.not_before <= batch_date(label.batch_number) <= key.not_after:
        return Verification(Verdict.REVOKED_KEY)
    if keys.is_recalled(label.batch_number, label.device_id):
        return Verification(Verdict.RECALLED, label)
    if label.expiry < today:
        return Verification(Verdict.EXPIRED, label)
    return Verification(Verdict.ALREADY_PAIRED if label.device_id in paired else Verdict.ACCEPTED, label)


def batch_date(batch_number: str) -> date:
    """The day in `BATCH_YYYYMMDD_XXX`."""
    digits = batch_number.split("_")[1]
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


def _days(day: date) -> bytes:
    return (day - _EPOCH).days.to_bytes(2, "big")


def _day(octets: bytes) -> date:
    return _EPOCH + timedelta(days=int.from_bytes(octets, "big"))


def _base36(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits
