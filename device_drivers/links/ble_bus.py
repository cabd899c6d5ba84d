"""BlueZ over D-Bus, for what bleak does not do: notice that bluetoothd or an adapter went away, bonds, pairing."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dbus_fast import AuthError, BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from device_drivers.links.ble_base import RadioLost

log = logging.getLogger(__name__)

BLUEZ = "org.bluez"
ADAPTER, DEVICE, SERVICE = "org.bluez.Adapter1", "org.bluez.Device1", "org.bluez.GattService1"
_DBUS = "org.freedesktop.DBus"
_MANAGER = "org.freedesktop.DBus.ObjectManager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_MATCHES = (
    f"type='signal',sender='{_DBUS}',interface='{_DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
    f"type='signal',sender='{BLUEZ}',interface='{_MANAGER}'",
    f"type='signal',sender='{BLUEZ}',interface='{_PROPERTIES}',member='PropertiesChanged',arg0='{ADAPTER}'",
)
_CALL_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """One controller: object path, name (`hci0`), address."""

    path: str
    name: str
    address: str
    powered: bool


@dataclass(frozen=True, slots=True)
class Known:
    """One device BlueZ knows on an adapter."""

    path: str
    address: str
    bonded: bool
    connected: bool


class Refused(Exception):
    """BlueZ answered a call with an error: its D-Bus name and its words."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name.rpartition('.')[2]}: {text}" if text else name.rpartition(".")[2])
        self.name = name


class OnTable(Protocol):
    """Told of a GATT service's object path."""

    def __call__(self, path: str, *, added: bool) -> None: ...


class Bluez:
    """One connection to the system bus. `on_lost` is called when bluetoothd leaves the bus, when an adapter vanishes or
    is switched off, and when the bus itself ends; `on_table` when a device's GATT services come or go.
    """

    def __init__(self, on_lost: Callable[[str | None, str], None], on_table: OnTable) -> None:
        self._on_lost, self._on_table = on_lost, on_table
        self.bus = MessageBus(bus_type=BusType.SYSTEM)

    async def open(self) -> None:
        """Connect and watch; RadioLost where there is no system bus, or it does not let us in."""
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await self.bus.connect()
            self.bus.add_message_handler(self._on_message)
            for rule in _MATCHES:
                await self._bus_call("AddMatch", "s", [rule])
        except AuthError as error:
            raise RadioLost(
                f"the D-Bus system bus does not let us in ({error}): systemctl status dbus, journalctl -u dbus"
            ) from None
        except (OSError, EOFError, TimeoutError, DBusError, Refused) as error:
            raise RadioLost(f"no D-Bus system bus here ({error or type(error).__name__}): is dbus running?") from None

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.bus.disconnect()

    async def ended(self) -> None:
        """Returns when the bus connection ends."""
        with contextlib.suppress(Exception):
            await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call] # dbus-fast
        self._on_lost(None, "the D-Bus connection ended")

    async def owner(self) -> str:
        """The unique bus name of bluetoothd: a new one after each start."""
        return str((await self._bus_call("GetNameOwner", "s", [BLUEZ]))[0])

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", body: list[Any] | None = None,
        seconds: float = _CALL_SECONDS,
    ) -> list[Any]:  # fmt: skip
        """One call to bluetoothd; Refused with BlueZ's reason, RadioLost when nobody answers."""
        return await self._call(BLUEZ, path, interface, member, signature, body or [], seconds)

    async def objects(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Everything BlueZ has: interfaces and properties by object path."""
        (found,) = await self.call("/", _MANAGER, "GetManagedObjects")
        return {
            path: {
                interface: {name: variant.value for name, variant in properties.items()}
                for interface, properties in interfaces.items()
            }
            for path, interfaces in found.items()
        }

    async def adapter(self, wanted: str) -> Adapter | None:
        """The adapter of this name or address; None where there is none. A dongle may change its name, so address is
        the safer choice.
        """
        for path, interfaces in (await self.objects()).items():
            properties = interfaces.get(ADAPTER)
            if properties is not None:
                name, address = path.rpartition("/")[2], str(properties["Address"])
                if wanted.lower() in {name.lower(), address.lower()}:
                    return Adapter(path, name, address, bool(properties["Powered"]))
        return None

    async def ready_adapter(self, wanted: str) -> Adapter:
        """The adapter of this name or address, switched on; RadioLost with what a person can do about it."""
        try:
            adapter = await self.adapter(wanted)
        except Refused as error:
            raise RadioLost(f"bluetoothd is not running ({error}): systemctl status bluetooth") from None
        if adapter is None:
            raise RadioLost(f"there is no adapter {wanted}: plugged in? `bluetoothctl list` shows those BlueZ has")
        if not adapter.powered:
            try:
                await self.power(adapter, on=True)
            except Refused as error:
                raise RadioLost(f"the adapter {adapter.name} is off ({error}): rfkill list") from None
        return adapter

    async def devices(self, adapter: Adapter) -> dict[str, Known]:
        """Devices BlueZ knows on an adapter, by address."""
        found = {}
        for path, interfaces in (await self.objects()).items():
            properties = interfaces.get(DEVICE)
            if properties is not None and properties["Adapter"] == adapter.path:
                address = str(properties["Address"]).upper()
                bonded = bool(properties.get("Bonded", properties["Paired"]))
                found[address] = Known(path, address, bonded, bool(properties["Connected"]))
        return found

    async def power(self, adapter: Adapter, on: bool) -> None:
        await self.call(adapter.path, _PROPERTIES, "Set", "ssv", [ADAPTER, "Powered", Variant("b", on)])

    async def disconnect(self, known: Known) -> None:
        """End a link, or the connect that is under way; whether it did shows in `devices`."""
        with contextlib.suppress(Refused, RadioLost):
            await self.call(known.path, DEVICE, "Disconnect")

    async def remove(self, adapter: Adapter, path: str) -> None:
        """Forget a device and its bond: only at a person's request, or a bond just made that must not stay."""
        await self.call(adapter.path, ADAPTER, "RemoveDevice", "o", [path])

    async def _bus_call(self, member: str, signature: str, body: list[Any]) -> list[Any]:
        return await self._call(_DBUS, "/org/freedesktop/DBus", _DBUS, member, signature, body, _CALL_SECONDS)

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: list[Any], seconds: float
    ) -> list[Any]:
        message = Message(
            destination=destination, path=path, interface=interface, member=member, signature=signature, body=body
        )
        try:
            async with asyncio.timeout(seconds):
                reply = await self.bus.call(message)
        except (OSError, EOFError, TimeoutError, DBusError) as error:
            raise RadioLost(f"bluetoothd does not answer {member} ({type(error).__name__})") from None
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            raise Refused(str(reply.error_name), str(reply.body[0]) if reply.body else "")
        return list(reply.body)

    def _on_message(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "NameOwnerChanged" and message.body[0] == BLUEZ and message.body[1]:
            self._on_lost(None, "bluetoothd stopped")
        elif message.member == "InterfacesRemoved":
            path, interfaces = message.body
            if ADAPTER in interfaces:
                self._on_lost(path, "the adapter was unplugged")
            elif SERVICE in interfaces:
                self._on_table(path, added=False)
        elif message.member == "InterfacesAdded":
            path, interfaces = message.body
            if SERVICE in interfaces:
                self._on_table(path, added=True)
        elif message.member == "PropertiesChanged" and message.body[0] == ADAPTER:
            powered = message.body[1].get("Powered")
            if powered is not None and not powered.value:
                self._on_lost(message.path, "the adapter was switched off")
