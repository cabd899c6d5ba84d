"""Every sealed row opened once, beside a running daemon: the file is only read."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from buffer.errors import MediumError, SchemaError, SealError
from buffer.held import HELD
from buffer.keys import KeyRing
from buffer.loading import SELECT_DEK, unwrap_dek
from buffer.sealing import NO_LANE, Dek

# Tables of sealed rows, and what a row is called where it is counted
SEALED = ("event", "held", "quarantine", "device", "former", "waiting", "overflow", "lost")


@dataclass(slots=True)
class Verified:
    """What one table holds. `damaged`: rows that do not open under their key."""

    rows: int = 0
    damaged: int = 0


class Verification:
    """A pass over a buffer. `tables` and `file` (what SQLite says of it) are complete when `run` has ended."""

    def __init__(self, database: Path, kek: bytes) -> None:
        self._database, self._keys = database, KeyRing(kek)
        self.tables = {name: Verified() for name in SEALED}
        self.file = ""

    @property
    def sound(self) -> bool:
        return self.file == "ok" and not any(table.damaged for table in self.tables.values())

    def run(self) -> Iterator[int]:
        """One after another, how many rows there are in all; then 1 for each row that was opened. MediumError where the
        file cannot be read, SealError for another key, SchemaError where it is no buffer.
        """
        begun = False
        try:
            with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
                for number in self._run(connection):
                    yield number
                    begun = True
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise MediumError(f"{self._database} cannot be read: {error}") from error
            self.file = str(error)
            if not begun:
                yield 0

    def _run(self, connection: sqlite3.Connection) -> Iterator[int]:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kek'").fetchone():
            raise SchemaError(f"{self._database} is no buffer of patch-gateway.")
        check = connection.execute("SELECT check_value FROM kek WHERE epoch = ?", (self._keys.epoch,)).fetchone()
        if check is None or not self._keys.verify(check[0]):
            raise SealError("The key is not the one this buffer was made with.")
        yield sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in SEALED)
        deks: dict[int, Dek | None] = {}
        for row in connection.execute(SELECT_DEK):
            try:
                deks[row[0]] = unwrap_dek(row, self._keys)
            except SealError:
                deks[row[0]] = None
        for table in SEALED:
            lane = {"event": "lane", "held": f"lane + {HELD}"}.get(table, str(NO_LANE))
            for dek_id, bound, sealed in connection.execute(f"SELECT dek_id, {lane}, sealed FROM {table}"):
                self.tables[table].rows += 1
                self.tables[table].damaged += not _opens(deks.get(dek_id), sealed, bound)
                yield 1
        self.file = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])


def _opens(dek: Dek | None, sealed: bytes, lane: int) -> bool:
    try:
        return dek is not None and dek.open(sealed, lane) is not None
    except SealError:
        return False
