"""The systems that are compared, each with the Python that has its library; installed when missing, exactly these."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[1] / ".venv" / "peers"


@dataclass(frozen=True, slots=True)
class System:
    """`store` is its module in stores/; `requirement` what the package index calls it, None without a library."""

    name: str
    store: str
    requirement: str | None = None


OURS = System("patch-gateway", "ours")
SYSTEMS = (
    OURS,
    System("ThingsBoard IoT Gateway 3.8.5", "thingsboard", "thingsboard-gateway==3.8.5"),
    System("persist-queue 1.1.0", "persist_queue", "persist-queue==1.1.0"),
    System("litequeue 0.9", "lite_queue", "litequeue==0.9"),
    System("plain SQLite, a commit per event", "plain"),
)


class NotInstalled(Exception):
    """In one sentence."""


def available() -> dict[System, str]:
    """The Python of each system that can be measured; who cannot is named on stderr."""
    found = {}
    for system in SYSTEMS:
        try:
            found[system] = python_of(system.requirement) if system.requirement else sys.executable
        except NotInstalled as error:
            print(error, file=sys.stderr)
    return found


def python_of(requirement: str) -> str:
    """The Python of an environment with this in it and nothing else: what is measured needs no more."""
    folder = HOME / requirement
    python = folder / "bin" / "python"
    if not ((folder / "ready").exists() and python.exists()):
        print(f"installing {requirement} into {folder.relative_to(HOME.parents[1])}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _run("-m", "venv", "--without-pip", str(folder))
            pip = ("-m", "pip", "--disable-pip-version-check", "--python", str(python))
            _run(*pip, "install", "--quiet", "--no-deps", "--retries", "1", "--timeout", "15", requirement)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or b"").decode(errors="replace").strip().rpartition("\n")[2] or "it took too long"
            raise NotInstalled(f"{requirement} cannot be installed and is left out: {said}") from None
        (folder / "ready").touch()
    return str(python)


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=300)
