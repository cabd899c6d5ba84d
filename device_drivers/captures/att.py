"""ATT (Core 5.4, Vol 3 Part F): operations with their handles, and UUIDs from the capture's own discovery."""

from bisect import bisect_right
from collections.abc import Iterator

from device_drivers.base import Channel
from device_drivers.captures.base import AttName, AttOperation, HciRecord

_BASE_UUID = "-0000-1000-8000-00805f9b34fb"
_ERROR, _READ_BY_TYPE, _READ, _READ_BLOB, _READ_BY_GROUP, _FIND_BY_TYPE = 0x01, 0x08, 0x0A, 0x0C, 0x10, 0x06
_PRIMARY_SERVICE, _CHARACTERISTIC = "2800", "2803"
# PDUs that carry `handle u16 | value`
_WITH_HANDLE: dict[int, AttName] = {0x12: "write", 0x52: "write_command", 0x1B: "notification", 0x1D: "indication"}
_PREPARED_WRITE = 0x16
_MAX_VALUE = 512


def short_uuid(octets: bytes) -> str:
    """Lower-case text of a little-endian UUID of 2 or 16 octets; SIG UUIDs in their 16-bit form."""
    if len(octets) == 2:
        return f"{octets[1]:02x}{octets[0]:02x}"
    text = octets[::-1].hex()
    text = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    return text[4:8] if text.startswith("0000") and text.endswith(_BASE_UUID) else text


class AttTracker:
    """Attributes of one device and the requests under way on its bearer."""

    def __init__(self) -> None:
        self._services: dict[int, str] = {}
        self._characteristics: dict[int, str] = {}
        self.reset_requests()

    def reset_requests(self) -> None:
        """A new connection: nothing is under way."""
        self._request: dict[bool, bytes] = {}
        self._long_value = b""

    def receive(self, record: HciRecord, device: str, pdu: bytes) -> Iterator[AttOperation]:
        """Operations in this PDU. Malformed PDUs yield nothing."""
        if not pdu:
            return
        opcode = pdu[0]
        if opcode in _WITH_HANDLE and len(pdu) >= 3:
            yield self._operation(record, device, _WITH_HANDLE[opcode], pdu[1:3], pdu[3:])
        elif opcode == _PREPARED_WRITE and len(pdu) >= 5:
            yield self._operation(record, device, "prepared_write", pdu[1:3], pdu[5:])
        if opcode & 0x41 == 0x00 and opcode != 0x1E:
            self._request[record.sent] = pdu  # requests have even opcodes, their responses follow them
            return
        if opcode & 1:
            yield from self._response(record, device, pdu)

    def _response(self, record: HciRecord, device: str, pdu: bytes) -> Iterator[AttOperation]:
        request = self._request.get(not record.sent, b"")
        if opcode_of(request) + 1 != pdu[0]:
            return
        del self._request[not record.sent]
        kind = request[0]
        if kind == _READ and len(request) == 3:
            self._long_value = pdu[1:]
            yield self._operation(record, device, "read", request[1:3], pdu[1:])
        elif kind == _READ_BLOB and len(request) == 5:
            offset = request[3] | request[4] << 8
            if offset == len(self._long_value) and offset + len(pdu) - 1 <= _MAX_VALUE:
                self._long_value += pdu[1:]
                yield self._operation(record, device, "read", request[1:3], self._long_value)
        elif kind == _READ_BY_TYPE and len(pdu) >= 2:
            yield from self._read_by_type(record, device, short_uuid(request[5:]), pdu)
        elif kind == _READ_BY_GROUP and len(pdu) >= 2 and short_uuid(request[5:]) == _PRIMARY_SERVICE:
            for item in _items(pdu):
                self._services[item[0] | item[1] << 8] = short_uuid(item[4:])
        elif kind == _FIND_BY_TYPE and len(request) >= 9 and short_uuid(request[5:7]) == _PRIMARY_SERVICE:
            for at in range(1, len(pdu) - 3, 4):
                self._services[pdu[at] | pdu[at + 1] << 8] = short_uuid(request[7:])

    def _read_by_type(self, record: HciRecord, device: str, uuid: str, pdu: bytes) -> Iterator[AttOperation]:
        for item in _items(pdu):
            if uuid == _CHARACTERISTIC:
                if len(item) in (7, 21):
                    self._characteristics[item[3] | item[4] << 8] = short_uuid(item[5:])
            else:
                self._characteristics.setdefault(item[0] | item[1] << 8, uuid)
                yield self._operation(record, device, "read", item[:2], item[2:])

    def _operation(
        self, record: HciRecord, device: str, att: AttName, handle_octets: bytes, value: bytes
    ) -> AttOperation:
        handle = handle_octets[0] | handle_octets[1] << 8
        return AttOperation(record.number, record.time, device, handle, self._channel(handle), att, value)

    def _channel(self, handle: int) -> Channel | None:
        characteristic = self._characteristics.get(handle)
        if characteristic is None:
            return None
        starts = sorted(self._services)
        at = bisect_right(starts, handle)
        return Channel(self._services[starts[at - 1]] if at else "", characteristic)


def opcode_of(pdu: bytes) -> int:
    """The opcode, -1 for nothing."""
    return pdu[0] if pdu else -1


def _items(pdu: bytes) -> Iterator[bytes]:
    """Entries of equal length (octet 1) of a Read By Type or Read By Group Type response."""
    length = pdu[1]
    if length >= 4:
        for at in range(2, len(pdu) - length + 1, length):
            yield pdu[at : at + length]
