"""Record Access Control Point 0x2A52 (GATT Specification Supplement), and one fetch of stored records through it."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from device_drivers.base import Channel, RecordAccess, RecordAnswer

REPORT_RECORDS, ABORT = 0x01, 0x03
_NUMBER, _RESPONSE = 0x05, 0x06
_NULL, _FROM = 0x00, 0x03
_OFFSET_FILTER = 0x01
_SUCCESS, _NO_RECORDS = 0x01, 0x06
_CODES = {
    0x02: "the patch does not know the request",
    0x03: "the patch finds the operator invalid",
    0x04: "the patch does not support the operator",
    0x05: "the patch finds the operand invalid",
    0x07: "the patch could not stop",
    0x08: "the patch could not complete the request",
    0x09: "the patch does not support the operand",
    0x0A: "the patch's record server is busy",
}


class RacpResponse(NamedTuple):
    """What a patch answers: a number of records, or a code for a request (1 success, 6 no records)."""

    records: int = 0
    request: int = 0
    code: int = 0


def racp_response(value: bytes) -> RacpResponse | None:
    """`05 00 <count u16>` or `06 00 <request> <code>`; None for any other form."""
    if len(value) == 4 and value[:2] == bytes([_NUMBER, _NULL]):
        return RacpResponse(records=int.from_bytes(value[2:], "little"))
    if len(value) == 4 and value[:2] == bytes([_RESPONSE, _NULL]):
        return RacpResponse(request=value[2], code=value[3])
    return None


@dataclass(frozen=True, slots=True)
class SigRecordAccess:
    """RACP as CGMS and the Glucose Service use it: a filter of one 16-bit number. It never carries a CRC."""

    service: str
    stream: str
    boot_fact: str
    unclear_fact: str
    spacing_fact: str
    records: Channel
    last: Callable[[Mapping[str, int | str], Mapping[str, int | str]], int]
    at: Callable[[Mapping[str, int | str], datetime], int]

    @property
    def control(self) -> Channel:
        return Channel(self.service, "2a52")

    def last_of(self, before: Mapping[str, int | str], after: Mapping[str, int | str]) -> int:
        return self.last(before, after)

    def sequence_at(self, facts: Mapping[str, int | str], moment: datetime) -> int:
        return self.at(facts, moment)

    def report_from(self, sequence: int) -> bytes:
        """`01 03 01 <u16>`: report stored records, greater than or equal. A wrapped sequence is asked for by its low
        16 bits.
        """
        return bytes([REPORT_RECORDS, _FROM, _OFFSET_FILTER]) + (sequence & 0xFFFF).to_bytes(2, "little")

    def abort(self) -> bytes:
        return bytes([ABORT, _NULL])

    def answer(self, value: bytes) -> RecordAnswer | None:
        found = racp_response(value)
        if found is None or found.request not in {REPORT_RECORDS, ABORT}:
            return None
        aborted, code = found.request == ABORT, found.code
        if code in {_SUCCESS, _NO_RECORDS}:
            return RecordAnswer(aborted, done=True, reason="complete" if code == _SUCCESS else "no records")
        return RecordAnswer(aborted, done=False, reason=_CODES.get(code, f"the patch answers code 0x{code:02X}"))


class Ended(NamedTuple):
    """How a fetch ended: everything reported; a page, with more to ask for; or refused, with the reason."""

    how: Literal["complete", "page", "refused"]
    reason: str


class Fetch:
    """One fetch, sans-IO: the request, a page's end, the answer.

    After `page` records the fetch is stopped, so that what is on its way stays bounded; the next one goes on from what
    is durable by then.
    """

    def __init__(self, access: RecordAccess, page: int) -> None:
        self._access, self._page = access, page
        self._stopping = False
        self.notifications = 0

    def start(self, sequence: int) -> bytes:
        """The request."""
        return self._access.report_from(sequence)

    def record(self) -> bytes | None:
        """A notification came; the request to stop when the page is full."""
        self.notifications += 1
        if self.notifications < self._page or self._stopping:
            return None
        self._stopping = True
        return self._access.abort()

    def answer(self, value: bytes) -> Ended | None:
        """An indication came; None while the fetch goes on."""
        found = self._access.answer(value)
        if found is None or (found.aborted and not self._stopping):
            return None  # the late answer to an earlier request to stop
        if self._stopping:
            # The report may have ended, and been answered, before the patch saw the request to stop.
            return Ended("page", found.reason)
        return Ended("complete" if found.done else "refused", found.reason)


class Sweep:
    """Fetch after fetch until nothing is missing, sans-IO: what to ask for next, and when asking again is in vain.

    Each fetch begins at the first record that is missing. Where the patch has no such record, a page would end before
    anything new came, and the next one too: then the following fetch has no page.
    """

    def __init__(self, access: RecordAccess, page: int) -> None:
        self._access, self._page = access, page
        self._wanted, self._hole, self._paged = True, False, False
        self._asked = self._answered = -1
        # The fetch that `next` gave asks what was answered already: best after a moment, the patch may be loading.
        self.again = False

    def next(self, first: int, *, hole: bool) -> Fetch | None:
        """A fetch from `first`; None when the patch has nothing more that is missing here."""
        if not (self._wanted or hole):
            return None
        stuck = self._paged and first == self._asked
        self._asked, self._hole, self.again = first, hole, first == self._answered
        return Fetch(self._access, sys.maxsize if stuck else self._page)

    def ended(self, ended: Ended) -> bool:
        """The fetch ended. True: the same was asked twice and answered whole, so what is missing does not exist."""
        self._wanted, self._paged = ended.how != "complete", ended.how == "page"
        if self._wanted:
            return False
        exhausted = self._hole and self._answered == self._asked
        self._answered = self._asked
        return exhausted
