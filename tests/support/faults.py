"""System calls of one process that fail on purpose (faults.c)."""

import mmap
import os
import shutil
import struct
import subprocess
from pathlib import Path

from rig import missing

_FIELDS = ("write", "sync", "read", "readonly", "once", "database", "failed", "written_after")
_LAYOUT = struct.Struct("=8i")


class Faults:
    """`faults.set(write=errno.EIO)`: from now on; `set()`: none. Below `hurt`, of processes in `environment`."""

    def __init__(self, folder: Path, hurt: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            missing("a C compiler is not here: install the Debian packages gcc and libc6-dev")
        shim, control = folder / "faults.so", folder / "control"
        source = Path(__file__).with_name("faults.c")
        command = [str(compiler), "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", shim, source]
        subprocess.run(command, check=True)
        control.write_bytes(bytes(_LAYOUT.size))
        with control.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), _LAYOUT.size)
        self.environment = {"LD_PRELOAD": str(shim), "FAULT_CONTROL": str(control), "FAULT_DIR": str(hurt)}

    def set(self, **errors: int) -> None:
        self._map[: 6 * 4] = struct.pack("=6i", *(errors.get(name, 0) for name in _FIELDS[:6]))

    def clear(self) -> None:
        """No fault, and nothing counted."""
        self._map[:] = bytes(_LAYOUT.size)

    def __getattr__(self, name: str) -> int:
        return _LAYOUT.unpack(self._map[:])[_FIELDS.index(name)]


def hurt(gateway, faults: Faults) -> None:
    """The daemon of a gateway, once it is started."""
    gateway.environment = {**os.environ, **faults.environment}
