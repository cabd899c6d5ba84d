"""Link layer of the air (Core 5.4, Vol 6 Part B): connections by access address, and the ATT in their data PDUs.

Dropped, and counted: frames with a wrong CRC, retransmissions (a side repeats a PDU under its sequence number until it
is acknowledged, 4.5.9), and what is encrypted. Another PDU under the number of the last one is no retransmission: the
sniffer missed one in between.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from device_drivers.captures.att import AttTracker, Told
from device_drivers.captures.base import AirRecord, AttOperation, Counts
from device_drivers.captures.devices import MAX_DEVICES, Devices
from device_drivers.captures.l2cap import L2cap

_ADVERTISING = 0x8E89BED6
_CONNECT_IND, _TYPE = 0x05, 0x0F
_CONTINUATION, _START, _CONTROL = 0b01, 0b10, 0b11
_ENC_RSP = 0x04
_START_ENC_REQ, _START_ENC_RSP, _PAUSE_ENC_REQ, _PAUSE_ENC_RSP = 0x05, 0x06, 0x0A, 0x0B
_SN, _NESN = 0x08, 0x04
_LONGEST_INTERVAL = timedelta(seconds=4)
# Within an event the two take turns; the longest PDU and the space behind it take less than this.
_SAME_EVENT = timedelta(milliseconds=3)
_MIC = 4


@dataclass(slots=True)
class _Side:
    l2cap: L2cap
    # Sequence number, LLID and payload
    last: tuple[int, int, bytes] | None = None
    last_at: datetime | None = None
    # Has the other side said since that it got it?
    got: bool = False


@dataclass(slots=True)
class _Link:
    device: str
    att: AttTracker
    sides: dict[bool, _Side]
    encrypted: bool = False
    mic: int | None = None
    last_sent: bool = False
    last_at: datetime | None = None


class AirReader:
    """Memory of the connections of one capture. Hostile octets never raise."""

    def __init__(self, devices: Devices, counts: Counts, *, keep_retransmissions: bool) -> None:
        self._devices, self._counts, self._keep = devices, counts, keep_retransmissions
        self._links: dict[int, _Link] = {}

    def receive(self, record: AirRecord) -> AttOperation | None:
        """The ATT operation that this record completes."""
        link = self._links.get(record.access_address)
        if record.crc_ok is False:
            self._counts.bad_crc += 1
            if link is not None:
                self._direction(link, record)  # it took its turn
            return None
        pdu = record.pdu
        if len(pdu) < 2 or len(pdu) < 2 + pdu[1]:
            return None
        if record.access_address == _ADVERTISING:
            self._advertising(pdu)
            return None
        if link is None:
            link = self._open(record.access_address, f"access-{record.access_address:08x}")
        sent = self._direction(link, record)
        other = link.sides[not sent]
        other.got = other.got or (other.last is not None and bool(pdu[0] & _NESN) != bool(other.last[0]))
        if self._repeated(link.sides[sent], pdu, record.time):
            self._counts.repeated += 1
            if not self._keep:
                return None
        return self._data(record, link, sent, pdu)

    def _advertising(self, pdu: bytes) -> None:
        if pdu[0] & _TYPE == _CONNECT_IND and pdu[1] >= 34:
            device = ":".join(f"{octet:02X}" for octet in reversed(pdu[8:14]))
            self._open(int.from_bytes(pdu[14:18], "little"), device)

    def _open(self, access_address: int, device: str) -> _Link:
        while len(self._links) >= MAX_DEVICES:
            self._links.pop(next(iter(self._links)))
        self._counts.connections += 1
        sides = {sent: _Side(L2cap(self._counts)) for sent in (False, True)}
        link = self._links[access_address] = _Link(device, self._devices.connected(device), sides)
        return link

    @staticmethod
    def _direction(link: _Link, record: AirRecord) -> bool:
        """The central begins every event; then they take turns."""
        follows = link.last_at is not None and timedelta() <= record.time - link.last_at < _SAME_EVENT
        sent = record.sent if record.sent is not None else not (follows and link.last_sent)
        link.last_sent, link.last_at = sent, record.time
        return sent

    def _repeated(self, side: _Side, pdu: bytes, time: datetime) -> bool:
        last, now = side.last, (pdu[0] & _SN, pdu[0] & 0b11, pdu[2 : 2 + pdu[1]])
        # A side that was not told so repeats itself at the next event, 4 s later at most.
        late = side.got and side.last_at is not None and time - side.last_at > _LONGEST_INTERVAL
        side.last, side.last_at, side.got = now, time, False
        if last is not None and last[0] == now[0] and (last != now or late):
            self._counts.lost += 1
            side.l2cap.forget()
        return last == now and not late

    def _data(self, record: AirRecord, link: _Link, sent: bool, pdu: bytes) -> AttOperation | None:
        kind, payload = pdu[0] & 0b11, pdu[2 : 2 + pdu[1]]
        if payload and (record.unreadable or (link.encrypted and not record.decrypted)):
            # Between the answer to the request for encryption and its start one PDU is still in clear.
            self._counts.encrypted += payload != bytes([_START_ENC_REQ]) or record.unreadable
            return None
        if record.decrypted and payload:
            payload = _without_mic(link, kind, payload)
        if kind == _CONTROL:
            if payload[:1] in {bytes([_ENC_RSP]), bytes([_START_ENC_REQ])}:
                link.encrypted = True
            elif payload[:1] in {bytes([_PAUSE_ENC_REQ]), bytes([_PAUSE_ENC_RSP])}:
                link.encrypted = False
            return None
        if not payload or kind not in {_START, _CONTINUATION}:
            return None
        complete = link.sides[sent].l2cap.receive(payload, first=kind == _START)
        if complete is None:
            return None
        return link.att.receive(Told(record.number, record.time, link.device, sent), complete)


def _without_mic(link: _Link, kind: int, payload: bytes) -> bytes:
    """Some sniffers leave the message integrity check behind what they decrypted, others do not, and no flag says
    which. What has a length of its own tells: the answer that starts encryption, and an L2CAP PDU of one piece that is
    longer than it says. One that is as long as it says may be a fragment that lacks as much as the check takes.
    """
    over = None
    if kind == _CONTROL and payload[0] == _START_ENC_RSP:
        over = len(payload) - 1
    elif kind == _START and len(payload) >= 2:
        over = len(payload) - 4 - int.from_bytes(payload[:2], "little")
    if link.mic is None and (over == _MIC or (over == 0 and kind == _CONTROL)):
        link.mic = over
    return payload[: len(payload) - (link.mic or 0)]
