"""A disk whose write cache a power cut loses, served to qemu over NBD; it can also fail, fill up and stall.

disk = VolatileDisk(image, socket)
vm.plug_disk(socket)
disk.fail("write")             # EIO from now on; also "read" and "flush"; ENOSPC with `error`
disk.fail_once("write", 0.3)   # as long, from the first write after a moment without requests
disk.stall(20)                 # the next write or flush takes so long, and what comes after it waits
disk.cut(keep=0.5)             # no power: half of the sectors that were not flushed are lost
disk.power_on()
"""

import contextlib
import errno
import os
import random
import socket
import struct
import threading
import time
from math import inf
from pathlib import Path

SECTOR = 512
SUPERBLOCK = {1_024, 1_536}
QUIET_SECONDS, COMMIT_OCTETS = 0.15, 8_192
# The NBD protocol, "fixed newstyle": options of the handshake, commands, flags
_GO, _ACK, _INFO, _UNSUPPORTED = 7, 1, 3, 0x80000001
_EXPORT, _BLOCK_SIZE = 0, 3
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_NAMES = {_READ: "read", _WRITE: "write", _FLUSH: "flush"}
_CAN_FLUSH_AND_FUA, _FUA = 1 | 4 | 8, 1


class VolatileDisk:
    """`hit` is set as soon as a fault met a request, and cleared when a fault is set."""

    def __init__(self, image: Path, path: Path) -> None:
        self.hit = threading.Event()
        self._file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self._size = os.fstat(self._file).st_size
        self._cache: dict[int, bytes] = {}  # what was not flushed: offset of a sector -> what it is to hold
        self._power = threading.Condition()
        self._on, self._era, self._cut_at = True, 0, inf
        self._faults: dict[str, int] = {}
        self._until = inf
        self._soon: tuple[str, float] | None = None
        self._stall = 0.0
        self._written = 0.0
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    # faults

    def fail(self, *kinds: str, error: int = errno.EIO) -> None:
        """Requests of these kinds fail until `heal`."""
        with self._power:
            self._faults, self._until, self._soon = dict.fromkeys(kinds, error), inf, None
            self.hit.clear()

    def fail_commit(self, kind: str, seconds: float = 0.3) -> None:
        """They fail for a moment, which begins with a large write after a moment without any: with a commit of the
        database, not one of the file system, which would stop itself.
        """
        with self._power:
            self._soon = kind, seconds
            self.hit.clear()

    def stall(self, seconds: float) -> None:
        """The next write or flush is answered so late."""
        with self._power:
            self._stall = seconds
            self.hit.clear()

    def heal(self) -> None:
        with self._power:
            self._faults, self._soon, self._stall = {}, None, 0.0

    # power

    def cut(self, keep: float = 0.0, rng: random.Random | None = None, unflushed: int = 0) -> int:
        """No power, no answers, as soon as so many sectors are not flushed (within 120 s). Each is kept with the
        probability `keep`, both of the superblock or none: ext4 cannot be mounted where that is torn. How many there
        were.
        """
        rng = rng or random.Random()
        with self._power:
            self._cut_at = unflushed
            self._off_if_due()
            if not self._power.wait_for(lambda: not self._on, 120):
                raise TimeoutError(f"{len(self._cache)} sectors are not flushed, not {unflushed}")
            found = len(self._cache)
            kept = {at: sector for at, sector in self._cache.items() if rng.random() < keep}
            if not kept.keys() >= self._cache.keys() & SUPERBLOCK:
                kept = {at: sector for at, sector in kept.items() if at not in SUPERBLOCK}
            self._write_back(kept)
        return found

    def _off_if_due(self) -> None:
        if len(self._cache) >= self._cut_at:
            self._on = False
            self._power.notify_all()

    def power_on(self) -> None:
        """For the next machine; connections of the last one stay dead."""
        self.heal()
        with self._power:
            self._on, self._era, self._cut_at = True, self._era + 1, inf
            self._power.notify_all()

    def close(self) -> None:
        self.power_on()
        self._server.close()
        os.close(self._file)

    # the medium

    def _write_back(self, sectors: dict[int, bytes]) -> None:
        for offset, sector in sectors.items():
            os.pwrite(self._file, sector, offset)
        self._cache = {}

    def _read(self, offset: int, length: int) -> bytes:
        data = bytearray(os.pread(self._file, length, offset))
        for at in range(offset, offset + length, SECTOR):
            if sector := self._cache.get(at):
                data[at - offset : at - offset + SECTOR] = sector
        return bytes(data)

    def _write(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), SECTOR):
            self._cache[offset + at] = data[at : at + SECTOR]

    def _execute(self, command: int, flags: int, offset: int, length: int, data: bytes) -> tuple[int, bytes]:
        """One request: error number, data read."""
        if command not in _NAMES:
            return errno.EINVAL, b""
        if error := self._fault(_NAMES[command], length):
            self.hit.set()
            return error, b""
        if command == _READ:
            return 0, self._read(offset, length)
        if command == _WRITE:
            self._write(offset, data)
            self._off_if_due()
        if command == _FLUSH or flags & _FUA:
            self._write_back(self._cache)
        return 0, b""

    def _fault(self, kind: str, length: int) -> int:
        now = time.monotonic()
        quiet = now - self._written > QUIET_SECONDS
        if kind != "read":
            self._written = now
        if self._soon and kind == "write" and quiet and length >= COMMIT_OCTETS:
            self._faults, self._until, self._soon = {self._soon[0]: errno.EIO}, now + self._soon[1], None
        return self._faults.get(kind, 0) if now < self._until else 0

    # the server

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(EOFError, OSError):
            _negotiate(connection, stream, self._size)
            self._answer(connection, stream)

    def _answer(self, connection: socket.socket, stream) -> None:
        era = self._era
        while True:
            _, flags, command, handle, offset, length = struct.unpack(">IHHQQI", _receive(stream, 28))
            if command == _DISCONNECT:
                return
            data = _receive(stream, length) if command == _WRITE else b""
            if command != _READ and self._stall:
                self._hold()
            with self._power:
                self._power.wait_for(lambda: self._on)
                if self._era != era:
                    return
                error, read = self._execute(command, flags, offset, length, data)
            connection.sendall(struct.pack(">IIQ", 0x67446698, error, handle) + read)

    def _hold(self) -> None:
        with self._power:
            seconds, self._stall = self._stall, 0.0
        self.hit.set()
        time.sleep(seconds)


def _receive(stream, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def _negotiate(connection: socket.socket, stream, size: int) -> None:
    """Any option but GO is refused; clients then ask for GO."""
    connection.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
    _receive(stream, 4)
    option = 0
    while option != _GO:
        _, option, length = struct.unpack(">8sII", _receive(stream, 16))
        _receive(stream, length)
        replies = [(_UNSUPPORTED, b"")]
        if option == _GO:
            export = struct.pack(">HQH", _EXPORT, size, _CAN_FLUSH_AND_FUA)
            blocks = struct.pack(">HIII", _BLOCK_SIZE, SECTOR, 4096, 1 << 20)
            replies = [(_INFO, export), (_INFO, blocks), (_ACK, b"")]
        for kind, body in replies:
            connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(body)) + body)
