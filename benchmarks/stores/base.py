"""What the driver asks of a system. Needs nothing but Python: it runs in the environment of each peer."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Store:
    """One system on one database file. One that commits each event for itself by default."""

    # What counts at a device comes after the WAL has its full size, and over several checkpoints, by events per group.
    warm_up = 3_000
    device_events = {50: 2_000, 1_000: 2_000}

    def __init__(self, database: Path) -> None:
        self.database = database

    def prepare(self, bodies: Sequence[str]) -> Sequence[Any]:
        """Events in the form `put` takes; not measured."""
        return bodies

    def put(self, events: Sequence[Any]) -> None:
        """Hand events in as the system wants it; returns when it has said of each that it is taken."""
        raise NotImplementedError

    def put_group(self, events: Sequence[Any]) -> None:
        """Hand in what belongs together; returns when it is in the file."""
        self.put(events)
        self.settle()

    def settle(self) -> None:
        """Returns when all that was put is in the file."""

    def drain(self, most: int) -> int:
        """Take out the oldest, about `most`, and acknowledge or delete them in the system's own way: how many."""
        raise NotImplementedError

    def paced(self, parts: Sequence[Sequence[Any]], pause: float, acked: Callable[[int], None]) -> None:
        """Put part after part with a pause between; `acked` hears of each event's number (from 1) when it is taken."""
        number = 0
        for part in parts:
            for event in part:
                self.put([event])
                number += 1
                acked(number)
            time.sleep(pause)
