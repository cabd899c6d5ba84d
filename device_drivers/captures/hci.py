"""HCI (Core 5.4, Vol 4 Part E 5.4): connections of a controller, and the ATT in their ACL packets."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from device_drivers.captures.att import AttTracker, Told
from device_drivers.captures.base import AttOperation, Counts, HciRecord
from device_drivers.captures.devices import Devices
from device_drivers.captures.l2cap import L2cap
from device_drivers.captures.link_types import Record

_COMMAND, _ACL, _EVENT = 0x01, 0x02, 0x04
_RESET = b"\x01\x03\x0c"
_MAX_CONNECTIONS = 256
# A connection handle is of its adapter: adapter << 12 | handle
_DISCONNECTION_COMPLETE, _LE_META = 0x05, 0x3E
_LE_CONNECTION_COMPLETE = {0x01, 0x0A, 0x29}  # plain, enhanced, enhanced v2: same layout up to the address
_FIRST_BY_HOST, _CONTINUATION = 0b00, 0b01


@dataclass(slots=True)
class _Connection:
    device: str
    att: AttTracker
    l2cap: dict[bool, L2cap]


class HciReader:
    """Memory of the connections of one capture. Hostile octets never raise: what is no complete PDU yields nothing."""

    def __init__(self, devices: Devices, counts: Counts) -> None:
        self._devices, self._counts = devices, counts
        self._connections: dict[int, _Connection] = {}

    def receive(self, record: HciRecord) -> AttOperation | None:
        """The ATT operation that this record completes."""
        packet = record.packet
        kind = packet[0] if packet else None
        if kind == _ACL and len(packet) >= 5:
            return self._acl(record, packet)
        if kind == _EVENT:
            self._event(record.adapter, packet[1:])
        elif packet.startswith(_RESET):
            self._connections = {key: open_ for key, open_ in self._connections.items() if key >> 12 != record.adapter}
        return None

    def _event(self, adapter: int, body: bytes) -> None:
        if len(body) >= 14 and body[0] == _LE_META and body[2] in _LE_CONNECTION_COMPLETE and body[3] == 0:
            address = ":".join(f"{octet:02X}" for octet in reversed(body[8:14]))
            self._open(adapter << 12 | (body[4] | body[5] << 8) & 0x0FFF, address)
        elif len(body) >= 5 and body[0] == _DISCONNECTION_COMPLETE and body[2] == 0:
            self._connections.pop(adapter << 12 | (body[3] | body[4] << 8) & 0x0FFF, None)

    def _open(self, handle: int, device: str) -> _Connection:
        while len(self._connections) >= _MAX_CONNECTIONS:
            self._connections.pop(next(iter(self._connections)))
        self._counts.connections += 1
        sides = {False: L2cap(self._counts), True: L2cap(self._counts)}
        connection = self._connections[handle] = _Connection(device, self._devices.connected(device), sides)
        return connection

    def _acl(self, record: HciRecord, packet: bytes) -> AttOperation | None:
        word, length = packet[1] | packet[2] << 8, packet[3] | packet[4] << 8
        data = packet[5:]
        if len(data) != length:
            self._counts.cut += 1
            return None
        handle, boundary = record.adapter << 12 | word & 0x0FFF, word >> 12 & 0b11
        # A capture that begins in the middle of a connection names its device by the connection handle.
        connection = self._connections.get(handle) or self._open(handle, _unnamed(handle))
        sent = bool(record.sent)
        pdu = connection.l2cap[sent].receive(data, first=boundary != _CONTINUATION)
        if pdu is None:
            return None
        return connection.att.receive(Told(record.number, record.time, connection.device, sent), pdu)


def _unnamed(handle: int) -> str:
    adapter, number = divmod(handle, 1 << 12)
    return f"hci{adapter}-connection-{number:#06x}" if adapter else f"connection-{number:#06x}"


def directed(records: Iterable[Record]) -> Iterator[Record]:
    """The records, with who sent them where the file does not say: on LE-U the host begins a PDU with 00 and the
    controller with 10 (Vol 4 Part E 5.4.2), and a continuation belongs to the one whose PDU is not complete.
    """
    sides: dict[int, dict[bool, L2cap]] = {}
    for record in records:
        packet = record.packet if isinstance(record, HciRecord) else b""
        if not isinstance(record, HciRecord) or record.sent is not None or len(packet) < 5:
            yield record
            continue
        word = packet[1] | packet[2] << 8
        boundary = word >> 12 & 0b11
        handle = record.adapter << 12 | word & 0x0FFF
        if handle not in sides:
            while len(sides) >= _MAX_CONNECTIONS:
                sides.pop(next(iter(sides)))
            sides[handle] = {False: L2cap(Counts()), True: L2cap(Counts())}
        both = sides[handle]
        continues = both[True].waits and not both[False].waits
        sent = continues if boundary == _CONTINUATION else boundary == _FIRST_BY_HOST
        both[sent].receive(packet[5:], first=boundary != _CONTINUATION)
        yield record._replace(sent=sent)
