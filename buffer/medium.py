"""What the disk under the database says: SQLite's errors, how much room is left, whether it may be written."""

import os
import sqlite3
from enum import Enum
from pathlib import Path

from buffer.errors import MediumError


class Trouble(Enum):
    """Why a transaction could not be made durable now, although nothing is wrong with what is stored."""

    FULL = "there is no room for more"
    LOCKED = "another program has the database locked"


_PASSING = {
    sqlite3.SQLITE_FULL: Trouble.FULL,
    sqlite3.SQLITE_BUSY: Trouble.LOCKED,
    sqlite3.SQLITE_LOCKED: Trouble.LOCKED,
}
_FAILED = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


def trouble_of(error: sqlite3.Error) -> Trouble | None:
    """None where the connection must not be used any more."""
    return _PASSING.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)


def medium_failed(error: sqlite3.Error) -> bool:
    """Must nothing more be written, not even by closing?"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _FAILED


def surely_missing(path: Path) -> bool:
    """Is there no such file, or nothing in it, as far as we may look?"""
    try:
        return not path.exists() or not path.stat().st_size
    except OSError:
        return False


def disk_octets(path: Path) -> int:
    """How large the file system of a file is; MediumError where it does not answer."""
    found = _statvfs(path)
    return found.f_blocks * found.f_frsize


def free_octets(path: Path) -> int:
    """How much the file system of a file has left for us; MediumError where it cannot be written any more.

    An emergency remount makes a file system read-only while COMMIT goes on succeeding: only this tells.
    """
    found = _statvfs(path)
    if found.f_flag & os.ST_RDONLY:
        raise MediumError(f"the file system of {path} became read-only")
    return found.f_bavail * found.f_frsize


def _statvfs(path: Path) -> os.statvfs_result:
    try:
        return os.statvfs(path)
    except OSError as error:
        raise MediumError(f"the file system of {path} does not answer: {error}") from error
