"""HCI and L2CAP (Core 5.4, Vol 4 Part E 5.4, Vol 3 Part A 3.1): which bytes are which connection's ATT."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from device_drivers.captures.att import AttTracker
from device_drivers.captures.base import AttOperation, HciRecord

_ACL, _EVENT = 0x02, 0x04
_DISCONNECTION_COMPLETE, _LE_META = 0x05, 0x3E
_LE_CONNECTION_COMPLETE = {0x01, 0x0A, 0x29}  # plain, enhanced, enhanced v2: same layout up to the address
_ATT_CID = 0x0004
_CONTINUATION = 0b01
# A handful of captures never close connections; a peer address is known for the newest ones only.
_MAX_CONNECTIONS = 256


@dataclass(slots=True)
class _Connection:
    device: str
    att: AttTracker
    pending: dict[bool, bytearray] = field(default_factory=dict)


class HciReader:
    """Memory of the connections of one capture. Hostile octets never raise: what is no complete PDU yields nothing."""

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}
        self._known: dict[str, AttTracker] = {}

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
        """A reconnecting device keeps the attributes it was discovered with."""
        while len(self._known) >= _MAX_CONNECTIONS:
            self._known.pop(next(iter(self._known)))
        attributes = self._known.setdefault(device, AttTracker())
        attributes.reset_requests()
        connection = self._connections[handle] = _Connection(device, attributes)
        return connection

    def _acl(self, record: HciRecord, body: bytes) -> Iterator[AttOperation]:
        word, length = body[0] | body[1] << 8, body[2] | body[3] << 8
        data = body[4:]
        if len(data) != length:
            return
        handle = word & 0x0FFF
        # A capture that begins in the middle of a connection names its device by the connection handle.
        connection = self._connections.get(handle) or self._open(handle, f"connection-{handle:#06x}")
        if word >> 12 & 0b11 == _CONTINUATION:
            pending = connection.pending.get(record.sent)
            if pending is None:
                return
            pending += data
        else:
            pending = connection.pending[record.sent] = bytearray(data)
        if len(pending) < 4:
            return
        missing = 4 + (pending[0] | pending[1] << 8) - len(pending)
        if missing > 0:
            return
        del connection.pending[record.sent]
        if missing == 0 and pending[2] | pending[3] << 8 == _ATT_CID:
            yield from connection.att.receive(record, connection.device, bytes(pending[4:]))
