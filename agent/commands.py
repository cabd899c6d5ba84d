"""The commands that need the buffer: the same code behind the control socket and, while the daemon is down, offline."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.bonding import bonding
from agent.counters import Counters
from agent.ingest import Ingest
from agent.mosquitto_files import BrokerFiles, device_access
from agent.pairing import Paired, PairRefused, needs_passkey, pair, read_claims, read_request, unpair
from agent.quarantine_commands import quarantine, stats
from agent.status import Live, patches, status
from buffer.store import EventBuffer
from config.settings import Settings
from schemas.key_list import KeyList, KeyListError, read_key_list


@dataclass(frozen=True, slots=True)
class Failed:
    """A command's refusal, in words for a person."""

    reason: str


class Commands:
    """`live` is what only a running daemon knows; None offline."""

    def __init__(
        self, buffer: EventBuffer, settings: Settings, live: Live | None = None, ingest: Ingest | None = None
    ) -> None:
        self._buffer, self._settings, self._live = buffer, settings, live
        self._ingest = ingest or Ingest(buffer, buffer.gateway_id, Counters())

    async def run(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any] | Failed:
        """One command by name."""
        if command == "status":
            return await status(self._buffer, self._settings, self._live)
        if command == "patches":
            return {"patches": patches(self._buffer, self._live)}
        if command == "record" and self._live is not None:
            return {}
        if command == "stats":
            return await stats(self._buffer, self._settings)
        if command == "quarantine":
            done = await quarantine(self._buffer, self._ingest, arguments)
            return Failed(done) if isinstance(done, str) else done
        if command == "pair":
            return await self._pair(dict(arguments))
        if command == "unpair":
            return await self._unpair(str(arguments.get("device_id")))
        return Failed(f"There is no command {command}.")

    async def _pair(self, arguments: dict[str, Any]) -> dict[str, Any] | Failed:
        request = read_request(arguments)
        if isinstance(request, PairRefused):
            return Failed(request.reason)
        keys = self._key_list() if request.label is not None else None
        if isinstance(keys, Failed):
            return keys
        known = self._buffer.devices.get(request.device_id or "")
        claims = read_claims(request, keys, datetime.now(UTC).date(), known.record if known else None)
        if isinstance(claims, PairRefused):
            return Failed(claims.reason)
        window = timedelta(seconds=self._settings.ble.pairing_window_seconds)
        done = await self._buffer.submit(pair(request, claims, self._buffer.gateway_id, window), now=True)
        if isinstance(done, PairRefused):
            return Failed(done.reason)
        result = self._paired(done, request.transport)
        if done.new and request.patient is None:
            result["patient_note"] = f"No patient was given: the events of {done.device_id} name none."
        return result | await self._bonded(done.device_id) if request.transport == "ble" else result

    async def _bonded(self, device_id: str) -> dict[str, Any]:
        """How far the radio is with the patch: a person stands beside it and waits."""
        record = self._buffer.devices[device_id].record
        if not self._settings.ble.enabled:
            return {
                "bond": "waiting",
                "bond_note": "ble.enabled is false: nothing of this patch arrives until it is set.",
            }
        if record.address is None:
            note = "Its label names no address: this version of the gateway cannot find it over BLE."
            return {"bond": "waiting", "bond_note": note}
        if not needs_passkey(record.device_type):
            return {"bond": "not needed"}
        if self._live is None:
            minutes = self._settings.ble.pairing_window_seconds / 60
            note = f"The daemon is not running: start it within {minutes:.3g} minutes, then it bonds with the patch."
            return {"bond": "waiting", "bond_note": note}
        return await bonding(self._live.links, device_id, record.window_until)

    def _paired(self, done: Paired, transport: str) -> dict[str, Any]:
        result: dict[str, Any] = {
            "device_id": done.device_id,
            "new": done.new,
            "application_recorded": done.application_recorded,
            "released": done.released,
            "transport": transport,
        }
        files = self._broker_files()
        if transport == "mqtt" and files and not files.knows(done.device_id):
            try:
                password = files.add(done.device_id, device_access(done.device_id))
                result |= {"mqtt_username": done.device_id, "mqtt_password": password}
            except OSError as error:
                result["mqtt_note"] = f"The broker's files cannot be written ({error}): mend that and pair again."
        elif transport == "mqtt" and files is None:
            result["mqtt_note"] = (
                "mqtt.broker_password_file and mqtt.broker_acl_file are not set: add the patch to your broker yourself."
            )
        if transport == "mqtt" and not self._settings.mqtt.enabled:
            result["mqtt_disabled"] = "mqtt.enabled is false: nothing of this patch arrives until it is set."
        return result

    async def _unpair(self, device_id: str) -> dict[str, Any] | Failed:
        if not await self._buffer.submit(unpair(device_id), now=True):
            return Failed(f"{device_id} is not paired here. `patch-gateway patches` lists those that are.")
        files = self._broker_files()
        try:
            if files and files.knows(device_id):
                files.remove(device_id)
        except OSError as error:
            return Failed(
                f"{device_id} is unpaired, but its broker access could not be removed ({error}): remove it there."
            )
        return {"device_id": device_id}

    def _broker_files(self) -> BrokerFiles | None:
        mqtt = self._settings.mqtt
        if mqtt.broker_password_file is None or mqtt.broker_acl_file is None:
            return None
        return BrokerFiles(mqtt.broker_password_file, mqtt.broker_acl_file)

    def _key_list(self) -> KeyList | Failed | None:
        section = self._settings.pairing
        if section.key_list is None or section.root_key is None:
            return None
        try:
            return read_key_list(section.key_list.read_bytes(), b64decode(section.root_key))
        except OSError as error:
            return Failed(f"The key list {section.key_list} cannot be read: {error.strerror}.")
        except KeyListError as error:
            return Failed(f"The key list {section.key_list} cannot be used: {error}.")
