"""What capture readers yield: packets of a controller or of the air, and the ATT operations in them."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from device_drivers.base import Channel, Frame

# The largest packet is ISO or ACL data with a 16-bit length, plus headers; more is damage, not data.
MAX_RECORD = 65_535 + 32
FROM_DEVICE = frozenset({"notification", "indication", "read", "read_blob", "read_by_type"})


class CaptureError(Exception):
    """The file is damaged or not a capture; the message says where and what."""


class HciRecord(NamedTuple):
    """One H4 packet: 1-based record number, time, type octet and what follows it; `sent` by the host, None where the
    file does not say. Each `adapter` has connection handles of its own.
    """

    number: int
    time: datetime
    packet: bytes
    sent: bool | None
    adapter: int = 0


class AirRecord(NamedTuple):
    """One link-layer PDU (header, length, payload) as a sniffer heard it. `sent` by the central. None: not said.

    `decrypted` by the sniffer; `unreadable`: it says that it is encrypted, or that decrypting went wrong.
    """

    number: int
    time: datetime
    access_address: int
    pdu: bytes
    crc_ok: bool | None = None
    sent: bool | None = None
    decrypted: bool = False
    unreadable: bool = False


class Value(NamedTuple):
    """One attribute's value in an operation; `payload` is the whole of it where it came in parts."""

    handle: int
    channel: Channel | None
    payload: bytes


class AttOperation(NamedTuple):
    """One ATT PDU. `frame` is the record that completed it, `att` names its opcode, `value` is what it carries beside
    `handle` (None where it names none). `sent` by the host or central. `channel` is known after discovery.

    `error` is the code of an `error`, and `request` the opcode it answers. `values` are the attribute values it
    carries; None where that is just `value` at `handle`.
    """

    frame: int
    time: datetime
    device: str
    handle: int | None
    channel: Channel | None
    att: str
    value: bytes
    sent: bool = False
    error: int | None = None
    request: int | None = None
    values: tuple[Value, ...] | None = None

    def to_frames(self) -> list[Frame]:
        """What a link would have delivered: nothing for the collector's own, and for unknown characteristics."""
        if self.sent or (self.att not in FROM_DEVICE and not self.values):
            return []
        if self.values is None:
            return [Frame(self.device, self.channel, self.value, self.time)] if self.channel else []
        return [Frame(self.device, item.channel, item.payload, self.time) for item in self.values if item.channel]


@dataclass(slots=True)
class Counts:
    """How many packets and connections there were, and what was not handed on. `lost`: how often a side went on while
    the sniffer had not heard what it said before. `strange`: what no L2CAP begins with.
    """

    records: int = 0
    connections: int = 0
    encrypted: int = 0
    bad_crc: int = 0
    repeated: int = 0
    lost: int = 0
    strange: int = 0
    cut: int = 0
    other: int = 0

    def left_out(self) -> dict[str, int]:
        """What is not decoded, in words."""
        words = {
            "encrypted, no key": self.encrypted,
            "with a wrong CRC": self.bad_crc,
            "retransmitted": self.repeated,
            "lost by the sniffer": self.lost,
            "that make no sense (encrypted, or begun before the capture)": self.strange,
            "cut short by who recorded them": self.cut,
            "on other L2CAP channels (EATT is not read)": self.other,
        }
        return {name: count for name, count in words.items() if count}
