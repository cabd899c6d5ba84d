"""The shapes of the `audit_trail` events a gateway sends (the contract gives that type no payload section)."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from schemas.base import Count, DateTime, DeviceId, Model, Text

StatusCode = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class DeviceStatus(Model):
    """What a patch says of itself: battery, occlusion, set detached, clock lost. `fault` travels in the urgent lane."""

    kind: Literal["device_status"] = "device_status"
    device_id: DeviceId
    timestamp: DateTime
    code: StatusCode
    severity: Literal["info", "warning", "fault"]
    detail: Annotated[Text, Field(max_length=512)] | None = None


class SequenceGap(Model):
    """Records that the patch numbered but can no longer give: `from` to `to` of one stream, both included."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    kind: Literal["sequence_gap"] = "sequence_gap"
    device_id: DeviceId
    stream: Text
    from_: Annotated[Count, Field(alias="from")]
    to: Count
    reason: Text
    timestamp: DateTime


class GapMarker(Model):
    """Names data that is not here and never will be: what it was, how much, from when to when, and why."""

    kind: Literal["gap_marker"] = "gap_marker"
    reason: Text
    device_id: DeviceId | None = None
    count: Count
    first_at: DateTime
    last_at: DateTime
