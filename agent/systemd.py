"""sd_notify(3): READY, STATUS and WATCHDOG messages to the service manager."""

import os
import socket


def notify(message: str) -> None:
    """Send a message; nothing happens outside systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(message.encode(), address)
        except OSError:
            return


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear from this process; None when it does not watch."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not microseconds or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000
