"""An emulated glucose patch, sans-IO: the server side of the CGM Service and of the small shared ones."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from device_drivers.emulated import cgm

RACP, MEASUREMENT = "2a52", "2aa7"
_REPORT, _ABORT, _NUMBER = 0x01, 0x03, 0x04
_NULL, _ALL, _FROM = 0x00, 0x01, 0x03
_SUCCESS, _UNSUPPORTED, _BAD_OPERATOR, _BAD_OPERAND, _NO_RECORDS = 0x01, 0x02, 0x03, 0x05, 0x06


class Sent(NamedTuple):
    """One value to send: on which characteristic, and whether it is a stored record."""

    characteristic: str
    value: bytes
    offset: int | None = None


class CgmSensor:
    """Records by time offset in minutes; values are a function of the offset, so that a test knows them."""

    def __init__(self, start: datetime, *, interval: int = 1, model: str = "Emulated CGM", battery: int = 90) -> None:
        self.start, self.interval, self.model, self.battery = start, interval, model, battery
        self.records: dict[int, cgm.Record] = {}
        self.status = self.calibration = 0
        self._aborted = False

    def measure(self, offset: int) -> bytes:
        """Make and store the record of one minute; what a notification carries."""
        record = cgm.Record(
            80 + offset % 120, offset, trend=offset % 7, quality=60 + offset % 40, status=self.status,
            calibration=self.calibration,
        )  # fmt: skip
        self.records[offset] = record
        return cgm.measurement(record)

    def measure_until(self, offset: int) -> None:
        """Every record up to an offset that is not there yet, as while nobody was connected."""
        first = max(self.records, default=-self.interval) + self.interval
        for each in range(first, offset + 1, self.interval):
            self.measure(each)

    def new_session(self, start: datetime) -> None:
        """Another session: the records of the one before are gone (CGMS, Start Session)."""
        self.start, self.records, self.status = start, {}, 0

    def read(self, characteristic: str) -> bytes:
        """The value of a characteristic that can be read; KeyError for any other."""
        last = max(self.records, default=0)
        octets = bytes([self.status, self.calibration, 0])
        return {
            "2aa8": cgm.feature(),
            "2aaa": cgm.session_start(self.start),
            "2aab": cgm.with_crc((360).to_bytes(2, "little")),
            "2aa9": cgm.with_crc(last.to_bytes(2, "little") + octets),
            "2a19": bytes([self.battery]),
            "2a24": self.model.encode(),
            "2a26": b"1.4.2",
            "2a29": b"Emulated\0",
            "2bff": b"\x03label\x00(01)00000000000017\x00",
        }[characteristic]

    def settings(self, request: bytes) -> bytes:
        """The answer to a write to the Specific Ops Control Point; only the interval can be asked for."""
        if request[:1] == b"\x02":
            return cgm.with_crc(bytes([0x03, self.interval]))
        return cgm.with_crc(bytes([0x1C, request[0] if request else 0, _UNSUPPORTED]))

    def control(self, request: bytes) -> Iterator[Sent]:
        """What a write to the Record Access Control Point sets off, the answer last."""
        if request[:1] == bytes([_ABORT]):
            self._aborted = True
            yield _answer(_ABORT, _SUCCESS)
            return
        if request[:1] not in {bytes([_REPORT]), bytes([_NUMBER])}:
            yield _answer(request[0] if request else 0, _UNSUPPORTED)
            return
        chosen = self._chosen(request)
        if isinstance(chosen, int):
            yield _answer(request[0], chosen)
        elif request[0] == _NUMBER:
            yield Sent(RACP, bytes([0x05, _NULL]) + len(chosen).to_bytes(2, "little"))
        else:
            yield from self._report(chosen)

    def _chosen(self, request: bytes) -> list[cgm.Record] | int:
        """The records a request is about, oldest first, or the code of its error."""
        in_order = [self.records[offset] for offset in sorted(self.records)]
        if request[1:2] == bytes([_ALL]) and len(request) == 2:
            return in_order
        if request[1:2] != bytes([_FROM]):
            return _BAD_OPERATOR
        if len(request) != 5 or request[2] != 0x01:
            return _BAD_OPERAND
        first = int.from_bytes(request[3:], "little")
        return [record for record in in_order if record.offset >= first]

    def _report(self, records: list[cgm.Record]) -> Iterator[Sent]:
        self._aborted = False
        for record in records:
            yield Sent(MEASUREMENT, cgm.measurement(record), record.offset)
            if self._aborted:
                return  # the answer to the request to stop was sent with it
        yield _answer(_REPORT, _SUCCESS if records else _NO_RECORDS)


def _answer(request: int, code: int) -> Sent:
    return Sent(RACP, bytes([0x06, _NULL, request, code]))
