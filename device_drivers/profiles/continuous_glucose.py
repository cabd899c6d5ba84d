"""Continuous Glucose Monitoring 0x181F: measurements to `sensor_reading`, status to `audit_trail`, else facts."""

from decimal import Decimal
from typing import Any

from device_drivers import cgm_session, cgm_values as cgm
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
from device_drivers.cgm_session import CgmSession, Facts, Start, last_of_session, sequence_at
from device_drivers.cgm_status import StatusHistory, bits_of
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
    records=SigRecordAccess(
        SERVICE, STREAM, "cgm_boot", "cgm_unclear", "cgm_spacing", MEASUREMENT, last_of_session, sequence_at
    ),
    # Deleting is no opcode of ours: other collectors rely on the records. Of the SOCP only a question is.
    writes={RACP: frozenset({REPORT_RECORDS, ABORT}), SOCP: frozenset({cgm.GET_INTERVAL})},
)

# Quality in percent to the contract's words (docs/profiles.md)
_HIGH, _MEDIUM = 70, 40
_DAMAGED_KEPT = 64
# Minutes within which two records are taken for neighbours while the patch's interval is not known
_NEIGHBOURS = 15
_STATUS_NO_TRUST = 0x04 | 0x08 | 0x20  # sensor type incorrect, sensor malfunction, general device fault
_STATUS_ALERT = 0x10
_CALIBRATION_NEEDED = 0x04 | 0x08 | 0x40  # recommended, required, in process
_WARNING_ALERTS = 0x3F  # patient low and high, hypo, hyper, rates of decrease and increase
_WARNING_OUT_OF_RANGE = 0xC0  # the result is below or above what the device can process


class ContinuousGlucoseDecoder:
    """Facts it keeps beside those of CgmSession: `cgm_feature`, `cgm_history` (of its status), `cgm_spacing` (least
    distance of stored records, minutes), `cgm_interval` (minutes between notifications, as the patch says),
    `cgm_run_time` (hours).
    """

    def __init__(self, device: DeviceContext) -> None:
        self._device = device
        self._session = CgmSession(device.facts, device.boot)
        self._facts = self._session.known
        self._history = StatusHistory(str(self._facts.get("cgm_history", "")))
        self._fetched: int | None = None
        self._live: int | None = None
        self._damaged: set[bytes] = set()

    def receive(self, frame: Frame) -> Decoded:
        decoded = Decoded()
        try:
            self._receive(frame, decoded)
        except cgm.LayoutError as error:
            raise DecodeError(str(error)) from None
        except OverflowError:
            raise DecodeError("its time lies outside the calendar") from None
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
            self._learn({"cgm_run_time": cgm.run_time(frame.payload, quirks)}, decoded)
        elif frame.channel == STATUS:
            self._status(frame, decoded)
        elif frame.channel == SOCP:
            self._settings(frame, decoded)
        elif racp_response(frame.payload) is None:
            raise DecodeError("not a response of the record access control point")

    def _learn(self, facts: Facts, decoded: Decoded) -> None:
        """Note what changed. With another session everything that belonged to the one before starts afresh."""
        if "cgm_boot" in facts:
            facts |= {"cgm_spacing": 0, "cgm_history": ""}
            self._fetched, self._live, self._history = None, None, StatusHistory()
        self._facts.update(facts)
        decoded.facts |= facts

    def _feature(self, frame: Frame, decoded: Decoded) -> None:
        found = cgm.feature(frame.payload, self._device.quirks)
        self._learn({"cgm_feature": found.bits}, decoded)
        request = cgm.socp_request(cgm.GET_INTERVAL, with_crc=found.e2e_crc, quirks=self._device.quirks)
        decoded.writes.append(Write(SOCP, request))

    def _settings(self, frame: Frame, decoded: Decoded) -> None:
        """T10: the interval has one octet in the service's text and two in the supplement's."""
        crc_expected = bool(self._crc_expected())
        opcode, operand = cgm.socp_response(frame.payload, crc_expected=crc_expected, quirks=self._device.quirks)
        if opcode == cgm.INTERVAL and len(operand) in {1, 2}:
            self._learn({"cgm_interval": int.from_bytes(operand, "little")}, decoded)

    def _session_start(self, frame: Frame, decoded: Decoded) -> None:
        try:
            found = Start(*cgm.session_start(frame.payload, self._device.quirks))
        except cgm.LayoutError as error:
            self._learn(self._session.unreadable(), decoded)
            decoded.refused.append(Refused(frame.payload, f"cannot be decoded: {error}"))
            return
        self._learn(self._session.started(found, frame.received_at), decoded)

    def _status(self, frame: Frame, decoded: Decoded) -> None:
        offset, annunciation = cgm.status(frame.payload, self._device.quirks)
        self._learn(self._session.at(offset, frame.received_at), decoded)
        sequence = self._session.sequence(offset, frame.received_at)
        if sequence is not None:
            self._changes(sequence, annunciation, decoded)

    def _crc_expected(self) -> bool | None:
        feature = self._facts.get("cgm_feature")
        return None if feature is None else bool(int(feature) & 1 << 12)

    def _measurements(self, frame: Frame, decoded: Decoded) -> None:
        records, rest = cgm.split_records(frame.payload)
        if not records:
            raise DecodeError("not a CGM measurement: its first octet is no possible record size")
        for record in records:
            found = cgm.measurement(record, crc_expected=self._crc_expected(), quirks=self._device.quirks)
            if isinstance(found, Refused):
                self._damage(found, decoded)
            else:
                self._reading(found, frame, decoded)
        if rest:
            self._damage(Refused(rest, f"no possible record size after {len(records)} records"), decoded)

    def _damage(self, piece: Refused, decoded: Decoded) -> None:
        """Ask for a look at what is missing, once: what is damaged in the patch's own memory stays so."""
        decoded.refused.append(piece)
        self._fetched = self._live = None  # the distance across it is not that of neighbours
        if piece.payload not in self._damaged and len(self._damaged) < _DAMAGED_KEPT:
            self._damaged.add(piece.payload)
            decoded.reads.append(STATUS)

    def _reading(self, found: cgm.Measurement, frame: Frame, decoded: Decoded) -> None:
        sequence = self._sequence(found, frame, decoded)
        boot = self._session.boot
        if sequence is None or boot is None:
            return
        self._learn(self._session.seen(sequence), decoded)
        self._space(sequence, frame.live, decoded)
        self._changes(sequence, found.annunciation, decoded)
        place = Place(STREAM, boot, sequence)
        if isinstance(found.glucose, str):
            decoded.refused.append(Refused(found.raw, f"the sensor has no result ({found.glucose})", place))
            return
        moment = self._session.moment(sequence)
        data = _payload(found) | {"device_id": self._device.device_id, "timestamp": moment}
        decoded.observations.append(Observation(EventType.SENSOR_READING, place, moment, data))

    def _sequence(self, found: cgm.Measurement, frame: Frame, decoded: Decoded) -> int | None:
        """The record's number in its session; None after a refusal without a place, so that it is fetched again."""
        session, at = self._session, frame.received_at
        if frame.live is None:
            self._learn(session.anywhere(found.offset, at), decoded)
        elif frame.live and session.unclear:
            self._learn(session.at(found.offset, at), decoded)
        if session.boot is None:
            reason = "the session start (0x2AAA) was not read yet, so the record has no boot counter"
            self._doubt(found, cgm_session.shown(self._facts) if session.unclear else reason, frame, decoded)
            return None
        sequence = session.sequence(found.offset, at)
        if sequence is None:
            self._doubt(found, "its time offset lies beyond the age of its session", frame, decoded)
            return None
        if frame.live:
            if doubt := session.doubt(sequence, at):
                reason = f"its time offset {doubt}: the session start is read again and the record fetched"
                self._doubt(found, reason, frame, decoded)
                return None
            self._learn(session.at(found.offset, at), decoded)
        if not self._facts.get("cgm_start"):
            if frame.live is False:
                self._doubt(found, "it was stored, and nothing tells yet when its session began", frame, decoded)
                return None
            self._learn(session.anchor(sequence, at), decoded)
        return sequence

    @staticmethod
    def _doubt(found: cgm.Measurement, reason: str, frame: Frame, decoded: Decoded) -> None:
        decoded.refused.append(Refused(found.raw, reason))
        if frame.live:
            decoded.reads += [SESSION_START, STATUS]

    def _space(self, sequence: int, live: bool | None, decoded: Decoded) -> None:
        """How close stored records are to each other: fetched ones show that; live ones only that it is not more."""
        if live:
            before, self._live = self._live, sequence
        else:
            before, self._fetched = self._fetched, sequence
        distance = abs(sequence - before) if before is not None else 0
        spacing = int(self._facts.get("cgm_spacing", 0))
        if distance and (distance <= spacing or (not spacing and not live)):
            self._learn({"cgm_spacing": distance}, decoded)

    def _changes(self, sequence: int, annunciation: cgm.Annunciation, decoded: Decoded) -> None:
        """What the patch says of itself, where it differs from what it said before."""
        boot = self._session.boot
        if boot is None or not self._facts.get("cgm_start"):
            return
        interval = int(self._facts.get("cgm_interval", 0))
        apart = int(self._facts.get("cgm_spacing", 0)) or (interval if 0 < interval < 255 else _NEIGHBOURS)
        changes = self._history.observe(sequence, bits_of(annunciation), apart)
        facts: Facts = {"cgm_history": self._history.to_text(), "cgm_stopped": self._history.stopped}
        self._learn({name: value for name, value in facts.items() if self._facts.get(name, 0) != value}, decoded)
        for change in changes:
            moment = self._session.moment(change.at)
            data = {
                "kind": "device_status",
                "device_id": self._device.device_id,
                "timestamp": moment,
                "code": change.bit.code,
                "severity": change.bit.severity if change.is_set else "info",
            }
            if not change.is_set:
                data["detail"] = "ended"
            elif change.until is not None:
                data["detail"] = f"ended by minute {change.until} of the session"
            place = Place(f"{STREAM}_{change.bit.code}{'' if change.is_set else '_ended'}", boot, change.at)
            decoded.observations.append(Observation(EventType.AUDIT_TRAIL, place, moment, data))


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
