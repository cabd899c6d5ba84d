"""BlueZ's own main.conf: supervision belongs to BlueZ, and the gateway only says when it was left at the default."""

from configparser import ConfigParser, Error
from pathlib import Path

MAIN_CONF = Path("/etc/bluetooth/main.conf")
# In units of 10 ms: the kernel's 420 ms loses links beside Wi-Fi, 720 ms lost none.
_KERNEL_DEFAULT, _LEAST = 42, 72


def supervision_warning(text: str | None) -> str | None:
    """What to mend, or None. `text` is the file's, None where it cannot be read. The effective value is in debugfs, for
    root only.
    """
    how = f"add the lines of systemd/bluetooth-main.conf to {MAIN_CONF} and restart bluetooth"
    if text is None:
        return f"{MAIN_CONF} cannot be read: links may run with the kernel's supervision timeout of 420 ms; {how}"
    parser = ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(text)
        timeout = parser.getint("LE", "ConnectionSupervisionTimeout", fallback=_KERNEL_DEFAULT)
    except (Error, ValueError):
        return f"{MAIN_CONF} has errors, BlueZ ignores it: {how}"
    if timeout >= _LEAST:
        return None
    return f"links are given up after {timeout * 10} ms without an answer, too short beside Wi-Fi: {how}"


def read_main_conf() -> str | None:
    """The file's text, None where it cannot be read."""
    try:
        return MAIN_CONF.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
