"""Opening the database file: lock, cached pages dropped, pragmas set and read back, migrations."""

import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import aiosqlite

from buffer.errors import InUseError, MediumError, SchemaError, StoreError
from buffer.medium import Trouble, medium_failed, trouble_of

log = logging.getLogger(__name__)

PAGE_SIZE = 2048
WAL_PAGES = 2000  # 4 MiB of WAL between checkpoints
_FULL = 2
# How long a statement waits for another program that has the database locked, before it fails.
_LOCKED_SECONDS = 1.0
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


class Lock:
    """One writer per buffer, across processes: an exclusive flock beside the database, held until `release`."""

    def __init__(self, database: Path) -> None:
        path = database.with_suffix(".lock")
        try:
            database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError:
            raise _not_allowed(path) from None
        except OSError as error:
            raise MediumError(f"{path} cannot be opened: {error}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise InUseError(
                f"Another process has the buffer {database} open: is the daemon already running?"
            ) from None

    def release(self) -> None:
        os.close(self._descriptor)


def _not_allowed(path: Path) -> StoreError:
    return StoreError(
        f"{path} may not be opened by this user: run it with sudo, or give it to the owner of its folder."
    )


def flush(database: Path) -> None:
    """Before anything of it is believed; MediumError.

    After a failed flush the disk may hold a transaction that nobody was told of, and that it will forget. Its records
    must not be called duplicates, and so be acknowledged, before it is flushed.
    """
    _each(database, os.fsync)


def drop_cached_pages(database: Path) -> None:
    """After a failed write the kernel may hold pages that never reached the medium: read the medium, not the cache."""
    _each(database, lambda descriptor: os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED))


def _each(database: Path, act: Callable[[int], None]) -> None:
    """Act on a descriptor of each file that is there."""
    for path in (database, database.with_name(database.name + "-wal")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except PermissionError:
            raise _not_allowed(path) from None
        try:
            act(descriptor)
        except OSError as error:
            raise MediumError(f"{path} fails: {error}") from error
        finally:
            os.close(descriptor)


async def open_writer(database: Path, quota_pages: int) -> aiosqlite.Connection:
    """The one writing connection: WAL, synchronous=FULL read back, migrated. MediumError, SchemaError, or InUseError
    while another program has it locked.

    Where the medium fails the connection stays as it is: closing it would write. The process must end.
    """
    try:
        _make(database)
    except OSError as error:
        raise MediumError(f"{database} cannot be opened: {error}") from error
    connection = await aiosqlite.connect(database, isolation_level=None, timeout=_LOCKED_SECONDS)
    try:
        await _recognise(connection, database)
        await pragma(connection, f"page_size={PAGE_SIZE}")
        mode = await pragma(connection, "journal_mode=WAL")
        await pragma(connection, "synchronous=FULL")
        if mode != "wal" or await pragma(connection, "synchronous") != _FULL:
            raise MediumError(
                f"{database}: SQLite does not give WAL with synchronous=FULL here; nothing can be promised."
            )
        await pragma(connection, f"wal_autocheckpoint={WAL_PAGES}")
        await pragma(connection, "secure_delete=ON")
        if await pragma(connection, "quick_check(1)") != "ok":
            raise MediumError(f"{database} is damaged (quick_check failed).")
        await _migrate(connection, database)
        # Not before: a full buffer of an older version needs room for its new tables.
        await pragma(connection, f"max_page_count={quota_pages}")
    except sqlite3.Error as error:
        if trouble_of(error) is Trouble.LOCKED:
            await connection.close()
            raise InUseError(f"Another program has {database} locked: end it, and try again.") from error
        if not medium_failed(error):
            await connection.close()
        raise MediumError(f"{database} cannot be opened: {error}") from error
    except MediumError:
        raise
    except BaseException:
        await connection.close()
        raise
    return connection


def _make(database: Path) -> None:
    descriptor = os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not os.fstat(descriptor).st_size:
        log.warning("there is no buffer here: a new one is made path=%s", database)
    os.close(descriptor)


async def open_reader(database: Path) -> aiosqlite.Connection:
    """A second connection that only reads, so that a claim never waits behind a commit."""
    connection = await aiosqlite.connect(
        f"file:{database}?mode=ro", uri=True, isolation_level=None, timeout=_LOCKED_SECONDS
    )
    await pragma(connection, "query_only=ON")
    return connection


async def pragma(connection: aiosqlite.Connection, text: str) -> object:
    """Read to its end: a statement that is still open keeps the WAL from being emptied."""
    rows = list(await connection.execute_fetchall(f"PRAGMA {text}"))
    return rows[0][0] if rows else None


def migrations() -> list[tuple[int, str]]:
    """(version, SQL) of every migration, ascending."""
    found = []
    for entry in (files("buffer") / "migrations").iterdir():
        match = _MIGRATION.fullmatch(entry.name)
        if match:
            found.append((int(match[1]), entry.read_text(encoding="utf-8")))
    return sorted(found)


async def _recognise(connection: aiosqlite.Connection, database: Path) -> None:
    """Nothing is written into somebody else's file."""
    tables = await connection.execute_fetchall("SELECT name FROM sqlite_master WHERE type = 'table'")
    if tables and "kek" not in {row[0] for row in tables}:
        raise SchemaError(f"{database} is no buffer of patch-gateway; nothing in it was changed. Move it away.")


async def _migrate(connection: aiosqlite.Connection, database: Path) -> None:
    """All missing migrations in one transaction."""
    version = await pragma(connection, "user_version")
    assert isinstance(version, int)
    known = migrations()
    if version > known[-1][0]:
        raise SchemaError(
            f"{database} has schema {version}, this version knows {known[-1][0]}: a newer patch-gateway wrote it."
        )
    missing = [(number, sql) for number, sql in known if number > version]
    if not missing:
        return
    await connection.execute("BEGIN EXCLUSIVE")
    try:
        for number, sql in missing:
            for statement in statements(sql):
                await connection.execute(statement)
            await connection.execute(f"PRAGMA user_version={number}")
        await connection.execute("COMMIT")
    except BaseException:
        await connection.execute("ROLLBACK")
        raise


def statements(sql: str) -> list[str]:
    """The statements of a migration, one by one: `executescript` would commit in between."""
    found, current = [], ""
    for line in sql.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found
