"""Runs inside the guest as a service: executes shell commands for the test process.

One JSON object per line over the virtio-serial port "agent" (no network needed, so it answers when a test broke it):
    host -> guest  {"id": 1, "cmd": "uname -r", "timeout": 30, "in": ""}
    guest -> host  {"id": 1, "rc": 0, "out": "6.12...", "err": ""}        and {"id": 0} once, when the guest is up
"""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
_write_lock = threading.Lock()


def find_port(wanted: str) -> Path:
    """Path of a named virtio port; sysfs is read because the agent may start before udev makes the link."""
    while True:
        for entry in Path("/sys/class/virtio-ports").glob("*/name"):
            device = Path("/dev") / entry.parent.name
            if entry.read_text().strip() == wanted and device.exists():
                return device
        time.sleep(0.05)


def send(port: int, message: dict[str, Any]) -> None:
    data = (json.dumps(message) + "\n").encode()
    with _write_lock:
        while data:
            data = data[os.write(port, data) :]


def execute(port: int, request: dict[str, Any]) -> None:
    """Run one command in its own session, so that a timeout can kill all its children."""
    process = subprocess.Popen(
        ["/bin/bash", "-c", request["cmd"]],
        start_new_session=True,
        cwd="/",
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(request.get("in", "").encode(), timeout=request.get("timeout", 60))
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        status = 124
    text = {"out": out.decode(errors="replace"), "err": err.decode(errors="replace")}
    send(port, {"id": request["id"], "rc": status, **text})


def main() -> None:
    port = os.open(find_port("agent"), os.O_RDWR)
    send(port, {"id": 0})
    pending = b""
    while True:
        data = os.read(port, 65536)
        if not data:  # nobody is connected on the host side
            time.sleep(0.02)
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            threading.Thread(target=execute, args=(port, json.loads(line)), daemon=True).start()


if __name__ == "__main__":
    main()
