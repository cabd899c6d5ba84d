"""Continuous Glucose Monitoring 0x181F: measurements to `sensor_reading`, status to `audit_trail`, else facts."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from device_drivers import cgm_status, cgm_values as cgm
from device_drivers.base import (
    Channel,
    Decoded,
    DecodeError,
    DeviceContext,
    Frame,
    GattPlan,
    Observation,
    Place,
    Refused,
    Write,
)
from device_drivers.record_access import ABORT, REPORT_RECORDS, SigRecordAccess, racp_response
from schemas.event_types import EventType

SERVICE = "181f"
MEASUREMENT, FEATURE, STATUS, SESSION_START, RUN_TIME, RACP, SOCP = (
    Channel(SERVICE, uuid) for uuid in ("2aa7", "2aa8", "2aa9", "2aaa", "2aab", "2a52", "2aac")
)
CHANNELS = frozenset({MEASUREMENT, FEATURE, STATUS, SESSION_START, RUN_TIME, RACP, SOCP})
STREAM = "cgm"
GATT = GattPlan(
    SERVICE,
    authenticated=True,
    # Feature first: it says whether everything else carries a CRC.
    reads=(FEATURE, SESSION_START, RUN_TIME, STATUS),
    subscriptions=(SOCP, RACP, MEASUREMENT),
    records=SigRecordAccess(SERVICE, STREAM, "cgm_boot", "cgm_spacing", MEASUREMENT),
    # Deleting is no opcode of ours: other collectors rely on the records. Of the SOCP only a question is.
    writes={RACP: frozenset({REPORT_RECORDS, ABORT}), SOCP: frozenset({cgm.GET_INTERVAL})},
)

# Quality in percent to the contract's words (docs/profiles.md)
_HIGH, _MEDIUM = 70, 40
_LEAST_SESSION = 60
_CLOCK_TOLERANCE = timedelta(minutes=5)
_WRAP, _HALF = 1 << 16, 1 << 15
_STATUS_NO_TRUST = 0x04 | 0x08 | 0x20  # sensor type incorrect, sensor malfunction, general device fault
_STATUS_ALERT = 0x10
_CALIBRATION_NEEDED = 0x04 | 0x08 | 0x40  # recommended, required, in process
_WARNING_ALERTS = 0x3F  # patient low and high, hypo, hyper, rates of decrease and increase
_WARNING_OUT_OF_RANGE = 0xC0  # the result is below or above what the device can process


class ContinuousGlucoseDecoder:
    """Facts it keeps: `cgm_feature`, `cgm_boot` (Session Start Time as first read), `cgm_start` (UTC), `cgm_stopped`,
    `cgm_last` (highest sequence of the session), `cgm_spacing` (least distance of stored records, minutes),
    `cgm_interval` (minutes between notifications, as the patch says), `cgm_run_time` (hours), `cgm_status` (bits).
    """

    def __init__(self, device: DeviceContext) -> None:
        self._device = device
        self._facts: dict[str, int | str] = dict(device.facts)
        self._fetched: int | None = None

    def receive(self, frame: Frame) -> Decoded:
        decoded = Decoded()
        try:
            self._receive(frame, decoded)
        except cgm.LayoutError as error:
            raise DecodeError(str(error)) from None
        except OverflowError:
            raise DecodeError("its time lies outside the calendar") from None
        self._facts.update(decoded.facts)
        return decoded

    def _receive(self, frame: Frame, decoded: Decoded) -> None:
        quirks = self._device.quirks
        if frame.channel == MEASUREMENT:
            self._measurements(frame, decoded)
        elif frame.channel == FEATURE:
            self._feature(frame, decoded)
        elif frame.channel == SESSION_START:
            self._session_start(frame, decoded)
        elif frame.channel == RUN_TIME:
            decoded.facts["cgm_run_time"] = cgm.run_time(frame.payload, quirks)
        elif frame.channel == STATUS:
            offset, annunciation = cgm.status(frame.payload, quirks)
            self._status(self._sequence(offset, frame.received_at), annunciation, decoded)
        elif frame.channel == SOCP:
            self._settings(frame, decoded)
        elif racp_response(frame.payload) is None:
            raise DecodeError("not a response of the record access control point")

    def _feature(self, frame: Frame, decoded: Decoded) -> None:
        found = cgm.feature(frame.payload, self._device.quirks)
        decoded.facts["cgm_feature"] = found.bits
        if "cgm_interval" not in self._facts:
            request = cgm.socp_request(cgm.GET_INTERVAL, with_crc=found.e2e_crc, quirks=self._device.quirks)
            decoded.writes.append(Write(SOCP, request))

    def _settings(self, frame: Frame, decoded: Decoded) -> None:
        """T10: the interval has one octet in the service's text and two in the supplement's."""
        crc_expected = bool(self._crc_expected())
        opcode, operand = cgm.socp_response(frame.payload, crc_expected=crc_expected, quirks=self._device.quirks)
        if opcode == cgm.INTERVAL and len(operand) in {1, 2}:
            decoded.facts["cgm_interval"] = int.from_bytes(operand, "little")

    def _session_start(self, frame: Frame, decoded: Decoded) -> None:
        """Keep the first value of a session: a later write by another collector must not re-key its events."""
        boot, start = cgm.session_start(frame.payload, self._device.quirks)
        known = self._facts.get("cgm_boot")
        if boot == known:
            return
        if known is None or self._facts.get("cgm_stopped") or self._is_next(boot, start, frame.received_at):
            decoded.facts |= {"cgm_boot": boot, "cgm_start": start.isoformat() if start else ""}
            decoded.facts |= {"cgm_stopped": 0, "cgm_last": 0, "cgm_spacing": 0, "cgm_status": 0}
            self._fetched = None

    def _is_next(self, boot: int, start: datetime | None, received_at: datetime) -> bool:
        """Can this be the start of a next session, whose predecessor's stop nobody saw?

        It begins after the last record of the one before (an hour at least: a collector's clock may be wrong), and not
        in the future.
        """
        elapsed = timedelta(minutes=max(int(self._facts.get("cgm_last", 0)), _LEAST_SESSION))
        begins_later = _clock(boot) >= _clock(int(self._facts["cgm_boot"])) + elapsed
        return begins_later and (start is None or start <= received_at + _CLOCK_TOLERANCE)

    def _crc_expected(self) -> bool | None:
        feature = self._facts.get("cgm_feature")
        return None if feature is None else bool(int(feature) & 1 << 12)

    def _measurements(self, frame: Frame, decoded: Decoded) -> None:
        records, rest = cgm.split_records(frame.payload)
        if not records:
            raise DecodeError("not a CGM measurement: its first octet is no possible record size")
        if rest:
            self._fetched = None
            decoded.refused.append(Refused(rest, f"no possible record size after {len(records)} records"))
        for record in records:
            found = cgm.measurement(record, crc_expected=self._crc_expected(), quirks=self._device.quirks)
            if isinstance(found, Refused):
                decoded.refused.append(found)
                self._fetched = None  # the distance across it is not that of neighbours
            else:
                self._reading(found, frame, decoded)

    def _reading(self, found: cgm.Measurement, frame: Frame, decoded: Decoded) -> None:
        known = self._facts | decoded.facts
        boot = self._boot(known)
        if boot is None:
            reason = "the session start (0x2AAA) was not read yet, so the record has no boot counter"
            decoded.refused.append(Refused(found.raw, reason))
            return
        sequence = self._sequence(found.offset, frame.received_at)
        if frame.live and sequence < int(known.get("cgm_last", 0)):
            # Another session, or records out of order: the session start tells, and then the record is fetched again.
            reason = "its time offset goes back: the session start is read again and the record fetched"
            decoded.refused.append(Refused(found.raw, reason))
            decoded.reads.append(SESSION_START)
            return
        if not known.get("cgm_start"):
            # No zone or no start: the first record of the session, just received, anchors the patch's clock.
            anchor = frame.received_at.astimezone(UTC) - timedelta(minutes=sequence)
            decoded.facts["cgm_start"] = anchor.isoformat()
        self._place(sequence, frame.live, decoded)
        self._status(sequence, found.annunciation, decoded)
        step = max(1, int((self._facts | decoded.facts).get("cgm_spacing", 0)))
        place = Place(STREAM, boot, sequence, step)
        if isinstance(found.glucose, str):
            decoded.refused.append(Refused(found.raw, f"the sensor has no result ({found.glucose})", place))
            return
        moment = self._moment(sequence, decoded)
        data = _payload(found) | {"device_id": self._device.device_id, "timestamp": moment}
        decoded.observations.append(Observation(EventType.SENSOR_READING, place, moment, data))

    def _boot(self, known: dict[str, int | str]) -> int | None:
        if self._device.boot is not None:
            return self._device.boot
        boot = known.get("cgm_boot")
        return None if boot is None else int(boot)

    def _sequence(self, offset: int, received_at: datetime) -> int:
        """T12: the offset has 16 bits and wraps after 45.5 days. It is counted on when it goes back by more than half
        and the session is that old by the clock; until the clock says so it stays an old record.
        """
        last = int(self._facts.get("cgm_last", 0))
        turns = last // _WRAP
        if last % _WRAP - offset > _HALF and self._old_enough((turns + 1) * _WRAP + offset, received_at):
            return (turns + 1) * _WRAP + offset
        if turns and offset - last % _WRAP > _HALF:
            turns -= 1
        return turns * _WRAP + offset

    def _old_enough(self, sequence: int, received_at: datetime) -> bool:
        start = self._facts.get("cgm_start")
        age = received_at - datetime.fromisoformat(str(start)) if start else timedelta()
        return age + timedelta(hours=1) >= timedelta(minutes=sequence)

    def _place(self, sequence: int, live: bool | None, decoded: Decoded) -> None:
        """Note how far the session is, and how close stored records are to each other: only fetched ones show that."""
        known = self._facts | decoded.facts
        if sequence > int(known.get("cgm_last", 0)):
            decoded.facts["cgm_last"] = sequence
        if live:
            return
        before, self._fetched = self._fetched, sequence
        distance = abs(sequence - before) if before is not None else 0
        spacing = int(known.get("cgm_spacing", 0))
        if distance and (not spacing or distance < spacing):
            decoded.facts["cgm_spacing"] = distance

    def _moment(self, sequence: int, decoded: Decoded) -> str:
        start = str((self._facts | decoded.facts)["cgm_start"])
        return (datetime.fromisoformat(start) + timedelta(minutes=sequence)).isoformat()

    def _status(self, sequence: int, annunciation: cgm.Annunciation, decoded: Decoded) -> None:
        """What the patch says of itself, where it differs from what it said before."""
        known = self._facts | decoded.facts
        boot, before, now = self._boot(known), int(known.get("cgm_status", 0)), cgm_status.bits_of(annunciation)
        if boot is None or not known.get("cgm_start") or before == now:
            return
        decoded.facts["cgm_status"] = now
        if now & cgm_status.SESSION_STOPPED:
            decoded.facts["cgm_stopped"] = 1
        moment = self._moment(sequence, decoded)
        for bit, is_set in cgm_status.changes(before, now):
            data = {
                "kind": "device_status",
                "device_id": self._device.device_id,
                "timestamp": moment,
                "code": bit.code,
                "severity": bit.severity if is_set else "info",
            }
            ended = {} if is_set else {"detail": "ended"}
            place = Place(f"{STREAM}_{bit.code}", boot, sequence)
            decoded.observations.append(Observation(EventType.AUDIT_TRAIL, place, moment, data | ended))


def _clock(boot: int) -> datetime:
    """The patch's own clock in the digits of a session start."""
    return datetime.strptime(f"{boot:014}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _payload(found: cgm.Measurement) -> dict[str, Any]:
    status, calibration, warning = found.annunciation
    assert isinstance(found.glucose, Decimal)
    data: dict[str, Any] = {
        "sensor_type": "glucose",
        "reading_value": float(found.glucose),
        "unit_of_measurement": "mg/dL",
        # CGMS: an octet is attached only when one of its bits is 1, so none means nothing is needed
        "calibration_status": "needs_calibration" if (calibration or 0) & _CALIBRATION_NEEDED else "calibrated",
    }
    if (status or 0) & _STATUS_NO_TRUST or (warning or 0) & _WARNING_OUT_OF_RANGE:
        data["reading_quality"] = "error"
    elif isinstance(found.quality, Decimal):
        data["reading_quality"] = "high" if found.quality >= _HIGH else "medium" if found.quality >= _MEDIUM else "low"
    if warning is not None or (status is not None and status & _STATUS_ALERT):
        data["alert_triggered"] = bool((warning or 0) & _WARNING_ALERTS or (status or 0) & _STATUS_ALERT)
    return data


def decoder(device: DeviceContext) -> ContinuousGlucoseDecoder:
    """A decoder for one CGM."""
    return ContinuousGlucoseDecoder(device)
