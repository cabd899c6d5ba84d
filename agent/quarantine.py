"""The quarantine by hand: looked at without values, put back into the pipeline, or given up and named."""

from base64 import b64decode
from collections.abc import Callable, Iterable
from typing import Any

from pydantic_core import from_json, to_json

from agent.gaps import append_marker, device_id_of, named_by
from buffer.draft import Draft
from buffer.lanes import lane_of
from buffer.quarantine import Quarantined, printable
from device_drivers.base import Channel, Frame
from schemas.audit_shapes import GapMarker
from schemas.event_types import EventType
from schemas.wire import WireEvent

UPSTREAM = "upstream"


def about(row: int, seen: int, item: Quarantined) -> dict[str, Any]:
    """An entry without its payload."""
    return {
        "id": row,
        "sender": item.sender,
        "channel": item.channel,
        "reason": item.reason,
        "seen": seen,
        "received_at": item.received_at.isoformat(),
        "octets": item.length,
    }


def payload_of(item: Quarantined, *, reveal: bool) -> str:
    """The octets as text: JSON, else hex. Masked: the names of a JSON object, and no values."""
    octets = b64decode(item.payload)
    try:
        content = from_json(octets)
    except ValueError:
        return octets.hex() if reveal else f"({item.length} octets)"
    return printable(to_json(content if reveal else _masked(content)).decode())


def _masked(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _masked(value) for name, value in content.items()}
    return [_masked(value) for value in content] if isinstance(content, list) else "***"


def problem(item: Quarantined) -> str | None:
    """Why an entry cannot be put back; None when it can be tried."""
    if item.length > len(b64decode(item.payload)):
        return f"only the first octets of {item.length} were kept"
    if item.channel != UPSTREAM and "/" not in item.channel:
        return "it is no frame of a patch, and no event that the upstream refused"
    return None


def frame_of(item: Quarantined) -> tuple[Frame, str] | None:
    """The frame as its link delivered it, and over which transport; None for what the upstream refused."""
    if item.channel == UPSTREAM:
        return None
    service, _, characteristic = item.channel.partition("/")
    frame = Frame(item.sender, Channel(service, characteristic), b64decode(item.payload), item.received_at)
    return frame, "mqtt" if service == "mqtt" else "ble"


def send_again(item: Quarantined) -> Callable[[Draft], bool]:
    """What the upstream refused goes back into the queue, as it was."""

    def decide(draft: Draft) -> bool:
        if not draft.take_quarantined(item):
            return False
        body = b64decode(item.payload)
        event = from_json(body)
        known = item.sender if item.sender in draft.devices else None
        lane = lane_of(EventType(event["type"]), event["data"])
        draft.append(WireEvent(event["idempotency_key"], body), lane, known)
        return True

    return decide


def discard(entries: Iterable[tuple[Quarantined, bytes | None]], gateway_id: str) -> Callable[[Draft], int]:
    """Give entries up: a gap marker for each sender and reason names them."""

    def decide(draft: Draft) -> int:
        gone: dict[tuple[str, str], list[Quarantined]] = {}
        again = 0
        for item, digest in entries:
            if not digest or not draft.drop_quarantined(digest):
                continue
            if item.channel == UPSTREAM and (marker := named_by(b64decode(item.payload))):
                append_marker(draft, marker, gateway_id)  # under a new key and time: what it names stays named
                again += 1
            else:
                gone.setdefault((item.sender, item.reason), []).append(item)
        for (sender, reason), items in gone.items():
            marker = GapMarker(
                reason=f"discarded by hand from the quarantine; it was there because: {reason}"[:1_000],
                device_id=device_id_of(sender),
                count=len(items),
                first_at=min(item.received_at for item in items),
                last_at=max(item.received_at for item in items),
            )
            append_marker(draft, marker, gateway_id)
        return again + sum(map(len, gone.values()))

    return decide
