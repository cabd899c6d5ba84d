"""The registry of paired patches: one sealed record each."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import BatchNumber, DateTime, DeviceId, IdempotencyKey, Model
from schemas.patch_events import ActivationMethod, AdhesionQuality, ApplicationSite, DeviceType

Transport = Literal["ble", "mqtt"]


class Application(Model):
    """Where the patch sits and since when, as recorded at pairing; never invented."""

    site: ApplicationSite
    applied_at: DateTime


class Former(Model):
    """The last wear of a patch that is no longer paired. Its `facts` say how its records are named."""

    device_id: DeviceId
    patient: str | None = None
    until: DateTime
    not_before: DateTime | None = None
    facts: dict[str, int | str] = {}


class DeviceRecord(Model):
    """All the gateway knows of one paired patch. `patient` is a token (docs/pairing.md)."""

    device_id: DeviceId
    batch_number: BatchNumber
    device_type: DeviceType
    transport: Transport
    activation_method: ActivationMethod
    patient: str | None = None
    session_id: IdempotencyKey
    paired_at: DateTime
    not_before: DateTime | None = None
    address: str | None = None
    label_secret: Annotated[str | None, Field(repr=False)] = None
    # A bond was made with the passkey; until when one may be made, and the passkey where it was typed in instead of
    # derived from the label.
    bonded: bool = False
    window_until: DateTime | None = None
    passkey: Annotated[int | None, Field(ge=0, le=999_999, repr=False)] = None
    application: Application | None = None
    adhesion: AdhesionQuality | None = None
    facts: dict[str, int | str] = {}


def words_of(gateway_id: str, day: str, record: DeviceRecord | None) -> list[bytes]:
    """What the events of one patch and day repeat."""
    about = (record.device_id, record.patient, record.session_id) if record else ()
    return [word.encode() for word in (gateway_id, f"{day}T", *about) if word]
