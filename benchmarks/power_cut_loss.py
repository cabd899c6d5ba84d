"""What a system loses of what it acknowledged, in the power cuts of tests/crash: its writes, recorded under libc."""

import asyncio
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "tests" / "crash"))
from power_cuts import build_shim, cuts, folder
from recording import Disk, Op, Said, read, said_by
from stores import ours

# Enough for a system that writes 1,000 in a transaction to come to a checkpoint.
EVENTS = 12_000
_SEED = 7
# Where each keeps its events; ours are sealed, the product opens them.
_QUERIES = {
    "thingsboard": ("data.db", "SELECT message FROM messages"),
    "persist_queue": ("data.db", "SELECT data FROM ack_queue_default"),
    "lite_queue": ("queue.db", "SELECT data FROM Queue"),
    "plain": ("plain.db", "SELECT body FROM event"),
}
_NUMBER = re.compile(rb'"idempotency_key":"[^"]*\.(\d+)"')


class Recording(NamedTuple):
    """What a store wrote, and what it said meanwhile."""

    operations: list[Op]
    said: list[Said]


def possible() -> str | None:
    """Why not, or None."""
    if shutil.which("cc") or shutil.which("gcc"):
        return None
    return "what a power cut takes is measured with a C compiler only (gcc, libc6-dev)"


def losses(command: Sequence[str], events: Path, states: int) -> list[int]:
    """How many acknowledged events are lost in each of so many states; `command` is the driver with its store."""
    store = command[-1].partition(":")[0]
    recording = _record(command, events)
    start, chosen = cuts(recording, states, _SEED)
    workers = os.cpu_count() or 1
    size = -(-len(chosen) // workers)
    parts = [chosen[at : at + size] for at in range(0, len(chosen), size)]
    # By fork a process has the recording without being sent it.
    with ProcessPoolExecutor(workers, get_context("fork"), _begin, (store, recording, start)) as pool:
        return [lost for part in pool.map(_judge, parts) for lost in part]


def _record(command: Sequence[str], events: Path) -> Recording:
    """Until the last event is acknowledged and in the file."""
    with folder() as place:
        state, log = place / "state", place / "log"
        state.mkdir()
        log.touch()
        shim = {"LD_PRELOAD": str(build_shim(place)), "CRASH_DIR": str(state), "CRASH_LOG": str(log)}
        subprocess.run([*command, state, events, "acks"], check=True, env=os.environ | shim, timeout=300)
        operations, said = read(log.read_bytes())
    end = next(item.after for item in said if "done" in item.what)
    if not any(op.kind == "W" for op in operations):
        raise RuntimeError("the shim saw nothing: is SQLite linked into this Python without libc's pwrite?")
    return Recording(operations[:end], said)


def _begin(*common: object) -> None:
    globals()["_common"] = common


def _judge(chosen: Sequence[tuple[int, str, int]]) -> list[int]:
    store, recording, start = globals()["_common"]
    disk, lost = Disk(recording.operations), []
    disk.advance(start)
    disk.settle()
    with folder() as place:
        for at, mode, seed in chosen:
            disk.advance(at)
            for path in place.iterdir():
                path.unlink()
            for name, content in disk.after_the_cut(mode, random.Random(seed)).items():
                (place / name).write_bytes(content)
            acked = max((what.get("acked", 0) for what in said_by(recording.said, at)), default=0)
            lost.append(acked - sum(1 for event in kept(place, store) if event <= acked))
    return lost


def kept(place: Path, store: str) -> set[int]:
    """The numbers of the events that are there; none of a database that cannot be read."""
    if store == "ours":
        return {int(key.rpartition(".")[2]) for key in asyncio.run(ours.kept(place))}
    file, query = _QUERIES[store]
    connection = sqlite3.connect(place / file)
    connection.text_factory = bytes
    try:
        values = [value for (value,) in connection.execute(query) if isinstance(value, bytes)]
    except sqlite3.DatabaseError:
        return set()
    finally:
        connection.close()
    return {int(match[1]) for match in map(_NUMBER.search, values) if match}
