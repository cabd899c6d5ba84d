"""HCI (Core 5.4, Vol 4 Part E 5.4): connections of a controller, and the ATT in their ACL packets."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from device_drivers.captures.att import AttTracker, Told
from device_drivers.captures.base import AttOperation, Counts, HciRecord
from device_drivers.captures.devices import Devices
from device_drivers.captures.l2cap import L2cap

_COMMAND, _ACL, _EVENT = 0x01, 0x02, 0x04
_DISCONNECTION_COMPLETE, _LE_META = 0x05, 0x3E
_LE_CONNECTION_COMPLETE = {0x01, 0x0A, 0x29}  # plain, enhanced, enhanced v2: same layout up to the address
_FIRST_BY_HOST, _CONTINUATION = 0b00, 0b01


@dataclass(slots=True)
class _Connection:
    device: str
    att: AttTracker
    l2cap: dict[bool, L2cap] = field(default_factory=lambda: {False: L2cap(), True: L2cap()})


class HciReader:
    """Memory of the connections of one capture. Hostile octets never raise: what is no complete PDU yields nothing."""

    def __init__(self, devices: Devices, counts: Counts) -> None:
        self._devices, self._counts = devices, counts
        self._connections: dict[int, _Connection] = {}

    def receive(self, record: HciRecord) -> Iterator[AttOperation]:
        """The ATT operations that this record completes."""
        kind, body = record.packet[:1], record.packet[1:]
        if kind == bytes([_EVENT]):
            self._event(body)
        elif kind == bytes([_ACL]) and len(body) >= 4:
            yield from self._acl(record, body)

    def _event(self, body: bytes) -> None:
        if len(body) >= 14 and body[0] == _LE_META and body[2] in _LE_CONNECTION_COMPLETE and body[3] == 0:
            address = ":".join(f"{octet:02X}" for octet in reversed(body[8:14]))
            self._open((body[4] | body[5] << 8) & 0x0FFF, address)
        elif len(body) >= 5 and body[0] == _DISCONNECTION_COMPLETE and body[2] == 0:
            self._connections.pop((body[3] | body[4] << 8) & 0x0FFF, None)

    def _open(self, handle: int, device: str) -> _Connection:
        self._counts.connections += 1
        connection = self._connections[handle] = _Connection(device, self._devices.connected(device))
        return connection

    def _acl(self, record: HciRecord, body: bytes) -> Iterator[AttOperation]:
        word, length = body[0] | body[1] << 8, body[2] | body[3] << 8
        data = body[4:]
        if len(data) != length:
            return
        handle, boundary = word & 0x0FFF, word >> 12 & 0b11
        # A capture that begins in the middle of a connection names its device by the connection handle.
        connection = self._connections.get(handle) or self._open(handle, f"connection-{handle:#06x}")
        sent = _direction(boundary, connection) if record.sent is None else record.sent
        pdu = connection.l2cap[sent].receive(data, first=boundary != _CONTINUATION)
        if pdu is not None:
            told = Told(record.number, record.time, connection.device, sent)
            operation = connection.att.receive(told, pdu)
            if operation is not None:
                yield operation


def _direction(boundary: int, connection: _Connection) -> bool:
    """On LE-U the host begins a PDU with 00 and the controller with 10 (Vol 4 Part E 5.4.2)."""
    if boundary == _CONTINUATION:
        return connection.l2cap[True].waits and not connection.l2cap[False].waits
    return boundary == _FIRST_BY_HOST
