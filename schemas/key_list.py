"""The manufacturer's key and recall list: one JSON file, `{"list": base64 of the JSON, "signature": base64}`.

The signature is Ed25519 by the root key over the bytes of the list, so no canonical form of JSON is needed.
"""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError

from schemas.base import BatchNumber, Date, DateTime, DeviceId, Model


class LabelKey(Model):
    """One manufacturer key; good for batches made from `not_before` to `not_after`. `public_key` is base64."""

    kid: int = Field(ge=0, le=0xFFFF)
    public_key: str
    not_before: Date
    not_after: Date
    revoked: bool = False

    def public_bytes(self) -> bytes:
        return base64.b64decode(self.public_key)


class Recall(Model):
    """A recalled batch, or only some devices of it."""

    batch: BatchNumber
    devices: list[DeviceId] | None = None


class KeyList(Model):
    """Which keys sign labels, and what is recalled. `sequence` grows with every issue."""

    issued_at: DateTime
    sequence: int = Field(ge=0)
    keys: list[LabelKey]
    recalled: list[Recall] = []

    def key(self, kid: int) -> LabelKey | None:
        return next((key for key in self.keys if key.kid == kid), None)

    def is_recalled(self, batch_number: str, device_id: str) -> bool:
        return any(
            recall.batch == batch_number and (recall.devices is None or device_id in recall.devices)
            for recall in self.recalled
        )


class _SignedFile(Model):
    list: str
    signature: str


class KeyListError(ValueError):
    """The file is not a key list signed by the root key; the message says which part failed."""


def sign_key_list(keys: KeyList, root: Ed25519PrivateKey) -> bytes:
    """The file's bytes."""
    body = keys.to_json()
    signed = _SignedFile(list=base64.b64encode(body).decode(), signature=base64.b64encode(root.sign(body)).decode())
    return signed.to_json()


def read_key_list(content: bytes, root: bytes) -> KeyList:
    """Parse and verify a signed file against the root key's 32 octets; KeyListError says what is wrong."""
    try:
        signed = _SignedFile.model_validate_json(content)
        body = base64.b64decode(signed.list, validate=True)
        Ed25519PublicKey.from_public_bytes(root).verify(base64.b64decode(signed.signature, validate=True), body)
        keys = KeyList.model_validate_json(body)
        for key in keys.keys:
            Ed25519PublicKey.from_public_bytes(key.public_bytes())
    except InvalidSignature:
        raise KeyListError("its signature is not by pairing.root_key") from None
    except (ValidationError, binascii.Error, ValueError):
        raise KeyListError("it is not a signed key list") from None
    return keys
