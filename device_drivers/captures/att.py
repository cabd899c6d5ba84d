"""ATT (Core 5.4, Vol 3 Part F): PDUs to operations, with UUIDs from the capture's own discovery."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from device_drivers.base import Channel
from device_drivers.captures.base import AttOperation, Value

_BASE_UUID = "-0000-1000-8000-00805f9b34fb"
NAMES = {
    0x01: "error", 0x02: "mtu_request", 0x03: "mtu_response", 0x04: "find_information_request",
    0x05: "find_information", 0x06: "find_by_type_value_request", 0x07: "find_by_type_value",
    0x08: "read_by_type_request", 0x09: "read_by_type", 0x0A: "read_request", 0x0B: "read", 0x0C: "read_blob_request",
    0x0D: "read_blob", 0x0E: "read_multiple_request", 0x0F: "read_multiple", 0x10: "read_by_group_type_request",
    0x11: "read_by_group_type", 0x12: "write", 0x13: "write_response", 0x16: "prepared_write",
    0x17: "prepared_write_response", 0x18: "execute_write", 0x19: "execute_write_response", 0x1B: "notification",
    0x1D: "indication", 0x1E: "confirmation", 0x20: "read_multiple_variable_request",
    0x21: "read_multiple_variable", 0x23: "multiple_notification", 0x52: "write_command", 0xD2: "signed_write",
}  # fmt: skip
OPCODES = {name: opcode for opcode, name in NAMES.items()}
_ERROR, _READ_BY_TYPE, _READ_BLOB, _READ_BY_GROUP, _FIND_BY_TYPE, _FIND = 0x01, 0x09, 0x0D, 0x11, 0x07, 0x05
_READ, _MULTIPLE = 0x0B, 0x23
_PRIMARY, _SECONDARY, _CHARACTERISTIC = "2800", "2801", "2803"
# PDUs that begin with the handle of what they are about; a range of handles is no handle
_WITH_HANDLE = {0x0A, 0x0C, 0x12, 0x16, 0x17, 0x1B, 0x1D, 0x52, 0xD2}
# Responses that carry the value of the attribute their request named
_ANSWERS = {_READ, _READ_BLOB, 0x13}
_SERVER_SENDS = {0x1B, 0x1D, 0x23}
_MAX_VALUE = 512
_MTU_REQUEST, _DEFAULT_MTU = 0x02, 23
# Of one device; real ones have a few hundred
_MAX_ATTRIBUTES = 4_096


class Told(NamedTuple):
    """Which record, when and whose PDU it is; `sent` by the host or central."""

    number: int
    time: datetime
    device: str
    sent: bool


def short_uuid(octets: bytes) -> str:
    """Lower-case text of a little-endian UUID of 2 or 16 octets; SIG UUIDs in their 16-bit form."""
    if len(octets) == 2:
        return f"{octets[1]:02x}{octets[0]:02x}"
    text = octets[::-1].hex()
    text = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    return text[4:8] if text.startswith("0000") and text.endswith(_BASE_UUID) else text


class _Service(NamedTuple):
    """First handle, last handle, what it is."""

    first: int
    last: int
    uuid: str


class _Server:
    """Attributes of one side, as discovered. A later discovery replaces what it overlaps: firmware changes them."""

    def __init__(self, table: Mapping[int, Channel]) -> None:
        self._table = table
        self._services: list[_Service] = []
        self.characteristics: dict[int, str] = {}
        self._known: dict[int, Channel | None] = {}

    def service(self, found: _Service) -> None:
        if found in self._services:
            return
        at = bisect_left(self._services, (found.first,))
        first = at - 1 if at and self._services[at - 1].last >= found.first else at
        last = at
        while last < len(self._services) and self._services[last].first <= found.last:
            last += 1
        if first < last:
            self.characteristics = {
                handle: uuid for handle, uuid in self.characteristics.items() if not found.first <= handle <= found.last
            }
        elif len(self._services) >= _MAX_ATTRIBUTES:
            return
        self._services[first:last] = [found]
        self._known.clear()

    def characteristic(self, handle: int, uuid: str) -> None:
        if len(self.characteristics) < _MAX_ATTRIBUTES:
            self.characteristics[handle] = uuid
            self._known.clear()

    def channel(self, handle: int) -> Channel | None:
        try:
            return self._known[handle]
        except KeyError:
            found = self._known[handle] = self._channel(handle)
            return found

    def _channel(self, handle: int) -> Channel | None:
        characteristic = self.characteristics.get(handle)
        if characteristic is None:
            return self._table.get(handle)
        at = bisect_right(self._services, (handle, 0xFFFF, "~"))
        service = self._services[at - 1] if at and self._services[at - 1].last >= handle else None
        return Channel(service.uuid if service else "", characteristic)


class Servers:
    """Attributes of one device, and of the host, where the device asks it.

    `table` names handles of the device that the capture does not discover.
    """

    def __init__(self, table: Mapping[int, Channel]) -> None:
        self.of = {False: _Server(table), True: _Server({})}


class AttTracker:
    """The requests under way in one connection to a device."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers.of
        self._request: dict[bool, bytes] = {}
        self._long: dict[bool, tuple[int, bytes]] = {}
        self._receives = {False: _DEFAULT_MTU, True: _DEFAULT_MTU}

    def receive(self, told: Told, pdu: bytes) -> AttOperation | None:
        """The operation of a PDU; None for what is no PDU of ATT."""
        opcode = pdu[0] if pdu else 0
        name = NAMES.get(opcode)
        if name is None:
            return None
        if opcode == _ERROR or (opcode & 1 and opcode not in _SERVER_SENDS):
            return self._response(told, opcode, name, pdu)
        if opcode == _MTU_REQUEST and len(pdu) == 3:
            self._receives[told.sent] = _u16(pdu, 1)
        server = self._servers[told.sent if opcode in _SERVER_SENDS or opcode == 0x1E else not told.sent]
        if opcode & 0x41 == 0 and opcode != 0x1E:
            self._request[told.sent] = pdu
        handle = _u16(pdu, 1) if opcode in _WITH_HANDLE and len(pdu) >= 3 else None
        if handle is None:
            values = tuple(_multiple(pdu, server)) if opcode == _MULTIPLE else None
            return self._operation(told, name, None, pdu[1:], server, values)
        return self._operation(told, name, handle, pdu[5:] if opcode == 0x16 else pdu[3:], server)

    def _response(self, told: Told, opcode: int, name: str, pdu: bytes) -> AttOperation:
        server = self._servers[told.sent]
        request = self._request.get(not told.sent, b"")
        if opcode == _ERROR:
            self._request.pop(not told.sent, None)
            if len(pdu) != 5:
                return self._operation(told, name, None, pdu[1:], server)
            # A long value is known to be whole when there is no more of it.
            whole = self._held(told.sent, _u16(pdu, 2), server) if pdu[1] == _READ_BLOB - 1 else None
            made = self._operation(told, name, _u16(pdu, 2), b"", server, whole)
            return made._replace(error=pdu[4], request=pdu[1])
        side = not told.sent
        if _opcode_of(request) + 1 != opcode:
            # Some sniffers get the direction of a frame wrong.
            side, request = told.sent, self._request.get(told.sent, b"")
        if _opcode_of(request) + 1 != opcode:
            handle = _u16(pdu, 1) if opcode == 0x17 and len(pdu) >= 5 else None
            return self._operation(told, name, handle, pdu[5:] if handle is not None else pdu[1:], server)
        del self._request[side]
        if opcode == _MTU_REQUEST + 1 and len(pdu) == 3:
            self._receives[told.sent] = _u16(pdu, 1)
        if opcode in _ANSWERS and len(request) >= 3:
            return self._answer(told, opcode, name, request, pdu, server)
        if opcode == 0x17 and len(pdu) >= 5:
            return self._operation(told, name, _u16(pdu, 1), pdu[5:], server)
        return self._discovery(told, opcode, name, request, pdu, server)

    def _answer(self, told: Told, opcode: int, name: str, request: bytes, pdu: bytes, server: _Server) -> AttOperation:
        handle, value, side = _u16(request, 1), pdu[1:], told.sent
        values: tuple[Value, ...] | None = None
        full = len(value) == max(_DEFAULT_MTU, min(self._receives.values())) - 1
        if opcode == _READ:
            # As much as fits: what asked for it goes on with Read Blob.
            self._long[side] = (handle, value)
            values = () if full else None
        elif opcode == _READ_BLOB and len(request) == 5:
            values = self._part(side, handle, _u16(request, 3), value, server, full=full)
        return self._operation(told, name, handle, value, server, values)

    def _held(self, side: bool, handle: int, server: _Server) -> tuple[Value, ...] | None:
        of, held = self._long.pop(side, (0, b""))
        return (Value(handle, server.channel(handle), held),) if held and of == handle else None

    def _part(
        self, side: bool, handle: int, offset: int, part: bytes, server: _Server, *, full: bool
    ) -> tuple[Value, ...]:
        """The whole of a long value, with its last part; nothing before."""
        of, held = self._long.get(side, (handle, b"")) if offset else (handle, b"")
        if of != handle or offset != len(held) or offset + len(part) > _MAX_VALUE:
            self._long.pop(side, None)
            return ()
        self._long[side] = (handle, held + part)
        return () if full else (Value(handle, server.channel(handle), held + part),)

    def _discovery(
        self, told: Told, opcode: int, name: str, request: bytes, pdu: bytes, server: _Server
    ) -> AttOperation:
        values: list[Value] = []
        if opcode == _READ_BY_TYPE and len(pdu) >= 2:
            uuid = short_uuid(request[5:])
            for item in _items(pdu):
                if uuid == _CHARACTERISTIC and len(item) in (7, 21):
                    server.characteristic(_u16(item, 3), short_uuid(item[5:]))
                elif uuid != _CHARACTERISTIC:
                    if _u16(item, 0) not in server.characteristics:
                        server.characteristic(_u16(item, 0), uuid)
                    values.append(Value(_u16(item, 0), server.channel(_u16(item, 0)), item[2:]))
        for service in _services(opcode, request, pdu):
            server.service(service)
        first = {_READ_BY_TYPE: 2, _READ_BY_GROUP: 2, _FIND_BY_TYPE: 1, _FIND: 2}.get(opcode)
        handle = _u16(pdu, first) if first is not None and len(pdu) >= first + 2 else None
        return self._operation(told, name, handle, pdu[first or 1 :], server, tuple(values))

    @staticmethod
    def _operation(
        told: Told,
        name: str,
        handle: int | None,
        value: bytes,
        server: _Server,
        values: tuple[Value, ...] | None = None,
    ) -> AttOperation:
        channel = server.channel(handle) if handle is not None else None
        return AttOperation(told.number, told.time, told.device, handle, channel, name, value, told.sent, values=values)


def _opcode_of(pdu: bytes) -> int:
    """The opcode, -1 for nothing."""
    return pdu[0] if pdu else -1


def _services(opcode: int, request: bytes, pdu: bytes) -> Iterator[_Service]:
    """Those in a Read By Group Type or Find By Type Value response."""
    if opcode == _READ_BY_GROUP and len(pdu) >= 2 and short_uuid(request[5:]) in {_PRIMARY, _SECONDARY}:
        for item in _items(pdu):
            if len(item) in (6, 20):
                yield _Service(_u16(item, 0), _u16(item, 2), short_uuid(item[4:]))
    elif opcode == _FIND_BY_TYPE and len(request) in (9, 23) and short_uuid(request[5:7]) == _PRIMARY:
        for at in range(1, len(pdu) - 3, 4):
            yield _Service(_u16(pdu, at), _u16(pdu, at + 2), short_uuid(request[7:]))


def _multiple(pdu: bytes, server: _Server) -> Iterator[Value]:
    """Multiple Handle Value Notification: `handle u16 | length u16 | value` again and again, until one is cut off."""
    at = 1
    while at + 4 <= len(pdu):
        handle, length = _u16(pdu, at), _u16(pdu, at + 2)
        if at + 4 + length > len(pdu):
            return
        yield Value(handle, server.channel(handle), pdu[at + 4 : at + 4 + length])
        at += 4 + length


def _items(pdu: bytes) -> Iterator[bytes]:
    """Entries of equal length (octet 1) of a Read By Type or Read By Group Type response."""
    length = pdu[1]
    if length >= 4:
        for at in range(2, len(pdu) - length + 1, length):
            yield pdu[at : at + length]


def _u16(octets: bytes, at: int) -> int:
    return octets[at] | octets[at + 1] << 8
