"""Continuous Glucose Monitoring 0x181F: measurements to `sensor_reading`, features and session to facts."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from device_drivers import cgm_values as cgm
from device_drivers.base import Channel, Decoded, DecodeError, DeviceContext, Frame, Observation, Refused
from schemas.event_types import EventType

SERVICE = "181f"
MEASUREMENT, FEATURE, SESSION_START = (Channel(SERVICE, uuid) for uuid in ("2aa7", "2aa8", "2aaa"))
CHANNELS = frozenset({MEASUREMENT, FEATURE, SESSION_START})
STREAM = "cgm"

# Quality in percent to the contract's words (docs/profiles.md)
_HIGH, _MEDIUM = 70, 40
_STATUS_SESSION_STOPPED = 0x01
_LEAST_SESSION = 60
_CLOCK_TOLERANCE = timedelta(minutes=5)
_STATUS_NO_TRUST = 0x04 | 0x08 | 0x20  # sensor type incorrect, sensor malfunction, general device fault
_STATUS_ALERT = 0x10
_CALIBRATION_NEEDED = 0x04 | 0x08 | 0x40  # recommended, required, in process
_WARNING_ALERTS = 0x3F  # patient low and high, hypo, hyper, rates of decrease and increase
_WARNING_OUT_OF_RANGE = 0xC0  # the result is below or above what the device can process


class ContinuousGlucoseDecoder:
    """Facts it keeps: `cgm_feature`, `cgm_boot` (Session Start Time as first read), `cgm_start` (UTC), `cgm_stopped`,
    and `cgm_last`, the highest time offset of the session in minutes.
    """

    def __init__(self, device: DeviceContext) -> None:
        self._device = device
        self._facts: dict[str, int | str] = dict(device.facts)

    def receive(self, frame: Frame) -> Decoded:
        decoded = Decoded()
        try:
            if frame.channel == FEATURE:
                decoded.facts["cgm_feature"] = cgm.feature(frame.payload, self._device.quirks).bits
            elif frame.channel == SESSION_START:
                self._session_start(frame, decoded)
            else:
                self._measurements(frame, decoded)
        except cgm.LayoutError as error:
            raise DecodeError(str(error)) from None
        except OverflowError:
            raise DecodeError("its time lies outside the calendar") from None
        self._facts.update(decoded.facts)
        return decoded

    def _session_start(self, frame: Frame, decoded: Decoded) -> None:
        """Keep the first value of a session: a later write by another collector must not re-key its events."""
        boot, start = cgm.session_start(frame.payload, self._device.quirks)
        known = self._facts.get("cgm_boot")
        if boot == known:
            return
        if known is None or self._facts.get("cgm_stopped") or self._is_next(boot, start, frame.received_at):
            decoded.facts |= {"cgm_boot": boot, "cgm_start": start.isoformat() if start else ""}
            decoded.facts |= {"cgm_stopped": 0, "cgm_last": 0}

    def _is_next(self, boot: int, start: datetime | None, received_at: datetime) -> bool:
        """Can this be the start of a next session, whose predecessor's stop nobody saw?

        It begins after the last record of the one before (an hour at least: a collector's clock may be wrong), and not
        in the future.
        """
        elapsed = timedelta(minutes=max(int(self._facts.get("cgm_last", 0)), _LEAST_SESSION))
        begins_later = _clock(boot) >= _clock(int(self._facts["cgm_boot"])) + elapsed
        return begins_later and (start is None or start <= received_at + _CLOCK_TOLERANCE)

    def _measurements(self, frame: Frame, decoded: Decoded) -> None:
        records, rest = cgm.split_records(frame.payload)
        if not records:
            raise DecodeError("not a CGM measurement: its first octet is no possible record size")
        if rest:
            decoded.refused.append(Refused(rest, f"no possible record size after {len(records)} records"))
        feature = self._facts.get("cgm_feature")
        crc_expected = None if feature is None else bool(int(feature) & 1 << 12)
        for record in records:
            found = cgm.measurement(record, crc_expected=crc_expected, quirks=self._device.quirks)
            if isinstance(found, Refused):
                decoded.refused.append(found)
            else:
                self._reading(found, frame.received_at, decoded)

    def _reading(self, found: cgm.Measurement, received_at: datetime, decoded: Decoded) -> None:
        known = self._facts | decoded.facts
        boot = self._device.boot if self._device.boot is not None else known.get("cgm_boot")
        if boot is None:
            reason = "the session start (0x2AAA) was not read yet, so the record has no boot counter"
            decoded.refused.append(Refused(found.raw, reason))
            return
        if isinstance(found.glucose, str):
            decoded.refused.append(Refused(found.raw, f"the sensor has no result ({found.glucose})"))
            return
        if not known.get("cgm_start"):
            # No zone or no start: the first record of the session, just received, anchors the patch's clock.
            anchor = received_at.astimezone(UTC) - timedelta(minutes=found.offset)
            known["cgm_start"] = decoded.facts["cgm_start"] = anchor.isoformat()
        if found.offset > int(known.get("cgm_last", 0)):
            decoded.facts["cgm_last"] = found.offset
        if (found.annunciation.status or 0) & _STATUS_SESSION_STOPPED:
            decoded.facts["cgm_stopped"] = 1
        moment = datetime.fromisoformat(str(known["cgm_start"])) + timedelta(minutes=found.offset)
        data = _payload(found) | {"device_id": self._device.device_id, "timestamp": moment.isoformat()}
        decoded.observations.append(
            Observation(EventType.SENSOR_READING, STREAM, int(boot), found.offset, moment.isoformat(), data)
        )


def _clock(boot: int) -> datetime:
    """The patch's own clock in the digits of a session start."""
    return datetime.strptime(f"{boot:014}", "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _payload(found: cgm.Measurement) -> dict[str, Any]:
    status, calibration, warning = found.annunciation
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
