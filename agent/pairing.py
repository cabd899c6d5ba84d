"""Pairing: from a label or typed claims to a registry record, and the events that go with it. Plain functions."""

import base64
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import to_json

from agent.adhesion import application_data, release_waiting
from agent.events import Unfit, Wearer, make_event
from buffer.devices import Application, DeviceRecord, Transport
from buffer.draft import Draft
from buffer.quarantine import entry
from device_drivers.base import GattPlan
from device_drivers.device_types import DEVICE_TYPES
from device_drivers.registry import gatt_plans
from schemas.base import BatchNumber, DateTime, DeviceId, Model
from schemas.event_types import EventType
from schemas.key_list import KeyList
from schemas.pairing_label import Verdict, verify
from schemas.patch_events import ActivationMethod, ApplicationSite, DeviceType
from schemas.problems import field_errors, sentence

PATIENT_TOKEN = re.compile(r"pt_[a-z2-7]{16,52}", re.ASCII)
_CLOCK_TOLERANCE = timedelta(minutes=5)
_ADDRESS = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}", re.ASCII)

VERDICTS = {
    Verdict.FORGED: "This label is forged or damaged: the maker did not sign it. Do not use the patch; report it.",
    Verdict.EXPIRED: "This patch has expired. Use another one.",
    Verdict.RECALLED: "This patch is recalled. Do not use it; put it aside and report it.",
    Verdict.REVOKED_KEY: "The key that signed this label is revoked. Do not use the patch; report it.",
    Verdict.UNKNOWN_KEY: "This label is signed by an unknown key: update the key list (pairing.key_list).",
    Verdict.NOT_A_PAIRING_CODE: "This is not a pairing label. Scan the code on the inner label that starts with NFLX1.",
}
_INCOMPLETE = "This label is damaged or incomplete: scan it again, the whole text and in capitals as it is printed."


def _address(value: str) -> str:
    address = value.upper()
    if not _ADDRESS.fullmatch(address):
        raise ValueError("an address has six pairs of hex digits, such as F0:F1:F2:F3:F4:00")
    if address == "00:00:00:00:00:00":
        raise ValueError("no patch has this address: it is printed on the patch, or its maker's app shows it")
    return address


class PairRequest(Model):
    """What a person asks for: a label, or the claims by hand. Site and time of application come together."""

    label: Annotated[str | None, Field(repr=False)] = None
    device_id: DeviceId | None = None
    batch_number: BatchNumber | None = None
    device_type: DeviceType | None = None
    address: Annotated[str, AfterValidator(_address)] | None = None
    passkey: Annotated[int | None, Field(ge=0, le=999_999, repr=False)] = None
    transport: Transport = "ble"
    patient: str | None = None
    site: ApplicationSite | None = None
    applied_at: DateTime | None = None


class Claims(Model):
    """Who the patch is, from a verified label or typed in."""

    device_id: DeviceId
    batch_number: BatchNumber
    device_type: DeviceType
    activation_method: ActivationMethod
    address: str | None = None
    secret: Annotated[str | None, Field(repr=False)] = None
    passkey: Annotated[int | None, Field(repr=False)] = None


@dataclass(frozen=True, slots=True)
class Paired:
    """The outcome for the person who paired."""

    device_id: str
    new: bool
    application_recorded: bool
    released: int


@dataclass(frozen=True, slots=True)
class PairRefused:
    """Why not, and what to do, in one or two sentences."""

    reason: str


def read_request(arguments: dict[str, Any]) -> PairRequest | PairRefused:
    """The arguments of the command as a request."""
    try:
        request = PairRequest.model_validate_json(to_json(arguments))
    except ValidationError as error:
        return PairRefused(sentence(field_errors(error)))
    if request.patient is not None and not PATIENT_TOKEN.fullmatch(request.patient):
        return PairRefused(
            "The patient must be a token of the form pt_ and 16 to 52 characters a-z or 2-7, never a name or a number."
        )
    if (request.site is None) != (request.applied_at is None):
        return PairRefused("Give --site and --applied-at together: neither is ever guessed.")
    if request.transport == "mqtt" and (request.address is not None or request.passkey is not None):
        return PairRefused("--address and --passkey are for BLE: leave them out, or leave out --transport mqtt.")
    return request


def read_claims(
    request: PairRequest, keys: KeyList | None, today: date, known: DeviceRecord | None = None
) -> Claims | PairRefused:
    """Verify the label offline, or take the typed claims; what is not typed of a patch that is `known` stays."""
    claims = _typed(request, known) if request.label is None else _labelled(request, request.label, keys, today)
    if isinstance(claims, Claims) and request.transport == "ble" and not _plans(claims.device_type):
        return PairRefused(f"{_a(claims.device_type)} is read over MQTT only: add --transport mqtt.")
    return claims


def _typed(request: PairRequest, known: DeviceRecord | None) -> Claims | PairRefused:
    batch_number = request.batch_number or (known.batch_number if known else None)
    device_type = request.device_type or (known.device_type if known else None)
    address = request.address or (known.address if known else None)
    secret = known.label_secret if known else None
    if request.device_id is None or batch_number is None or device_type is None:
        return PairRefused("Without a label give --device-id, --batch and --type.")
    if request.transport == "ble" and _plans(device_type):
        if address is None:
            return PairRefused("Over BLE give --address: it is printed on the patch, or its maker's app shows it.")
        if request.passkey is None and secret is None and needs_passkey(device_type):
            return PairRefused(
                f"{_a(device_type)} is used over BLE only with an authenticated bond: give --passkey, the six digits"
                " printed on the patch or in its papers."
            )
    return Claims(
        device_id=request.device_id,
        batch_number=batch_number,
        device_type=device_type,
        activation_method="manual_entry",
        address=address,
        secret=secret,
        passkey=request.passkey,
    )


def _labelled(request: PairRequest, text: str, keys: KeyList | None, today: date) -> Claims | PairRefused:
    if keys is None:
        return PairRefused(
            "No key list is configured (pairing.key_list and pairing.root_key): labels cannot be verified."
        )
    found = verify(text, keys, today=today)
    if found.verdict is Verdict.NOT_A_PAIRING_CODE and text.strip().upper().startswith("NFLX1"):
        return PairRefused(_INCOMPLETE)
    if found.verdict is not Verdict.ACCEPTED or found.label is None:
        return PairRefused(VERDICTS[found.verdict])
    label = found.label
    named = label.address.hex(":").upper() if any(label.address) else None
    if named and request.address not in {None, named}:
        return PairRefused(f"The label names the address {named}: leave --address out, or check which patch this is.")
    return Claims(
        device_id=label.device_id,
        batch_number=label.batch_number,
        device_type=label.device_type,
        activation_method="qr_scan",
        address=named or request.address,
        secret=base64.b64encode(label.secret).decode(),
        passkey=request.passkey,
    )


def needs_passkey(device_type: DeviceType) -> bool:
    """Does a GATT profile of this type demand a bond that was made with a passkey?"""
    return any(plan.authenticated for plan in _plans(device_type))


def _plans(device_type: DeviceType) -> list[GattPlan]:
    return gatt_plans(DEVICE_TYPES[device_type].profiles)


def _a(device_type: DeviceType) -> str:
    return f"{'An' if device_type[0] in 'aeiou' else 'A'} {device_type}"


def pair(
    request: PairRequest, claims: Claims, gateway_id: str, window: timedelta
) -> Callable[[Draft], Paired | PairRefused]:
    """Decide the pairing inside a transaction: record, `device_activation`, `patch_application`, released reports.

    Over BLE it opens the window in which a bond may be made.
    """

    def decide(draft: Draft) -> Paired | PairRefused:
        if request.applied_at and request.applied_at > draft.now + _CLOCK_TOLERANCE:
            return PairRefused("The time of application lies in the future: check it, and this gateway's clock.")
        known = draft.device(claims.device_id)
        if problem := _taken(draft, claims, request.transport):
            return PairRefused(problem)
        if known is None:
            record = _opened(_new_record(request, claims, draft), claims, draft.now + window)
            draft.put_device(record)
            _append(draft, EventType.DEVICE_ACTIVATION, _activation(record), record, gateway_id)
        else:
            problem = _conflict(known, request, claims)
            if problem:
                return PairRefused(problem)
            record = _opened(known, claims, draft.now + window)
            draft.put_device(record)
        if request.site is None or request.applied_at is None or record.application is not None:
            return Paired(record.device_id, known is None, application_recorded=False, released=0)
        application = Application(site=request.site, applied_at=request.applied_at)
        record = record.model_copy(update={"application": application})
        draft.put_device(record)
        _append(draft, EventType.PATCH_APPLICATION, application_data(record), record, gateway_id)
        released = release_waiting(draft, record.device_id, gateway_id)
        return Paired(record.device_id, known is None, application_recorded=True, released=released)

    return decide


def unpair(device_id: str) -> Callable[[Draft], bool]:
    """Decide the end of a pairing; reports that still waited for an application are set aside, not lost."""

    def decide(draft: Draft) -> bool:
        if draft.device(device_id) is None:
            return False
        for raw in draft.remove_device(device_id):
            reason = "unpaired before its application was recorded"
            draft.quarantine(entry(device_id, reason, "buffer", draft.now, raw))
        return True

    return decide


def _new_record(request: PairRequest, claims: Claims, draft: Draft) -> DeviceRecord:
    former = draft.former(claims.device_id)
    # The patch goes on numbering its records: they keep their keys. What it said of itself is said to a new wear again.
    facts = {name: value for name, value in former.facts.items() if not name.startswith("said_")} if former else {}
    return DeviceRecord(
        device_id=claims.device_id,
        batch_number=claims.batch_number,
        device_type=claims.device_type,
        transport=request.transport,
        activation_method=claims.activation_method,
        patient=request.patient,
        session_id=f"wear-{secrets.token_hex(8)}",
        paired_at=draft.now,
        not_before=_not_before(draft, claims.device_id, request.patient),
        address=claims.address,
        label_secret=claims.secret,
        facts=facts,
    )


def _opened(record: DeviceRecord, claims: Claims, until: datetime) -> DeviceRecord:
    """The record with its pairing window open; what the label or the person says now replaces what was known."""
    if record.transport != "ble":
        return record
    said: dict[str, Any] = {"address": claims.address, "label_secret": claims.secret, "passkey": claims.passkey}
    update = {name: value for name, value in said.items() if value is not None}
    if claims.secret is not None:
        update["passkey"] = claims.passkey
    return record.model_copy(update=update | {"window_until": until})


def _taken(draft: Draft, claims: Claims, transport: Transport) -> str | None:
    """Two patches with one address would be one to the radio."""
    if transport != "ble" or claims.address is None:
        return None
    for device_id, known in draft.devices.items():
        if (
            (known.record.address or "").upper() == claims.address
            and known.record.transport == "ble"
            and device_id != claims.device_id
        ):
            return f"The address {claims.address} belongs to {device_id} already: check it."
    return None


def _not_before(draft: Draft, device_id: str, patient: str | None) -> datetime | None:
    """Until when somebody else wore this patch: what it measured before is not this patient's."""
    former = draft.former(device_id)
    if former is None:
        return None
    return former.not_before if former.patient == patient else former.until


def _conflict(known: DeviceRecord, request: PairRequest, claims: Claims) -> str | None:
    unpair_first = f"run `patch-gateway unpair {known.device_id}` first"
    if known.patient is None and request.patient is not None:
        return f"{known.device_id} is paired without a patient: {unpair_first}, then pair it for this one."
    if known.patient is not None and request.patient is None and request.site is not None:
        return f"{known.device_id} is paired for a patient already: give --patient, to be sure it is the same."
    if request.patient not in {None, known.patient}:
        return f"{known.device_id} is paired with another patient: {unpair_first}."
    if known.transport != request.transport:
        return f"{known.device_id} is paired over {known.transport}: {unpair_first}."
    if (known.batch_number, known.device_type) != (claims.batch_number, claims.device_type):
        return f"{known.device_id} is paired with another batch or type: {unpair_first}."
    if known.transport == "ble" and known.address and claims.address not in {None, known.address.upper()}:
        return f"{known.device_id} is paired with the address {known.address}: check it, or {unpair_first}."
    wanted = (request.site, request.applied_at)
    if known.application and request.site and wanted != (known.application.site, known.application.applied_at):
        return f"The application of {known.device_id} is recorded already, with another site or time: {unpair_first}."
    return None


def _activation(record: DeviceRecord) -> dict[str, Any]:
    data = {
        "device_id": record.device_id,
        "batch_number": record.batch_number,
        "activation_method": record.activation_method,
        "device_type": record.device_type,
    }
    return data | ({"patient_id": record.patient} if record.patient else {})


def _append(draft: Draft, event_type: EventType, data: dict[str, Any], record: DeviceRecord, gateway_id: str) -> None:
    made = make_event(
        event_type,
        data,
        occurred_at=draft.now.isoformat(),
        gateway_id=gateway_id,
        key=draft.own_key(),
        wearer=Wearer(record.patient, record.session_id),
    )
    if isinstance(made, Unfit):
        raise TypeError(f"pairing made no {event_type}: {made.reason}")
    draft.append(made.event, made.lane, record.device_id)
