"""The buffer beside others: the same events, the same driver, a process of its own for each system, in one run."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import power_cut_loss
import written
from burst import DISK
from peers import System, available
from synthetic import wire_events

DRIVER = Path(__file__).with_name("driver.py")
_UNITS = {
    "put": "events/s", "in file": "events/s", "drained": "events/s", "cpu": "us/event", "stored": "bytes/event",
    "memory": "MiB",
}  # fmt: skip
# The most that a store wants for its warm-up and what follows.
_DEVICE_EVENTS = 60_000
Found = Iterator[tuple[str, str, float, str]]


def events_file(folder: Path, count: int) -> Path:
    """The first events of the fleet, a body a line."""
    target = folder / f"{count}.jsonl"
    if not target.exists():
        target.write_bytes(b"".join(event.body + b"\n" for event in islice(wire_events(7, bare=True), count)))
    return target


def measure(*, quick: bool) -> Found:
    """(system, metric, value, unit), metric by metric."""
    systems = available()
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        yield from _speeds(systems, Path(folder), *((4_000, 1) if quick else (10_000, 3)))
        yield from _devices(systems, Path(folder))
        yield from _losses(systems, Path(folder), 200 if quick else 1_000)


def _speeds(systems: dict[System, str], folder: Path, count: int, runs: int) -> Found:
    """The best of some runs, one system after the other in each: what else the machine does only makes it slower."""
    events = events_file(folder, count)
    found: dict[System, list[dict[str, float]]] = {system: [] for system in systems}
    for run in range(1, runs + 1):
        for system, python in systems.items():
            _show(f"{count} events put and drained, run {run} of {runs}: {system.name}")
            found[system].append(speed(system.store, python, events))
    for metric, unit in _UNITS.items():
        best = max if unit == "events/s" else min
        for system, each in found.items():
            yield system.name, metric, best(one[metric] for one in each), unit


def speed(store: str, python: str, events: Path) -> dict[str, float]:
    """One backlog of all these events."""
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        done = subprocess.run(
            [python, DRIVER, store, folder, events, "speed"], check=True, stdout=subprocess.PIPE, timeout=900
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _devices(systems: dict[System, str], folder: Path) -> Found:
    if written.possible() is not None:
        return  # said where the buffer is measured alone
    events = events_file(folder, _DEVICE_EVENTS)

    def one(job: tuple[int, System]) -> tuple[str, str, float, str]:
        per_group, system = job
        _show(f"bytes at the device, {per_group} events between drains: {system.name}")
        octets = device(system.store, systems[system], events, per_group)
        return system.name, f"device {per_group}", octets, "bytes/event"

    with ThreadPoolExecutor(2) as pool:  # some of them mostly wait, and it is not time that counts here
        yield from pool.map(one, [(per_group, system) for per_group in (50, 1_000) for system in systems])


def device(store: str, python: str, events: Path, per_group: int) -> float:
    """Bytes written for each event, on a file system of the store's own."""
    with written.volume() as (mount, name):
        command = [python, DRIVER, store, mount, events, "device", str(per_group)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin
            assert process.stdout
            samples = []
            for _ in range(2):
                word = process.stdout.readline().strip()
                if not word:
                    raise RuntimeError(f"the driver of {store} failed")
                samples.append(written._sample(mount, name)[0])  # noqa: SLF001 - of this folder
                process.stdin.write("\n")
                process.stdin.flush()
    return (samples[1] - samples[0]) / int(word)


def _losses(systems: dict[System, str], folder: Path, states: int) -> Found:
    why_not = power_cut_loss.possible()
    if why_not:
        print(why_not, file=sys.stderr)
        return
    events = events_file(folder, power_cut_loss.EVENTS)
    for system, python in systems.items():
        _show(f"{states} power cuts: {system.name}")
        lost = power_cut_loss.losses([python, str(DRIVER), system.store], events, states)
        yield system.name, "lost states", 100 * sum(1 for count in lost if count) / len(lost), "%"
        yield system.name, "most lost", float(max(lost)), "events"


def _show(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr)
