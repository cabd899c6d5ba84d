"""What a file is, by its first octets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from device_drivers.captures import btsnoop, bugreport, packetlogger, pcap, pcapng
from device_drivers.captures.base import CaptureError
from device_drivers.captures.link_types import Record

HEAD = 16
_READ = "btsnoop, pcap, pcapng, PacketLogger, an Android bug report, or our JSON Lines"
_NOT_READ = {
    b"\x00\x05\x16\x07": "an AppleDouble file: macOS keeps it beside the capture (`._NAME`); name the other one",
    b"\x1f\x8b": "compressed with gzip: unpack it first (`gunzip`)",
    b"\xfd7zXZ": "compressed with xz: unpack it first (`unxz`)",
    b"BZh": "compressed with bzip2: unpack it first (`bunzip2`)",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF document",
    b"SQLite": "an SQLite database",
}


@dataclass(frozen=True, slots=True)
class Format:
    """`name` for people; `json_lines` is ours, else `order` is PacketLogger's byte order."""

    name: str
    json_lines: bool = False
    order: str = ""


def detect(head: bytes) -> Format:
    """CaptureError, saying what it is and what would work, for all that is not read."""
    if head.startswith(btsnoop.MAGIC):
        return Format("btsnoop")
    if head.startswith(pcapng.MAGIC):
        return Format("pcapng")
    if head[:4] in pcap.MAGICS:
        return Format("pcap")
    if head.startswith(bugreport.MAGIC):
        return Format("bug report")
    if head.startswith(b"{"):
        return Format("JSON Lines", json_lines=True)
    for magic, what in _NOT_READ.items():
        if head.startswith(magic):
            raise CaptureError(f"this is {what}. Read are {_READ}")
    # TI: information octet, packet number u32 (the first is 1), time stamp u64 (the first is 0), length
    if head[1:13] == b"\1" + bytes(11):
        raise CaptureError("this looks like a .psd of TI's SmartRF Sniffer: export it as pcap (SmartRF Sniffer 2 does)")
    order = packetlogger.order_of(head)
    if order is not None:
        return Format("PacketLogger", order=order)
    raise CaptureError(f"this is not a capture. Read are {_READ}")


def records(stream: BinaryIO, found: Format) -> Iterator[Record]:
    """The packets of a file that is not JSON Lines."""
    if found.name == "btsnoop":
        return btsnoop.records(stream)
    if found.name == "pcap":
        return pcap.records(stream)
    if found.name == "pcapng":
        return pcapng.records(stream)
    if found.name == "PacketLogger":
        return packetlogger.records(stream, found.order)
    return _of_bug_report(stream)


def _of_bug_report(stream: BinaryIO) -> Iterator[Record]:
    with bugreport.snoop_log(stream) as log:
        yield from btsnoop.records(log)
