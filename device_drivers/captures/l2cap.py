"""L2CAP over ACL or LL fragments (Core 5.4, Vol 3 Part A 3.1): which octets are a connection's ATT PDUs."""

ATT = 0x0004
_HEADER = 4


class L2cap:
    """One direction of one connection. Hostile fragments never raise, and never hold more than one PDU."""

    def __init__(self) -> None:
        self._pending: bytearray | None = None

    @property
    def waits(self) -> bool:
        """Is a PDU begun and not ended?"""
        return self._pending is not None

    def forget(self) -> None:
        """A fragment may be missing."""
        self._pending = None

    def receive(self, fragment: bytes, *, first: bool) -> bytes | None:
        """The ATT PDU that this fragment completes."""
        if first and len(fragment) >= _HEADER and len(fragment) == _HEADER + (fragment[0] | fragment[1] << 8):
            self._pending = None
            return fragment[_HEADER:] if fragment[2] | fragment[3] << 8 == ATT else None
        if first:
            self._pending = bytearray(fragment)
        elif self._pending is None:
            return None
        else:
            self._pending += fragment
        pending = self._pending
        if len(pending) < _HEADER:
            return None
        missing = _HEADER + (pending[0] | pending[1] << 8) - len(pending)
        if missing > 0:
            return None
        self._pending = None
        return bytes(pending[_HEADER:]) if missing == 0 and pending[2] | pending[3] << 8 == ATT else None
