"""L2CAP over ACL or LL fragments (Core 5.4, Vol 3 Part A 3.1): which octets are a connection's ATT PDUs."""

from device_drivers.captures.base import Counts

ATT = 0x0004
_HEADER = 4
# ATT's are of 517 octets at most; longer ones belong to other channels, and are skipped.
_MOST = 2_048
_FIXED, _FIRST_DYNAMIC, _LAST_DYNAMIC = {0x0004, 0x0005, 0x0006}, 0x0040, 0x007F


class L2cap:
    """One direction of one connection. Hostile fragments never raise, and never hold more than 2 KiB.

    Counted are PDUs of dynamic channels, and starts that are none.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._pending: bytearray | None = None
        self._skipped = 0

    @property
    def waits(self) -> bool:
        """Is a PDU begun and not ended?"""
        return self._pending is not None or self._skipped > 0

    def forget(self) -> None:
        """A fragment may be missing."""
        self._pending, self._skipped = None, 0

    def receive(self, fragment: bytes, *, first: bool) -> bytes | None:
        """The ATT PDU that this fragment completes."""
        if first and len(fragment) >= _HEADER and len(fragment) == _HEADER + (fragment[0] | fragment[1] << 8):
            self._pending, self._skipped = None, 0
            return fragment[_HEADER:] if fragment[2] == ATT and not fragment[3] else self._payload(fragment)
        if first:
            self.forget()
            self._pending = bytearray(fragment)
        elif self._skipped:
            self._skipped = max(0, self._skipped - len(fragment))
            return None
        elif self._pending is None:
            return None
        else:
            self._pending += fragment
        return self._complete(self._pending)

    def _complete(self, pending: bytearray) -> bytes | None:
        if len(pending) < _HEADER:
            return None
        length = pending[0] | pending[1] << 8
        missing = _HEADER + length - len(pending)
        if missing <= 0:
            self._pending = None
            return self._payload(bytes(pending) if missing == 0 else b"")
        if length > _MOST:
            self._payload(bytes(pending))
            self._pending, self._skipped = None, missing
        return None

    def _payload(self, pdu: bytes) -> bytes | None:
        """What ATT gets of a PDU; b"" is one whose lengths do not agree."""
        channel = pdu[2] | pdu[3] << 8 if pdu else 0
        if _FIRST_DYNAMIC <= channel <= _LAST_DYNAMIC:
            self._counts.other += 1
        elif channel not in _FIXED:
            self._counts.strange += 1
        return pdu[_HEADER:] if channel == ATT else None
