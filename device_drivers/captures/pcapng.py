"""pcapng: sections of either byte order, interfaces with a link type and a resolution of their own, enhanced packets.

Block: type u32, total length u32, body, total length u32. Section header body: byte order magic u32, version, length.
Interface description body: link type u16, reserved, largest packet u32, options. Enhanced packet body: interface u32,
stamp high u32, stamp low u32, included u32, original u32, data, options.
"""

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, NamedTuple

from device_drivers.captures.base import MAX_RECORD, CaptureError, HciRecord
from device_drivers.captures.link_types import Record, parser

MAGIC = b"\x0a\x0d\x0d\x0a"
_INTERFACE, _SIMPLE, _ENHANCED, _SECTION = 1, 3, 6, 0x0A0D0D0A
_IF_TSRESOL, _IF_TSOFFSET = 9, 14
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_BLOCK = MAX_RECORD + 65_536
_MAX_INTERFACES = 256


class _Interface(NamedTuple):
    parse: Callable[[int, datetime, bytes], Record | None]
    units: int
    offset: int


def records(stream: BinaryIO) -> Iterator[Record]:
    """The packets of a file, one at a time; CaptureError at the first block that is damaged."""
    order, interfaces, number, block = "<", list[_Interface](), 0, 0
    while head := stream.read(8):
        block += 1
        kind, body, order = _block(stream, head, block, order)
        if kind == _SECTION:
            interfaces = []
        elif kind == _INTERFACE and len(body) >= 8 and len(interfaces) < _MAX_INTERFACES:
            interfaces.append(_interface(body, order))
        elif kind in {_ENHANCED, _SIMPLE}:
            number += 1
            found = _packet(kind, body, order, interfaces, number)
            if found is not None:
                yield found


def _block(stream: BinaryIO, head: bytes, block: int, order: str) -> tuple[int, bytes, str]:
    """Type, body and byte order of the block that begins with these octets."""
    if len(head) < 8:
        raise CaptureError(f"the file is truncated: it ends inside the header of block {block}")
    ahead = b""
    if head[:4] == MAGIC:
        ahead = stream.read(4)
        order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(ahead, "")
        if not order:
            raise CaptureError(f"block {block} is damaged: its byte order is none")
    kind, length = struct.unpack(f"{order}II", head)
    if length < 12 or length % 4 or length > _MAX_BLOCK:
        raise CaptureError(f"block {block} is damaged: it claims {length} octets")
    rest = ahead + stream.read(length - 8 - len(ahead))
    if len(rest) < length - 8:
        raise CaptureError(f"the file is truncated: block {block} has {len(rest) + 8} of its {length} octets")
    if struct.unpack(f"{order}I", rest[-4:])[0] != length:
        raise CaptureError(f"block {block} is damaged: its two lengths differ")
    return kind, rest[:-4], order


def _interface(body: bytes, order: str) -> _Interface:
    (link_type,) = struct.unpack(f"{order}H", body[:2])
    units, offset = 10**6, 0
    for code, value in _options(body[8:], order):
        if code == _IF_TSRESOL and value:
            exponent = value[0] & 0x7F
            units = 2 ** min(exponent, 63) if value[0] & 0x80 else 10 ** min(exponent, 19)
        elif code == _IF_TSOFFSET and len(value) == 8:
            (offset,) = struct.unpack(f"{order}q", value)
    return _Interface(parser(link_type), units, offset)


def _options(octets: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(octets):
        code, length = struct.unpack(f"{order}HH", octets[at : at + 4])
        if code == 0:
            return
        yield code, octets[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4


def _packet(kind: int, body: bytes, order: str, interfaces: list[_Interface], number: int) -> Record | None:
    index, stamp = 0, 0
    if kind == _ENHANCED:
        if len(body) < 20:
            raise CaptureError(f"packet {number} is damaged: it is too short")
        index, high, low, included, original = struct.unpack(f"{order}IIIII", body[:20])
        stamp, data = high << 32 | low, body[20:]
    else:
        if len(body) < 4:
            raise CaptureError(f"packet {number} is damaged: it is too short")
        (original,) = struct.unpack(f"{order}I", body[:4])
        data = body[4:]
        included = min(original, len(data))
    if included > len(data) or included > original or index >= len(interfaces):
        what = f"{included} of {original} octets of interface {index}"
        raise CaptureError(f"packet {number} is damaged: it claims {what}")
    interface = interfaces[index]
    try:
        seconds, rest = divmod(stamp, interface.units)
        time = _EPOCH + timedelta(seconds=seconds + interface.offset, microseconds=rest * 10**6 // interface.units)
    except OverflowError:
        raise CaptureError(f"packet {number} is damaged: its time is outside the calendar") from None
    found = interface.parse(number, time, data[:included])
    # Interfaces are controllers, unless a record says itself whose it is.
    return found._replace(adapter=index) if isinstance(found, HciRecord) and not found.adapter else found
