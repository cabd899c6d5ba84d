"""What a device gets to write for each event: a loop-mounted ext4, journal and metadata included. Needs root."""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WORKLOAD = Path(__file__).with_name("written_workload.py")
_SECTOR = 512


@contextmanager
def volume() -> Iterator[tuple[Path, str]]:
    """A fresh ext4 of 1 GiB: where it is mounted, and its loop device."""
    with tempfile.TemporaryDirectory() as folder:
        image, mount = Path(folder) / "image", Path(folder) / "mount"
        mount.mkdir()
        with image.open("wb") as opened:
            opened.truncate(1 << 30)
        # Otherwise the kernel initialises tables in the background, and that is counted too.
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        device = _run("losetup", "-f", "--show", str(image)).strip()
        try:
            _run("mount", "-o", "noatime", device, str(mount))
            try:
                yield mount, device.rpartition("/")[2]
            finally:
                _run("umount", str(mount))
        finally:
            _run("losetup", "-d", device)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _sample(mount: Path, device: str) -> tuple[int, int]:
    """(octets written, flushes) of the device so far."""
    descriptor = os.open(mount, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(descriptor)
    fields = Path(f"/sys/block/{device}/stat").read_text().split()
    return int(fields[6]) * _SECTOR, int(fields[15])


def measure(*, quick: bool) -> Iterator[tuple[str, str, float, str]]:
    """(system, metric, value, unit): whole events, and `bare` ones without patient, wear and trace."""
    events = 10_000 if quick else 40_000
    for kind in ("whole", "bare"):
        for per_commit, count in ((1, events // 10), (50, events), (1_000, events)):
            written, flushes = _one(per_commit, count, kind)
            name = f"patch-gateway, {kind} events, {per_commit} a commit"
            yield name, "written", written, "bytes/event"
            yield name, "flushes", flushes, "per commit"


def _one(per_commit: int, events: int, kind: str) -> tuple[float, float]:
    with volume() as (mount, device):
        command = [sys.executable, str(_WORKLOAD), str(mount), *map(str, (per_commit, events, 20_000)), kind]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin
            assert process.stdout
            samples = []
            for _ in range(3):
                process.stdout.readline()
                samples.append(_sample(mount, device))
                process.stdin.write("\n")
                process.stdin.flush()
            if process.wait():
                raise RuntimeError("the workload failed")
    return (samples[2][0] - samples[0][0]) / events, (samples[1][1] - samples[0][1]) * per_commit / events


def possible() -> str | None:
    """Why not, or None."""
    if os.geteuid() != 0:
        return "bytes at the device are measured by root only"
    return None if Path("/dev/loop-control").exists() else "bytes at the device need loop devices"
