"""Gap markers: `audit_trail` events that name what is missing, made in the transaction that makes it missing."""

from collections.abc import Callable, Sequence
from datetime import datetime

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from agent.events import Unfit, make_event
from buffer.draft import Draft
from buffer.lanes import Lane
from buffer.lost import Lost
from buffer.quarantine import entry
from buffer.store import Claim
from schemas.audit_shapes import GapMarker
from schemas.base import DeviceId
from schemas.event_types import EventType
from schemas.wire import WireEvent

_DEVICE_ID: TypeAdapter[str] = TypeAdapter(DeviceId)


def append_marker(draft: Draft, marker: GapMarker, gateway_id: str) -> None:
    """Store a marker in the urgent lane."""
    made = make_event(
        EventType.AUDIT_TRAIL,
        from_json(marker.to_json()),
        occurred_at=draft.now.isoformat(),
        gateway_id=gateway_id,
        key=draft.own_key(),
    )
    if isinstance(made, Unfit):
        raise TypeError(f"a gap marker made no event: {made.reason}")
    draft.append(made.event, made.lane)


def unreadable_rows(lane: Lane, damaged: Sequence[tuple[int, bytes]], gateway_id: str) -> Callable[[Draft], None]:
    """Rows that do not open: out of the queue, kept as they are, and named."""

    def decide(draft: Draft) -> None:
        draft.forget([row for row, _ in damaged], lane)
        unreadable(draft, damaged, gateway_id)

    return decide


def unreadable(draft: Draft, damaged: Sequence[tuple[int, bytes]], gateway_id: str) -> None:
    """Set rows that do not open aside and name them; taking them out is the caller's."""
    if not damaged:
        return
    for row, sealed in damaged:
        draft.quarantine(entry("buffer", f"row {row} does not open under its key", "buffer", draft.now, sealed))
    reason = "stored events do not open under their key; their sealed octets are in quarantine"
    marker = GapMarker(reason=reason, count=len(damaged), first_at=draft.now, last_at=draft.now)
    append_marker(draft, marker, gateway_id)


_THINNED = "the buffer was nearly full: its oldest readings and telemetry were given up"


def given_up(claims: Sequence[Claim]) -> Callable[[Draft], int]:
    """Take rows out for ever, counted for each patch; how many they were. Those that do not open are the gateway's:
    kept in quarantine they would take more room than is made here.
    """

    def decide(draft: Draft) -> int:
        count = 0
        for claim in claims:
            draft.forget([*claim.rows, *(row for row, _ in claim.damaged)], claim.lane)
            for event in claim.events:
                at = _occurred_at(event) or draft.now
                device_id = device_id_of(event.idempotency_key.split(".")[0])
                draft.give_up(Lost(device_id=device_id, count=1, first_at=at, last_at=at))
                count += 1
            if claim.damaged:
                draft.give_up(Lost(count=len(claim.damaged), first_at=draft.now, last_at=draft.now))
                count += len(claim.damaged)
        return count

    return decide


def _occurred_at(event: WireEvent) -> datetime | None:
    """None where it cannot be read: that must not keep a full buffer full."""
    try:
        return datetime.fromisoformat(from_json(event.body)["occurred_at"])
    except (ValueError, KeyError, TypeError):
        return None


def name_given_up(gateway_id: str) -> Callable[[Draft], int]:
    """One marker for each patch of which something was given up."""

    def decide(draft: Draft) -> int:
        taken = draft.take_lost()
        for lost in taken:
            append_marker(draft, GapMarker(reason=_THINNED, **lost.model_dump()), gateway_id)
        return len(taken)

    return decide


def named_by(body: bytes) -> GapMarker | None:
    """What an event's body names as missing, where it is a gap marker."""
    try:
        data = from_json(body)["data"]
        return GapMarker.model_validate(data, strict=False) if data["kind"] == "gap_marker" else None
    except (ValueError, KeyError, TypeError):
        return None


def quarantine_overflow(rows: list[tuple[bytes, int, str, str, bytes]], gateway_id: str) -> Callable[[Draft], int]:
    """One marker per sender whose refused frames a full quarantine could not keep."""

    def decide(draft: Draft) -> int:
        for sender, _, first, _, about in rows:
            count = draft.overflow(sender)
            if not count:
                continue
            marker = GapMarker(
                reason="quarantine full: refused frames were not kept",
                device_id=device_id_of(from_json(about)["sender"]),
                count=count,
                first_at=datetime.fromisoformat(first),
                last_at=draft.now,
            )
            append_marker(draft, marker, gateway_id)
            draft.clear_overflow(sender)
        return len(rows)

    return decide


def device_id_of(sender: str) -> str | None:
    """A sender that is a patch."""
    try:
        return _DEVICE_ID.validate_python(sender)
    except ValidationError:
        return None
