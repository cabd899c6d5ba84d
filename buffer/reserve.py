"""A file that only takes room: given up when the disk is full, so that urgent events and deletes find some."""

import contextlib
import os
from pathlib import Path


class Reserve:
    """`octets` beside the database. No method raises: without room, or on a file system that cannot reserve any, it is
    not `held`.
    """

    def __init__(self, database: Path, octets: int) -> None:
        self._path = database.with_suffix(".reserve")
        self.octets = octets
        self.held = False

    def there(self) -> bool:
        """Is it there from before?"""
        try:
            return self._path.stat().st_blocks * 512 >= self.octets
        except OSError:
            return False

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
