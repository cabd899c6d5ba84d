"""What capture readers yield."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from device_drivers.base import Channel, Frame

AttName = Literal["notification", "indication", "read", "write", "write_command", "prepared_write"]
FROM_DEVICE: frozenset[AttName] = frozenset({"notification", "indication", "read"})


class CaptureError(Exception):
    """The file is damaged or not a capture; the message says where and what."""


class HciRecord(NamedTuple):
    """One H4 packet: 1-based record number, time, type octet and what follows it; `sent` by the host."""

    number: int
    time: datetime
    packet: bytes
    sent: bool


@dataclass(frozen=True, slots=True)
class AttOperation:
    """One ATT value on the air. `frame` is the record that completed it, `channel` is known after discovery."""

    frame: int
    time: datetime
    device: str
    handle: int
    channel: Channel | None
    att: AttName
    value: bytes

    def to_frame(self) -> Frame | None:
        """What a link would have delivered: None for the collector's own writes and for unknown characteristics."""
        if self.channel is None or self.att not in FROM_DEVICE:
            return None
        return Frame(self.device, self.channel, self.value, self.time)
