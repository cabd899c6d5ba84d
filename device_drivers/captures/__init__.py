"""Captured BLE logs, read into the same Frames as the radio: one file per format, one HCI/L2CAP/ATT core."""

from collections.abc import Iterator
from typing import BinaryIO

from device_drivers.captures import btsnoop, jsonl
from device_drivers.captures.base import AttOperation, CaptureError
from device_drivers.captures.hci import HciReader


def read(stream: BinaryIO) -> Iterator[AttOperation]:
    """ATT operations in file order. CaptureError where the file is damaged or of no known format.

    What was read before the damage has been yielded by then.
    """
    head = stream.read(16)
    stream.seek(0)
    if head.startswith(btsnoop.MAGIC):
        reader = HciReader()
        for record in btsnoop.records(stream):
            yield from reader.receive(record)
    elif head.startswith(b"{"):
        yield from jsonl.operations(stream)
    else:
        raise CaptureError("not a capture this version reads: btsnoop (datalink 1002 or 2001) or our JSON Lines")
