"""One row's life in bytes: fold, compress with the shipped dictionary, seal with the DEK, and back."""

import os
import struct
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from buffer.errors import SealError
from buffer.folding import fold, unfold, unpack
from schemas.wire import WireEvent

FORMAT = 1
CURRENT_DICTIONARY = 2
# In the place of a lane: what is in no queue, and the words of a key
NO_LANE, _WORDS_LANE = 255, 254
# Bound against a decompression bomb; the largest event central takes is 64 KiB.
MAX_OPENED = 1 << 20
_AAD = struct.Struct(">BIB")


@cache
def _dictionary(dict_id: int) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict((files("buffer") / "dictionaries" / f"{dict_id}.zdict").read_bytes())


@cache
def _compressor(dict_id: int) -> zstandard.ZstdCompressor:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, write_content_size=False, write_checksum=False, write_dict_id=False
    )
    return zstandard.ZstdCompressor(dict_data=_dictionary(dict_id), compression_params=parameters)


@cache
def _decompressor(dict_id: int) -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(dict_data=_dictionary(dict_id))


class Dek:
    """One data key: its row, its dictionary, its cipher, the words its events repeat (None: a key of schema 1 or 2)."""

    __slots__ = ("_cipher", "dict_id", "id", "words")

    def __init__(
        self, dek_id: int, key: bytes, dict_id: int = CURRENT_DICTIONARY, words: Sequence[bytes] | None = None
    ) -> None:
        self.id = dek_id
        self.dict_id = dict_id
        self.words = words
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, lane: int = NO_LANE) -> bytes:
        """Nonce (random, 12 octets) and ciphertext, bound to format, key and lane."""
        nonce = os.urandom(12)
        packed = _compressor(self.dict_id).compress(plain)
        return nonce + self._cipher.encrypt(nonce, packed, _AAD.pack(FORMAT, self.id, lane))

    def open(self, sealed: bytes, lane: int = NO_LANE) -> bytes:
        """The plaintext; SealError for anything but what `seal` made with this key and lane."""
        try:
            packed = self._cipher.decrypt(sealed[:12], sealed[12:], _AAD.pack(FORMAT, self.id, lane))
            return _decompressor(self.dict_id).decompress(packed, max_output_size=MAX_OPENED)
        except (InvalidTag, ValueError, zstandard.ZstdError):
            raise SealError("a row does not open under its key") from None

    def seal_event(self, event: WireEvent, lane: int) -> bytes:
        """An event as a row of its lane."""
        return self.seal(fold(event, self.words or ()), lane)

    def open_event(self, sealed: bytes, lane: int) -> WireEvent:
        """The inverse of `seal_event`; SealError as of `open`."""
        plain = self.open(sealed, lane)
        return unpack(plain) if self.words is None else unfold(plain, self.words)

    def sealed_words(self) -> bytes:
        """The words, for the row of the key."""
        return self.seal(b"\0".join(self.words or ()), _WORDS_LANE)

    def open_words(self, sealed: bytes | None) -> None:
        """Take the words from the row of the key; SealError where they are damaged."""
        self.words = None if sealed is None else [w for w in self.open(sealed, _WORDS_LANE).split(b"\0") if w]
