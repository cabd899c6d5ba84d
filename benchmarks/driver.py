"""Does the same work with each system: `driver.py STORE[:OPTION] FOLDER EVENTS MODE [PER_GROUP]`.

STORE is a module of stores/, run by the Python that has its library; EVENTS a file with a body a line. Modes:
`speed` prints a JSON object; `device` says `ready`, then how many events it put, and waits for a line after each, so
that who started it can look at the disk; `acks` says in the log of the shim which events are acknowledged, as they are.
"""

import gc
import importlib
import json
import os
import sqlite3
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "crash"))
from recording import say
from stores.base import Store

KEEP, UNIT = 2_000, 500
# As readings come: some at a time, not as fast as a queue in memory takes them.
_MESSAGES, _PAUSE = 20, 0.003


def checkpoint(store: Store, mode: str) -> None:
    """Move the WAL into the database."""
    connection = sqlite3.connect(store.database)
    connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
    connection.close()


def speed(store: Store, bodies: list[str]) -> None:
    """A backlog is put, looked at, and drained; the garbage collector never looks at the events made beforehand."""
    events = store.prepare(bodies)
    gc.collect()
    gc.freeze()
    cpu, start = time.process_time(), time.perf_counter()
    store.put(events)
    put = time.perf_counter() - start
    store.settle()
    in_file, put_cpu = time.perf_counter() - start, time.process_time() - cpu
    checkpoint(store, "TRUNCATE")
    stored = sum(path.stat().st_size for path in store.database.parent.glob(f"{store.database.name}*"))
    cpu, start, left = time.process_time(), time.perf_counter(), len(events)
    while left > 0:
        left -= store.drain(UNIT)
    drained, cpu = time.perf_counter() - start, put_cpu + time.process_time() - cpu
    found = {
        "put": len(events) / put,
        "in file": len(events) / in_file,
        "drained": len(events) / drained,
        "cpu": cpu / len(events) * 1e6,
        "stored": stored / len(events),
        "memory": _peak() / 1024,
    }
    print(json.dumps(found), flush=True)


def _peak() -> int:
    """KiB resident at most. Not ru_maxrss: that of a new process begins with its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def device(store: Store, bodies: list[str], per_group: int) -> None:
    """Groups with a drain of the oldest whenever UNIT more than KEEP wait, as after an upload."""
    count = store.device_events[per_group]
    events = store.prepare(bodies[: store.warm_up + count])
    left = _fill_and_drain(store, events[: store.warm_up], 1_000, 0)
    checkpoint(store, "PASSIVE")
    _show("ready")
    _fill_and_drain(store, events[store.warm_up :], per_group, left)
    checkpoint(store, "TRUNCATE")
    _show(str(count))


def _fill_and_drain(store: Store, events: list, per_group: int, left: int) -> int:
    for at in range(0, len(events), per_group):
        part = events[at : at + per_group]
        store.put_group(part)
        left += len(part)
        while left >= KEEP + UNIT:
            left -= store.drain(UNIT)
    return left


def _show(word: str) -> None:
    print(word, flush=True)
    sys.stdin.readline()


def acks(store: Store, bodies: list[str]) -> None:
    """Nothing is drained. What is said lies between the operations that the shim records."""
    events = store.prepare(bodies)
    checkpoint(store, "TRUNCATE")
    log = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_APPEND)
    os.write(log, say({"ready": True}))
    parts = [events[at : at + _MESSAGES] for at in range(0, len(events), _MESSAGES)]
    store.paced(parts, _PAUSE, lambda number: os.write(log, say({"acked": number})))
    store.settle()
    os.write(log, say({"done": True}))


def main() -> None:
    """As above; ends without the store's own shutdown, whose threads may wait."""
    name, _, option = sys.argv[1].partition(":")
    bodies = Path(sys.argv[3]).read_text(encoding="utf-8").splitlines()
    store = importlib.import_module(f"stores.{name}").STORE(Path(sys.argv[2]), *([option] if option else []))
    if sys.argv[4] == "speed":
        speed(store, bodies)
    elif sys.argv[4] == "device":
        device(store, bodies, int(sys.argv[5]))
    else:
        acks(store, bodies)
    os._exit(0)


if __name__ == "__main__":
    main()
