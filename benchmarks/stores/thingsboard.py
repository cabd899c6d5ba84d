"""The SQLite storage of ThingsBoard IoT Gateway as it comes: WAL with synchronous=NORMAL, packs of 1,000.

Its `put` hands the event to a thread and returns; the thread commits what came within about 0.2 s.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from stores.base import Store
from thingsboard_gateway.storage.sqlite.sqlite_event_storage import SQLiteEventStorage


class ThingsBoard(Store):
    """Without its gateway: only the storage, and a logger that writes nothing."""

    warm_up = 12_000
    device_events = {50: 4_000, 1_000: 20_000}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "data.db")
        logger = logging.getLogger("storage")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        logger.trace = logger.debug
        self._storage = SQLiteEventStorage({"data_file_path": f"{folder}/"}, logger, threading.Event())
        self._looking = sqlite3.connect(self.database, isolation_level=None)
        self._put = 0

    def put(self, events: Sequence[str]) -> None:
        for body in events:
            if not self._storage.put(body):
                raise RuntimeError("an event was refused")
        self._put += len(events)

    def settle(self) -> None:
        last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence"
        while self._looking.execute(last).fetchone()[0] < self._put:
            time.sleep(0.01)

    def drain(self, most: int) -> int:
        """A pack is 1,000 whatever is asked; it may hold rows again that were there before, so those left count."""
        assert most
        before = self._storage.len()
        self._storage.get_event_pack()
        self._storage.event_pack_processing_done()
        return before - self._storage.len()


STORE = ThingsBoard
