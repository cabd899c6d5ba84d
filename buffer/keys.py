"""The key ring: KEK (32 octets, a credential or a key file) -> subkeys -> wrapped DEKs, one per (patch, UTC day)."""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from buffer.errors import SealError
from buffer.medium import surely_missing

KEY_LENGTH = 32
CREDENTIAL = "kek"
_CHECK = b"patch-gateway key check"


class KeyRing:
    """Wraps DEKs and makes blind indexes under one KEK. The KEK itself is not kept."""

    def __init__(self, kek: bytes, epoch: int = 1) -> None:
        self.epoch = epoch
        self._wrap = AESGCM(_derive(kek, b"wrap"))
        self._index = _derive(kek, b"blind-index")

    def wrap(self, dek: bytes, context: bytes) -> bytes:
        """Nonce and ciphertext of a DEK; `context` names what the key is for."""
        nonce = os.urandom(12)
        return nonce + self._wrap.encrypt(nonce, dek, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The DEK; SealError when key or context differ."""
        try:
            return self._wrap.decrypt(wrapped[:12], wrapped[12:], context)
        except (InvalidTag, ValueError):
            raise SealError("a data key does not open under this key") from None

    def blind(self, purpose: str, value: str | bytes) -> bytes:
        """16 octets that find equal values again and tell nothing else."""
        octets = value.encode() if isinstance(value, str) else value
        return hmac.digest(self._index, purpose.encode() + b"\0" + octets, hashlib.sha256)[:16]

    def check_value(self) -> bytes:
        """Stored once per database, so that a wrong key is told from damage."""
        return self.wrap(_CHECK, b"check")

    def verify(self, check_value: bytes) -> bool:
        """Is this the key the database was made with?"""
        try:
            return self.unwrap(check_value, b"check") == _CHECK
        except SealError:
            return False


def read_kek(key_file: Path, credentials: Path | None, database: Path) -> bytes:
    """The KEK from systemd's credential directory, else from a key file of mode 0600; SealError in one sentence."""
    source = credentials / CREDENTIAL if credentials and (credentials / CREDENTIAL).exists() else key_file
    try:
        with source.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            key = opened.read(KEY_LENGTH + 1)
    except FileNotFoundError:
        if not surely_missing(database):
            what = f"restore the one that {database} was made with; a new one opens nothing of it"
        else:
            what = "`patch-gateway keys init` makes one"
        raise SealError(f"There is no key at {source}: {what} (--config names other settings).") from None
    except OSError as error:
        raise SealError(f"The key {source} cannot be read ({error.strerror}): check its owner and mode.") from None
    if source == key_file and stat.S_IMODE(mode) & 0o077:
        raise SealError(f"The key file {source} can be read by others: run `chmod 600 {source}`.")
    if len(key) != KEY_LENGTH:
        raise SealError(f"The key {source} is not a key: it must hold exactly {KEY_LENGTH} random octets.")
    return key


def make_key_file(path: Path) -> None:
    """Write a new KEK, mode 0600, durable; FileExistsError rather than overwrite one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(secrets.token_bytes(KEY_LENGTH))
        opened.flush()
        os.fsync(opened.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _derive(kek: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_LENGTH, salt=None, info=b"patch-gateway/" + purpose).derive(kek)
