"""litequeue as it comes: WAL with synchronous=NORMAL, a commit for each put, pop and done."""

from collections.abc import Sequence
from pathlib import Path

from litequeue import LiteQueue
from stores.base import Store


class Lite(Store):
    """What is done stays in the file until `prune`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "queue.db")
        self._queue = LiteQueue(self.database)

    def put(self, events: Sequence[str]) -> None:
        for body in events:
            self._queue.put(body)

    def drain(self, most: int) -> int:
        count = 0
        while count < most and (message := self._queue.pop()) is not None:
            self._queue.done(message.message_id)
            count += 1
        self._queue.prune()
        return count


STORE = Lite
