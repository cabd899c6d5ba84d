"""Plain SQLite: a row and a commit for each event, WAL and FULL. What a simple logger does."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from stores.base import Store


class Plain(Store):
    """`synchronous` other than FULL is for the test that must see events lost."""

    def __init__(self, folder: Path, synchronous: str = "FULL") -> None:
        super().__init__(folder / "plain.db")
        self._connection = sqlite3.connect(self.database, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(f"PRAGMA synchronous={synchronous}")
        self._connection.execute("CREATE TABLE event(id INTEGER PRIMARY KEY, body TEXT NOT NULL)")

    def put(self, events: Sequence[str]) -> None:
        for body in events:
            self._connection.execute("INSERT INTO event(body) VALUES (?)", (body,))

    def drain(self, most: int) -> int:
        rows = self._connection.execute("SELECT id, body FROM event ORDER BY id LIMIT ?", (most,)).fetchall()
        self._connection.execute("DELETE FROM event WHERE id <= ?", (rows[-1][0],))
        return len(rows)


STORE = Plain
