"""`patch-gateway capture record`: what BlueZ and its controllers say to each other, through btmon, as btsnoop."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from agent.capture_command import info

_STOP_SECONDS = 5.0
_HEADER_OCTETS = 16


def record(target: Path, seconds: float | None) -> int:
    """Until Ctrl-C, SIGTERM or `seconds`; then what was recorded on stdout. 1: it cannot be recorded."""
    problem = _problem(target)
    if problem:
        print(f"patch-gateway: {problem}", file=sys.stderr)
        return 1
    # Values of patients: nobody else reads the file, and btmon's own output, which shows them, is not shown.
    os.umask(0o077)
    with subprocess.Popen(["btmon", "-w", str(target)], stdout=subprocess.DEVNULL) as btmon:
        signal.signal(signal.SIGTERM, lambda *_: btmon.terminate())
        print(f"Recording to {target}; Ctrl-C ends it. Connect the patch now.", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            btmon.wait(seconds)
        btmon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            btmon.wait(_STOP_SECONDS)
        btmon.kill()
    if not target.exists() or target.stat().st_size <= _HEADER_OCTETS:
        target.unlink(missing_ok=True)
        print("patch-gateway: nothing was recorded: no controller said anything (bluetoothctl list).", file=sys.stderr)
        return 1
    return info([target], as_json=False)


def _problem(target: Path) -> str | None:
    if shutil.which("btmon") is None:
        return "btmon is not installed: apt-get install bluez"
    if os.geteuid() != 0:
        return "recording needs root: sudo patch-gateway capture record ..."
    if target.exists():
        return f"{target} exists already: name another file"
    if not target.parent.is_dir():
        return f"the folder {target.parent} does not exist"
    return None
