"""Android bug reports: a zip with the Bluetooth snoop log somewhere inside."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from device_drivers.captures.base import CaptureError

MAGIC = b"PK\x03\x04"
_LOGS = ("btsnoop_hci.log", "btsnoop_hci.log.last", "btsnoop_hci.cfa")
_MAX_MEMBERS = 100_000
# What zipfile raises for damaged archives, and for encrypted ones
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, ValueError, RuntimeError, EOFError, OSError, OverflowError)


@contextmanager
def snoop_log(stream: BinaryIO) -> Iterator[BinaryIO]:
    """The newest snoop log in it; CaptureError where there is none."""
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()[:_MAX_MEMBERS]
            found = min(filter(_is_log, names), key=_rank, default=None)
            if found is None:
                raise CaptureError(
                    "this zip holds no Bluetooth snoop log (btsnoop_hci.log): switch it on in Android's developer"
                    " options before the bug report is made"
                )
            if archive.getinfo(found).compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise CaptureError(f"{found} in this zip is packed in a way that Android does not use: unpack it first")
            with archive.open(found) as log:
                yield cast("BinaryIO", log)
    except _DAMAGE as error:
        raise CaptureError(f"this zip cannot be read: {error}") from None


def _is_log(name: str) -> bool:
    return name.lower().endswith(_LOGS)


def _rank(name: str) -> tuple[int, str]:
    return next(index for index, log in enumerate(_LOGS) if name.lower().endswith(log)), name
