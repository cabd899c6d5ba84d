"""The plain half of ingest: a frame becomes things to decide on; nothing here touches the buffer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from agent.events import Ready, Unfit, Wearer, make_event, reason_of
from agent.records import accesses
from buffer.devices import DeviceRecord
from buffer.quarantine import Quarantined, entry
from device_drivers.base import (
    Decoded,
    DecodeError,
    Decoder,
    DeviceContext,
    Frame,
    Observation,
    Place,
    Quirks,
    RecordAccess,
    Refused,
)
from device_drivers.device_types import DEVICE_TYPES, quirks_of, with_defaults
from device_drivers.links.base import Asked, Exhausted
from device_drivers.registry import all_profiles
from schemas.base import DateTime, DeviceId, Model
from schemas.event_types import EventType
from schemas.patch_events import AdhesionQuality


class AdhesionReport(Model):
    """What a patch says of its adhesion; it becomes a `patch_application` when it changed."""

    device_id: DeviceId
    adhesion_quality: AdhesionQuality
    timestamp: DateTime


@dataclass(frozen=True, slots=True)
class NewEvent:
    """One valid event of a paired patch, not yet known to be new."""

    device_id: str
    session_id: str
    place: Place
    ready: Ready
    data: Mapping[str, Any]
    type: EventType
    captured: datetime


@dataclass(frozen=True, slots=True)
class NewStatus:
    """What a patch says of itself without a number; an event when it differs from what it said last."""

    device_id: str
    session_id: str
    data: Mapping[str, Any]
    occurred_at: str | None
    captured: datetime


@dataclass(frozen=True, slots=True)
class NewAdhesion:
    """One adhesion report, not yet compared with the last."""

    device_id: str
    session_id: str
    place: Place
    report: AdhesionReport


@dataclass(frozen=True, slots=True)
class NewRefusal:
    """A stored record that was read and makes no event: set aside, and not asked for again."""

    device_id: str
    session_id: str
    place: Place
    item: Quarantined


@dataclass(frozen=True, slots=True)
class NoMore:
    """A patch has no record of those that are missing."""

    device_id: str
    session_id: str
    access: RecordAccess


@dataclass(frozen=True, slots=True)
class NewFacts:
    """Facts about the device that changed."""

    device_id: str
    session_id: str
    facts: Mapping[str, int | str]


_BEFORE_PAIRING = Unfit("before_pairing: measured while another patient wore this patch")

Item = NewEvent | NewStatus | NewAdhesion | NewRefusal | NewFacts | NoMore | Quarantined
Prepared = Item | Asked


def event_key(device_id: str, place: Place) -> str:
    """The idempotency key of a patch's own record."""
    return f"{device_id}.{place.stream}.{place.boot}.{place.sequence}"


@dataclass(slots=True)
class _Wear:
    """One patch during one wear: its decoders by profile, and facts that may not be durable yet."""

    session_id: str
    facts: dict[str, int | str]
    quirks: Quirks
    decoders: dict[str, Decoder]


class Preparer:
    """Keeps the decoders: one per paired patch and profile, fresh for each wear and for each model's quirks."""

    def __init__(self, gateway_id: str) -> None:
        self._gateway_id = gateway_id
        self._wears: dict[str, _Wear] = {}

    def prepare(self, frame: Frame, record: DeviceRecord | None, transport: str) -> Iterator[Prepared]:
        """Everything in one frame. `record` is the registry's, by the frame's device."""
        problem = _not_ours(record, transport)
        if problem or record is None:
            yield refused(frame, problem or "", frame.payload)
            return
        decoder = self._decoder(frame, record)
        if decoder is None:
            reason = f"device type {record.device_type} does not speak this profile: see device_drivers/device_types.py"
            yield refused(frame, reason, frame.payload)
            return
        try:
            decoded = decoder.receive(frame)
        except DecodeError as error:
            yield refused(frame, f"cannot be decoded: {error}", frame.payload)
            return
        yield from self._decoded(frame, record, decoded)

    def no_more(self, exhausted: Exhausted, record: DeviceRecord | None) -> NoMore | None:
        """The end of all records, for the wear it belongs to."""
        return NoMore(record.device_id, record.session_id, exhausted.access) if record else None

    def _decoder(self, frame: Frame, record: DeviceRecord) -> Decoder | None:
        wear = self._wear(record)
        for name in DEVICE_TYPES[record.device_type].profiles:
            profile = all_profiles()[name]
            if frame.channel not in profile.CHANNELS:
                continue
            if name not in wear.decoders:
                wear.decoders[name] = profile.decoder(DeviceContext(record.device_id, wear.facts, wear.quirks))
            return wear.decoders[name]
        return None

    def _wear(self, record: DeviceRecord) -> _Wear:
        wear = self._wears.get(record.device_id)
        if wear is None or wear.session_id != record.session_id:
            wear = self._wears[record.device_id] = _Wear(record.session_id, dict(record.facts), Quirks(), {})
        model = wear.facts.get("model_number")
        quirks = quirks_of(record.device_type, str(model) if model else None)
        if quirks != wear.quirks:
            wear.quirks, wear.decoders = quirks, {}
        return wear

    def _decoded(self, frame: Frame, record: DeviceRecord, decoded: Decoded) -> Iterator[Prepared]:
        for piece in decoded.refused:
            yield _refusal(record, frame, piece)
        if decoded.facts:
            self._wears[record.device_id].facts.update(decoded.facts)
            yield NewFacts(record.device_id, record.session_id, decoded.facts)
        for observation in decoded.observations:
            found = self._observed(record, observation, frame.received_at)
            if isinstance(found, Unfit):
                yield _refusal(record, frame, Refused(frame.payload, found.reason, observation.place))
            else:
                yield found
        if decoded.writes or decoded.reads:
            yield Asked(frame.device, decoded.writes, decoded.reads)

    def _observed(
        self, record: DeviceRecord, seen: Observation, captured: datetime
    ) -> NewEvent | NewStatus | NewAdhesion | Unfit:
        if seen.place is None:
            return NewStatus(record.device_id, record.session_id, seen.data, seen.occurred_at, captured)
        if seen.type is EventType.PATCH_APPLICATION:
            fields = {**seen.data, "timestamp": seen.occurred_at}
            try:
                report = AdhesionReport.model_validate_json(to_json(fields, exclude_none=True))
            except ValidationError as error:
                return Unfit(reason_of(error))
            if record.not_before and report.timestamp < record.not_before:
                return _BEFORE_PAIRING
            return NewAdhesion(record.device_id, record.session_id, seen.place, report)
        data = with_defaults(record.device_type, seen.type, seen.data)
        ready = make_event(
            seen.type,
            data,
            occurred_at=seen.occurred_at,
            gateway_id=self._gateway_id,
            key=event_key(record.device_id, seen.place),
            wearer=Wearer(record.patient, record.session_id),
        )
        if isinstance(ready, Unfit):
            return ready
        if record.not_before and datetime.fromisoformat(str(seen.occurred_at)) < record.not_before:
            return _BEFORE_PAIRING
        return NewEvent(record.device_id, record.session_id, seen.place, ready, data, seen.type, captured)


def _not_ours(record: DeviceRecord | None, transport: str) -> str | None:
    if record is None:
        return "unknown_device: pair it with `patch-gateway pair` (docs/pairing.md)"
    if record.transport != transport:
        return f"wrong_transport: this patch is paired over {record.transport}, the frame came over {transport}"
    return None


def _refusal(record: DeviceRecord, frame: Frame, piece: Refused) -> NewRefusal | Quarantined:
    item = refused(frame, piece.reason, piece.payload)
    if piece.place and any(access.stream == piece.place.stream for access in accesses(record)):
        return NewRefusal(record.device_id, record.session_id, piece.place, item)
    return item


def refused(frame: Frame, reason: str, payload: bytes) -> Quarantined:
    """A quarantine entry for (a piece of) a frame."""
    return quarantined(frame.device, reason, "/".join(frame.channel), frame.received_at, payload)


def quarantined(device: str, reason: str, channel: str, received_at: datetime, payload: bytes) -> Quarantined:
    """A quarantine entry."""
    return entry(device, reason, channel, received_at, payload)
