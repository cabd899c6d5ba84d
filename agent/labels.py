"""`label make`: pairing labels signed with test keys, for trying things out; real labels come from the patch maker."""

import base64
import json
import os
import secrets
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter, ValidationError

from schemas.base import BatchNumber, DeviceId
from schemas.key_list import KeyList, LabelKey, sign_key_list
from schemas.pairing_label import PairingLabel, encode
from schemas.patch_events import DeviceType
from schemas.problems import field_errors

TEST_KID = 0xFFFF
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def make_label(
    folder: Path,
    *,
    device_id: str | None,
    batch: str | None,
    device_type: DeviceType,
    expiry: str | None,
    as_json: bool,
) -> int:
    """Print one label and the settings under which a gateway accepts it; makes the test keys when they are missing."""
    today = datetime.now(UTC).date()
    try:
        maker, root = (_key(folder / name) for name in ("maker.key", "root.key"))
    except OSError as error:
        print(f"patch-gateway: the folder {folder} cannot be used: {error.strerror}.", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return 2
    try:
        label = PairingLabel(
            kid=TEST_KID,
            device_type=device_type,
            device_id=TypeAdapter(DeviceId).validate_python(device_id or "NFLX_" + _random_suffix()),
            batch_number=TypeAdapter(BatchNumber).validate_python(batch or f"BATCH_{today:%Y%m%d}_TST"),
            expiry=_date(expiry) if expiry else today + timedelta(days=365),
            address_type=1,
            address=bytes([0xC0 | secrets.randbits(6), *secrets.token_bytes(5)]),
            secret=secrets.token_bytes(16),
        )
        text = encode(label, maker)
    except (ValidationError, ValueError, OverflowError) as error:
        reason = field_errors(error)[0].message if isinstance(error, ValidationError) else str(error)
        print(f"patch-gateway: no such label can be made: {reason}", file=sys.stderr)
        return 2
    root_key = base64.b64encode(root.public_key().public_bytes_raw()).decode()
    key_list = folder.resolve() / "key-list.json"
    try:
        key_list.write_bytes(_key_list(maker, root))
    except OSError as error:
        print(f"patch-gateway: {key_list} cannot be written: {error.strerror}.", file=sys.stderr)
        return 2
    if as_json:
        shown = {"label": text, "device_id": label.device_id, "key_list": str(key_list), "root_key": root_key}
        print(json.dumps(shown | {"test_keys": True}))
        return 0
    print(text, flush=True)
    print(
        f"\nThis label is signed with TEST keys ({folder}), for {label.device_id}. A gateway accepts it with:\n\n"
        f'[pairing]\nkey_list = "{key_list}"\nroot_key = "{root_key}"',
        file=sys.stderr,
    )
    return 0


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("--expiry is a date such as 2027-01-31") from None


def _key_list(maker: Ed25519PrivateKey, root: Ed25519PrivateKey) -> bytes:
    public = base64.b64encode(maker.public_key().public_bytes_raw()).decode()
    key = LabelKey(kid=TEST_KID, public_key=public, not_before=date(2020, 1, 1), not_after=date(2099, 12, 31))
    return sign_key_list(KeyList(issued_at=datetime.now(UTC), sequence=1, keys=[key]), root)


def _key(path: Path) -> Ed25519PrivateKey:
    if path.exists():
        try:
            return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
        except ValueError:
            raise ValueError(f"{path} is no key of ours: name another folder with --keys.") from None
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(key.private_bytes_raw())
    return key


def _random_suffix() -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(8))
