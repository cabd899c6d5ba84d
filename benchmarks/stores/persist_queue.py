"""persist-queue's SQLiteAckQueue as it comes: WAL, SQLite's own FULL, a commit for each put, get and ack."""

from collections.abc import Sequence
from pathlib import Path

from persistqueue import SQLiteAckQueue
from stores.base import Store


class PersistQueue(Store):
    """An acknowledged row stays in the file until `clear_acked_data`, which keeps the newest 1,000."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "data.db")
        self._queue = SQLiteAckQueue(str(folder))

    def put(self, events: Sequence[str]) -> None:
        for body in events:
            self._queue.put(body)

    def drain(self, most: int) -> int:
        count = min(most, self._queue.size)
        for _ in range(count):
            self._queue.ack(self._queue.get(block=False))
        self._queue.clear_acked_data()
        return count


STORE = PersistQueue
