"""Captures beside tshark: ATT values of the same file, whole commands, in one run."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from device_drivers.captures import btsnoop
from device_drivers.emulated import cgm_capture

_FIELDS = ("frame.number", "btatt.opcode", "btatt.handle", "btatt.value")


def big_capture(target: Path, records: int) -> int:
    """The shipped session again and again; how many records it has."""
    content = cgm_capture.SHIPPED.read_bytes()
    body = content[len(btsnoop.header()) :]
    with cgm_capture.SHIPPED.open("rb") as stream:
        each = sum(1 for _ in btsnoop.records(stream))
    times = max(1, records // each)
    with target.open("wb") as out:
        out.write(btsnoop.header())
        for _ in range(times):
            out.write(body)
    return times * each


def commands(capture: Path) -> dict[str, list[str]]:
    """What is compared."""
    fields = [word for field in _FIELDS for word in ("-e", field)]
    program = str(Path(sys.executable).with_name("patch-gateway"))
    return {
        "tshark": ["tshark", "-r", str(capture), "-Y", "btatt", "-T", "fields", *fields],
        "patch-gateway": [program, "replay", "--frames", "--json", str(capture)],
    }


def measure(folder: Path, *, quick: bool) -> Iterator[tuple[str, str, float, str]]:
    """(system, metric, value, unit)."""
    capture = folder / "big.btsnoop"
    records = big_capture(capture, 20_000 if quick else 200_000)
    for system, command in commands(capture).items():
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True)
        yield system, "records", records / (time.perf_counter() - start), "records/s"
        yield system, "ATT", float(done.stdout.count(b"\n")), "operations"
