"""`make test-vm`: make the guest image and its snapshot where the cache has none, then run the tests of this folder.

Options are pytest's. The last line of stdout is the result, `vm: N passed, 0 skipped, BlueZ x, kernel y`; the exit
status is 0 only when all passed and none was skipped. What is missing on this machine is said in one sentence.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from compileall import compile_dir
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import TextIO

import pytest
from vm import VM, VMError, make_snapshot

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "patch-gateway-vm"
PACKAGES = ("qemu-system-x86", "qemu-utils", "mmdebstrap", "cpio", "kmod", "xz-utils", "e2fsprogs", "mosquitto")
IMAGE_SOURCES = (HERE / "mkimage.sh", HERE / "guest_agent.py", HERE / "hci_bridge.py", ROOT / "requirements.txt")
STAGED = ("agent", "buffer", "config", "device_drivers", "schemas", "uploader", "systemd")


class Missing(Exception):
    """What this machine lacks and what to do about it, in one sentence."""


@contextmanager
def step(name: str) -> Iterator[None]:
    """Says on stderr how long it took."""
    start = time.monotonic()
    yield
    print(f"vm: {name}: {time.monotonic() - start:.1f} s", file=sys.stderr)


def run(*command: str | Path, **environment: str | Path) -> None:
    """A command of the rig; its output goes to stderr, stdout is for the results."""
    done = subprocess.run(
        command, check=False, stdout=sys.stderr, cwd=ROOT, env=os.environ | {k: str(v) for k, v in environment.items()}
    )
    if done.returncode:
        raise Missing(f"{Path(command[0]).name} failed with status {done.returncode}; its messages above say why.")


def check_machine() -> None:
    """Install the Debian packages, and refuse what cannot work."""
    if platform.machine() != "x86_64" or sys.version_info[:2] != (3, 11):
        raise Missing(
            "The guest is Debian 12 on x86_64: run `make test-vm` on such a machine with a .venv of Python 3.11 "
            "(`rm -rf .venv && make .venv PYTHON=python3.11`)."
        )
    if os.geteuid() != 0:
        raise Missing("Building the guest image needs root: run `sudo make test-vm`.")
    run(".ci/debian.sh", *PACKAGES)
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *PACKAGES]
    try:
        known = subprocess.run(query, check=False, capture_output=True, text=True).stdout.splitlines()
    except FileNotFoundError:
        raise Missing("The guest image is built with Debian's tools: run `make test-vm` on Debian 12.") from None
    if missing := [name for name in PACKAGES if f"{name} installed" not in known]:
        raise Missing(f"Install what apt-get could not: `apt-get install {' '.join(missing)}`.")


def key_of(*parts: Path | str) -> str:
    """Names the contents of these files, and these texts."""
    key = hashlib.sha256()
    for part in parts:
        text = f"{part.relative_to(ROOT)}\n".encode() + part.read_bytes() if isinstance(part, Path) else part.encode()
        key.update(hashlib.sha256(text).digest())
    return key.hexdigest()[:12]


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of this key, made when there is none. Those of other keys, and half-made ones, are deleted."""
    wanted, unfinished = CACHE / f"{kind}-{key}", CACHE / f"{kind}-unfinished"
    for old in CACHE.glob(f"{kind}-*"):
        if old != wanted:
            shutil.rmtree(old)
    if not wanted.exists():
        with step(kind):
            make(unfinished)
        unfinished.rename(wanted)
    return wanted


def make_image(target: Path) -> None:
    """The guest image, with the locked third-party packages."""
    site = target / "site"
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore",
        "--require-hashes", "--only-binary", ":all:", "--no-compile", "--target", site, "-r", "requirements.txt",
    )  # fmt: skip
    run(HERE / "mkimage.sh", target, SITE=site, CACHE=CACHE / "downloads")
    shutil.rmtree(site)


def make_stage() -> Path:
    """What the guest sees on /src: the product and tests/vm/guest, with bytecode, as its emulated CPU is slow."""
    stage = CACHE / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    no_bytecode = shutil.ignore_patterns("__pycache__")
    for name in STAGED:
        shutil.copytree(ROOT / name, stage / name, ignore=no_bytecode)
    shutil.copytree(HERE / "guest", stage / "guest", ignore=no_bytecode)
    for info in Path(pytest.__file__).parents[1].glob("patch_gateway-*.dist-info"):
        for name in ("METADATA", "entry_points.txt"):
            (stage / info.name).mkdir(exist_ok=True)
            shutil.copy(info / name, stage / info.name)
    unchecked = PycInvalidationMode.UNCHECKED_HASH
    compile_dir(stage, stripdir=stage, prependdir="/src", quiet=1, invalidation_mode=unchecked)
    run("chmod", "--recursive", "a+rX", stage)
    return stage


@dataclass
class Rig:
    """Where the parts are. A pytest plugin: the fixtures find the parts through it, and it hands back the counts."""

    image: Path
    stage: Path
    snapshot: Path
    counts: Counter[str] = field(default_factory=Counter)

    def pytest_configure(self, config: pytest.Config) -> None:
        config.vm_rig = self

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self.counts.update({outcome: len(reports) for outcome, reports in terminalreporter.stats.items()})

    def versions(self) -> str:
        with VM(self.image, self.stage, self.snapshot).start() as vm:
            bluez, kernel = vm.run("/usr/libexec/bluetooth/bluetoothd --version; uname -r").ok().split()
        return f"BlueZ {bluez}, kernel {kernel}"


def make_rig() -> Rig:
    """All parts, made where the cache has none."""
    check_machine()
    image_key = key_of(*IMAGE_SOURCES)
    image = cached("image", image_key, make_image)
    with step("stage"):
        stage = make_stage()
    units = sorted(path for path in (ROOT / "systemd").rglob("*") if path.is_file())
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], check=True, capture_output=True, text=True).stdout
    snapshot_key = key_of(image_key, qemu, HERE / "vm.py", HERE / "guest/prepare.sh", *units)
    snapshot = cached(
        "snapshot", snapshot_key, lambda target: make_snapshot(image, stage, target, "sh /src/guest/prepare.sh")
    )
    return Rig(image, stage, snapshot)


def take(lock: TextIO) -> None:
    """One run at a time: each makes the stage anew."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Missing("Another `make test-vm` is at work: wait for it to end.") from None


def main() -> int:
    """Exit status."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            take(lock)
            rig = make_rig()
            versions = rig.versions()
        except (Missing, VMError) as error:
            print(error, file=sys.stderr)
            return 1
        with step("tests"):
            status = pytest.main([str(HERE), f"--rootdir={ROOT}", *sys.argv[1:]], plugins=[rig])
    shown = [f"{rig.counts['passed']} passed"]
    shown += [f"{rig.counts[outcome]} {outcome}" for outcome in ("failed", "error") if rig.counts[outcome]]
    print(f"vm: {', '.join(shown)}, {rig.counts['skipped']} skipped, {versions}", flush=True)
    return int(status != 0 or not rig.counts["passed"] or rig.counts["skipped"] > 0)


if __name__ == "__main__":
    sys.exit(main())
