"""Bonding with a passkey: an `org.bluez.Agent1` that exists for one device, one attempt and one number."""

import contextlib
import logging
from dataclasses import dataclass

from dbus_fast import DBusError
from dbus_fast.annotations import DBusObjectPath, DBusUInt32
from dbus_fast.service import ServiceInterface, dbus_method

from device_drivers.links.ble_base import RadioLost
from device_drivers.links.ble_bus import BLUEZ, DEVICE, Adapter, Bluez, Refused

log = logging.getLogger(__name__)

_AGENT_PATH = "/org/patch_gateway/agent"
_MANAGER = "org.bluez.AgentManager1"
_PAIR_SECONDS = 40.0
_REJECTED = "org.bluez.Error.Rejected"


class PasskeyAgent(ServiceInterface):
    """KeyboardOnly: types one passkey for one device, rejects everything else BlueZ may ask for."""

    def __init__(self, device: str, passkey: int) -> None:
        super().__init__("org.bluez.Agent1")
        self._device, self._passkey = device, passkey
        self.asked = False

    @dbus_method()
    def RequestPasskey(self, device: DBusObjectPath) -> DBusUInt32:  # noqa: N802 - BlueZ's names
        if device != self._device or self.asked:
            raise DBusError(_REJECTED, "not the patch that is being paired")
        self.asked = True
        return self._passkey

    @dbus_method()
    def RequestConfirmation(self, device: DBusObjectPath, passkey: DBusUInt32) -> None:  # noqa: N802, ARG002
        raise DBusError(_REJECTED, "nobody is here to compare numbers")

    @dbus_method()
    def RequestAuthorization(self, device: DBusObjectPath) -> None:  # noqa: N802, ARG002
        raise DBusError(_REJECTED, "pairing without a passkey is refused")

    @dbus_method()
    def Cancel(self) -> None:  # noqa: N802
        """BlueZ gave up: `Pair` itself says so too."""

    @dbus_method()
    def Release(self) -> None:  # noqa: N802
        """BlueZ forgets the agent."""


@dataclass(frozen=True, slots=True)
class Bonding:
    """How an attempt ended, in words. `final`: another attempt would end the same."""

    bonded: bool
    reason: str
    final: bool = False


async def bond(bluez: Bluez, adapter: Adapter, path: str, passkey: int) -> Bonding:
    """Pair with one device on its own agent; RadioLost when bluetoothd goes away meanwhile.

    A bond that came about without the passkey (Just Works) is taken back at once: anybody could have made it.
    """
    agent = PasskeyAgent(path, passkey)
    bluez.bus.export(_AGENT_PATH, agent)
    try:
        await bluez.call(f"/{BLUEZ.replace('.', '/')}", _MANAGER, "RegisterAgent", "os", [_AGENT_PATH, "KeyboardOnly"])
        try:
            if not await _pair(bluez, path):
                return Bonding(bonded=False, reason="the patch did not finish pairing")
        finally:
            await bluez.call(f"/{BLUEZ.replace('.', '/')}", _MANAGER, "UnregisterAgent", "o", [_AGENT_PATH])
    except Refused as error:
        return Bonding(bonded=False, reason=_reason(error, asked=agent.asked))
    finally:
        bluez.bus.unexport(_AGENT_PATH, agent)
    if agent.asked:
        return Bonding(bonded=True, reason="bonded with its passkey")
    await bluez.remove(adapter, path)
    reason = "the patch offers pairing without a passkey only (Just Works): refused"
    return Bonding(bonded=False, reason=reason, final=True)


async def _pair(bluez: Bluez, path: str) -> bool:
    """False when the patch does not come to an end; RadioLost when it is bluetoothd that does not answer."""
    try:
        await bluez.call(path, DEVICE, "Pair", seconds=_PAIR_SECONDS)
    except RadioLost:
        with contextlib.suppress(Refused):
            await bluez.call(path, DEVICE, "CancelPairing")
        return False
    return True


def _reason(error: Refused, *, asked: bool) -> str:
    if error.name.endswith("AuthenticationFailed"):
        return "the passkey is wrong" if asked else "the patch refused to pair with a passkey"
    if error.name.endswith("AlreadyExists"):
        return "it is bonded already"
    return f"the patch did not pair ({error})"
