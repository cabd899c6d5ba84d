"""What the shim recorded, and what a power cut can leave of it.

The disk: what was written to a file is pending until the file is synced; then it is durable. A power cut keeps any part
of what is pending: none, all, some writes and not others, or some sectors of each. A file that is unlinked or renamed
may be back until its folder is synced. Not modelled: a disk that lies about a sync, damage to what was synced before.
"""

import json
import struct
from bisect import bisect_right
from typing import NamedTuple

_HEAD = struct.Struct("=cBqI")
_SECTOR = 512
MODES = ("none", "all", "subset", "torn")


class Op(NamedTuple):
    """One recorded operation: see shim.c."""

    kind: str
    name: str
    offset: int
    data: bytes


class Said(NamedTuple):
    """What the process said of itself, after so many operations."""

    after: int
    what: dict


def read(content):
    """(operations, what was said), in their order."""
    operations, said, at = [], [], 0
    while at < len(content):
        kind, name_length, offset, length = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        name = content[at : at + name_length].decode()
        data = content[at + name_length : at + name_length + length]
        at += name_length + length
        if kind == b"P":
            said.append(Said(len(operations), json.loads(data)))
        else:
            operations.append(Op(kind.decode(), name, offset, data))
    return operations, said


def say(what):
    """A record of the process's own, for the log."""
    data = json.dumps(what).encode()
    return _HEAD.pack(b"P", 0, 0, len(data)) + data


class Disk:
    """Files as they are after a number of operations, with what is not synced yet."""

    def __init__(self, operations):
        self._operations, self.done = operations, 0
        self._durable: dict[str, bytearray] = {}
        self._pending: list[Op] = []

    def advance(self, to):
        """Let the operations up to `to` happen."""
        for op in self._operations[self.done : to]:
            if op.kind != "S":
                self._pending.append(op)
                continue
            # The names of a folder become durable with it, and a file's own name with the file (ext4)
            names = {"U", "R"} if op.name == "." else {"W", "T"}
            for waiting in self._pending:
                if waiting.kind in names and op.name in {".", waiting.name}:
                    _apply(self._durable, waiting)
            self._pending = [p for p in self._pending if not (p.kind in names and op.name in {".", p.name})]
        self.done = to

    def settle(self):
        """Everything so far is durable."""
        for op in self._pending:
            _apply(self._durable, op)
        self._pending = []

    def after_the_cut(self, mode, rng):
        """The files that are left."""
        files = {name: bytearray(content) for name, content in self._durable.items()}
        for op in self._pending:
            if mode == "all" or (mode != "none" and rng.random() < 0.5):
                for part in _torn(op, rng) if mode == "torn" else (op,):
                    _apply(files, part)
        return files


def _torn(op, rng):
    """What is left of a write in whose middle the power went: any of its sectors."""
    if op.kind != "W":
        yield op
        return
    at = 0
    while at < len(op.data):
        end = at + _SECTOR - (op.offset + at) % _SECTOR
        if len(op.data) <= _SECTOR or rng.random() < 0.5:
            yield op._replace(offset=op.offset + at, data=op.data[at:end])
        at = end


def _apply(files, op):
    if op.kind == "U":
        files.pop(op.name, None)
    elif op.kind == "R":
        if op.name in files:
            files[op.data.decode()] = files.pop(op.name)
    else:
        content = files.setdefault(op.name, bytearray())
        end = op.offset + len(op.data)
        if op.kind == "T":
            del content[op.offset :]
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[op.offset : end] = op.data


def said_by(said, operations):
    """What had been said after so many operations."""
    return [item.what for item in said[: bisect_right(said, operations, key=lambda item: item.after)]]
