"""A file that only takes room: given up when the disk is full, so that urgent events and deletes find some."""

import contextlib
import os
from pathlib import Path

# What opening a database takes, its migration included.
_TO_OPEN = 4 << 20
_BLOCK = 1 << 16


class Reserve:
    """`octets` beside the database. No method raises: without room, or on a file system that cannot reserve any, it is
    not `held`.
    """

    def __init__(self, database: Path, octets: int) -> None:
        self._path = database.with_suffix(".reserve")
        self.octets = octets
        self.held = False

    def make_room(self, free: int) -> None:
        """Before the database is opened, which takes some room, on a disk with `free` octets left: what is there from
        before is kept if it is what it should be and there is enough beside it, else given up.
        """
        try:
            there = self._path.stat().st_blocks * 512
        except OSError:
            return
        self.held = bool(self.octets) and self.octets <= there <= self.octets + _BLOCK and free >= _TO_OPEN
        if not self.held:
            self.release()

    def take(self) -> None:
        """Fill it. Blocks for as long as the disk needs."""
        if not self.octets:
            self.held = True
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, self.octets)
            os.fsync(descriptor)
            self.held = True
        except OSError:
            self.release()
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give its room up."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        self.held = False
