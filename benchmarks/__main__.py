"""`make bench`: the buffer beside plain SQLite with one commit per event, what a device gets to write, captures beside
tshark, in one run.

ARGS="--quick --json"
"""

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import captures
import written
from synthetic import wire_events

from buffer.lanes import Lane
from buffer.store import EventBuffer
from schemas.wire import WireEvent


def plain_sqlite(events: list[WireEvent], folder: Path) -> Iterator[tuple[str, float, str]]:
    """One row and one commit per event, WAL and FULL: what a simple logger does."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE event(id INTEGER PRIMARY KEY, body BLOB)")
    cpu, start = time.process_time(), time.perf_counter()
    for event in events:
        connection.execute("INSERT INTO event(body) VALUES (?)", (event.body,))
    yield "put", len(events) / (time.perf_counter() - start), "events/s"
    yield "cpu", (time.process_time() - cpu) / len(events) * 1e6, "us/event"
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    yield "stored", (folder / "plain.db").stat().st_size / len(events), "bytes/event"


def our_buffer(events: list[WireEvent], folder: Path) -> Iterator[tuple[str, float, str]]:
    """Sealed rows in groups as they arrive."""

    async def run() -> list[tuple[str, float, str]]:
        buffer = await EventBuffer.open(folder / "buffer.db", os.urandom(32), gateway_id="bench")
        cpu, start = time.process_time(), time.perf_counter()
        for at in range(0, len(events), 1_000):
            part = events[at : at + 1_000]
            await buffer.submit(lambda draft, part=part: [draft.append(event, Lane.SENSOR) for event in part], now=True)
        found = [
            ("put", len(events) / (time.perf_counter() - start), "events/s"),
            ("cpu", (time.process_time() - cpu) / len(events) * 1e6, "us/event"),
        ]
        await buffer.truncate_wal()
        await buffer.close()
        return [*found, ("stored", (folder / "buffer.db").stat().st_size / len(events), "bytes/event")]

    yield from asyncio.run(run())


SYSTEMS: dict[str, Callable[[list[WireEvent], Path], Iterator[tuple[str, float, str]]]] = {
    "plain SQLite, a commit per event": plain_sqlite,
    "patch-gateway": our_buffer,
}


def main() -> None:
    """Print a line, or a JSON object, per measurement."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    base: dict[tuple[str, str], float] = {}
    for bench, system, metric, value, unit in _all(quick=arguments.quick):
        ratio = value / base.setdefault((bench, metric), value)
        if arguments.json:
            entry = {"bench": bench, "system": system, "metric": metric, "value": value, "unit": unit}
            print(json.dumps(entry), flush=True)
        else:
            print(f"{bench:9} {system:42} {metric:7} {value:12.1f} {unit:12} x{ratio:.2f}", flush=True)


def _all(*, quick: bool) -> Iterator[tuple[str, str, str, float, str]]:
    events = list(islice(wire_events(7), 2_000 if quick else 20_000))
    for system, measure in SYSTEMS.items():
        with tempfile.TemporaryDirectory() as folder:
            for found in measure(events, Path(folder)):
                yield ("buffer", system, *found)
    why_not = written.possible()
    if why_not:
        print(why_not, file=sys.stderr)
    else:
        for measured in written.measure(quick=quick):
            yield ("device", *measured)
    with tempfile.TemporaryDirectory() as folder:
        for measured in captures.measure(Path(folder), quick=quick):
            yield ("captures", *measured)


if __name__ == "__main__":
    main()
