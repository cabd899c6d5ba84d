"""The BLE links of a gateway: made from the settings, told of the registry."""

from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime

from agent.records import missing
from buffer.devices import DeviceRecord
from buffer.draft import Draft
from buffer.room import Level
from buffer.store import EventBuffer
from config.settings import Settings
from device_drivers.base import RecordAccess
from device_drivers.device_types import DEVICE_TYPES
from device_drivers.links.ble import BleLink
from device_drivers.links.ble_base import BleOptions, BlePatch, Claims, Missing
from device_drivers.links.ble_policy import Policy
from device_drivers.registry import gatt_plans
from schemas.pairing_label import passkey_of


class Registry:
    """What a radio needs of the registry (`BlePatches`)."""

    def __init__(self, buffer: EventBuffer) -> None:
        self._buffer = buffer

    def patches(self) -> Mapping[str, BlePatch]:
        now = datetime.now(UTC)
        return {
            device_id: _patch(known.record, now)
            for device_id, known in self._buffer.devices.items()
            if known.record.transport == "ble" and known.record.address is not None
        }

    def bonded(self, device_id: str) -> None:
        def decide(draft: Draft) -> None:
            record = draft.device(device_id)
            if record is not None:
                draft.put_device(record.model_copy(update={"bonded": True, "window_until": None, "passkey": None}))

        self._buffer.submit(decide, now=True)

    def missing(self, device_id: str, access: RecordAccess) -> Missing | None:
        known = self._buffer.devices.get(device_id)
        if self._buffer.level >= Level.PAUSE:
            return None  # they wait on the patch
        return missing(self._buffer, known.record, access) if known else None


def passkey(record: DeviceRecord) -> int | None:
    """The number the patch expects: as typed in, else derived from its label."""
    if record.passkey is not None:
        return record.passkey
    return passkey_of(b64decode(record.label_secret)) if record.label_secret else None


def _patch(record: DeviceRecord, now: datetime) -> BlePatch:
    open_window = record.window_until is not None and now < record.window_until
    return BlePatch(
        record.device_id,
        str(record.address).upper(),
        tuple(gatt_plans(DEVICE_TYPES[record.device_type].profiles)),
        record.bonded,
        passkey(record) if open_window else None,
        record.window_until if open_window else None,
        60.0 * _interval(record),
    )


def _interval(record: DeviceRecord) -> int:
    """Minutes between notifications, as the patch says; 0 off, 255 as fast as it can."""
    said = int(record.facts.get("cgm_interval", 0))
    return said if said < 255 else 0


def ble_links(settings: Settings, buffer: EventBuffer) -> list[BleLink]:
    """One link per adapter."""
    section = settings.ble
    if not section.enabled:
        return []
    policy = Policy(section.stay_connected, section.connection_slots, section.visit_seconds)
    claims, registry = Claims(), Registry(buffer)
    return [
        BleLink(BleOptions(adapter, policy, section.scan_silence_seconds, section.stale_link_seconds), registry, claims)
        for adapter in section.adapters
    ]
