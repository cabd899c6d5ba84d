"""`patch-gateway capture record`: what BlueZ and its controllers say to each other, through btmon, as btsnoop; or what
the running gateway gets of its BLE patches, as JSON Lines.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.capture_command import info
from agent.control import NotRunning, asked
from device_drivers.captures.jsonl import HEADER

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
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        print(f"patch-gateway: {target} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    with subprocess.Popen(["btmon", "-w", str(target)], stdout=subprocess.DEVNULL) as btmon:
        signal.signal(signal.SIGTERM, lambda *_: btmon.terminate())
        print(f"Recording to {target}; Ctrl-C ends it. Connect the patch now.", file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            btmon.wait(seconds)
        btmon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            btmon.wait(_STOP_SECONDS)
        btmon.kill()
    return _recorded(target, _HEADER_OCTETS, "no controller said anything (bluetoothctl list)")


def record_gateway(control: Path, target: Path, seconds: float | None) -> int:
    """As above, from the daemon behind the control socket. 1: it cannot be recorded, or the daemon ended it."""
    problem = _no_target(target)
    if target.suffix != ".jsonl":
        problem = f"{target}: it becomes JSON Lines: end its name with .jsonl"
    if problem:
        print(f"patch-gateway: {problem}", file=sys.stderr)
        return 1
    os.umask(0o077)
    try:
        with asked(control, "record", {}) as (answer, sock, stream):
            if not answer.ok:
                print(f"patch-gateway: {answer.error}", file=sys.stderr)
                return 1
            print(f"Recording to {target}; Ctrl-C ends it.", file=sys.stderr)
            stopped = _stop_on_signals(sock, seconds)
            sock.settimeout(None)
            with target.open("xb") as out:
                for line in stream:
                    if line.endswith(b"\n"):
                        out.write(line)
                        out.flush()
    except OSError as error:
        print(f"patch-gateway: {target} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except NotRunning:
        print(
            "patch-gateway: no daemon runs with these settings: systemctl start patch-gateway",
            file=sys.stderr,
        )
        return 1
    if not stopped:
        print("patch-gateway: the daemon ended it: it stops, or this disk is too slow.", file=sys.stderr)
    code = _recorded(target, len(HEADER), "no BLE patch sent anything (patch-gateway status)")
    return code if stopped else 1


def _stop_on_signals(sock: socket.socket, seconds: float | None) -> list[int]:
    """Closes the connection, so that the last line is a whole one; the list holds what stopped it."""
    stopped: list[int] = []

    def stop(number: int, _: Any) -> None:
        stopped.append(number)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, stop)
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    return stopped


def _recorded(target: Path, empty: int, why: str) -> int:
    if not target.exists() or target.stat().st_size <= empty:
        target.unlink(missing_ok=True)
        print(f"patch-gateway: nothing was recorded: {why}.", file=sys.stderr)
        return 1
    return info([target], as_json=False)


def _problem(target: Path) -> str | None:
    if shutil.which("btmon") is None:
        return "btmon is not installed: apt-get install bluez"
    if os.geteuid() != 0:
        return "recording needs root: sudo patch-gateway capture record ..."
    if target.suffix != ".btsnoop":
        return f"{target}: it becomes btsnoop: end its name with .btsnoop"
    return _no_target(target)


def _no_target(target: Path) -> str | None:
    if os.path.lexists(target):
        return f"{target} exists already: name another file"
    if not target.parent.is_dir():
        return f"the folder {target.parent} does not exist"
    return None
