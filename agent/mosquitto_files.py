"""Password and access entries of patches for our Mosquitto: its own file formats, written atomically."""

import base64
import hashlib
import os
import re
import secrets
from pathlib import Path

from device_drivers.profiles.mqtt_topics import ROOT, SESSIONS

# mosquitto_passwd's own: $7$ = PBKDF2-HMAC-SHA512
_KINDS = tuple(kind for kinds in SESSIONS.values() for kind in kinds)
_ITERATIONS = 101
_MODE = 0o640


def password_line(user: str, password: str) -> str:
    """`user:$7$iterations$salt$hash` as mosquitto_passwd writes it."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    encoded = "$".join((str(_ITERATIONS), base64.b64encode(salt).decode(), base64.b64encode(digest).decode()))
    return f"{user}:$7${encoded}"


def device_access(device_id: str) -> str:
    """A patch publishes to its own topics and reads nothing."""
    topics = "".join(f"topic write {ROOT}/{device_id}/{kind}\n" for kind in _KINDS)
    return f"user {device_id}\n{topics}"


def gateway_access(user: str) -> str:
    """The gateway reads all our topics and publishes nothing: it never treats."""
    return f"user {user}\n" + "".join(f"topic read {ROOT}/+/{kind}\n" for kind in _KINDS)


class BrokerFiles:
    """The two files of one broker. The broker must be told to read them again (SIGHUP)."""

    def __init__(self, passwords: Path, access: Path) -> None:
        self._passwords, self._access = passwords, access

    def knows(self, user: str) -> bool:
        return any(line.startswith(f"{user}:") for line in _lines(self._passwords))

    def add(self, user: str, access: str) -> str:
        """A new password for `user`, returned once and stored as a hash only."""
        password = secrets.token_urlsafe(24)
        self.remove(user)
        _write(self._access, "".join(_lines(self._access)) + access)
        _write(self._passwords, "".join(_lines(self._passwords)) + password_line(user, password) + "\n")
        return password

    def remove(self, user: str) -> None:
        """Take a user out of both files; the password goes first."""
        kept = [line for line in _lines(self._passwords) if not line.startswith(f"{user}:")]
        _write(self._passwords, "".join(kept))
        blocks = re.split(r"(?m)^(?=user )", "".join(_lines(self._access)))
        _write(self._access, "".join(block for block in blocks if not block.startswith(f"user {user}\n")))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        os.fchmod(opened.fileno(), _MODE)
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
