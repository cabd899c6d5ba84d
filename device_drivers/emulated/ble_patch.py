"""An emulated patch on the air: a bumble peripheral around a sensor (extra `demo`)."""

import asyncio
from collections.abc import Iterable
from typing import Any

from bumble import att, hci
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData
from bumble.device import Connection, Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.keys import MemoryKeyStore
from bumble.pairing import PairingConfig, PairingDelegate

from device_drivers.emulated.cgm_sensor import MEASUREMENT, RACP, CgmSensor, Sent
from device_drivers.emulated.faults import Faults, LinkDrop

_CGM, _BATTERY, _INFORMATION = "181F", "180F", "180A"
_READ, _WRITE, _NOTIFY, _INDICATE = (
    Characteristic.Properties.READ, Characteristic.Properties.WRITE, Characteristic.Properties.NOTIFY,
    Characteristic.Properties.INDICATE,
)  # fmt: skip
_LAYOUT: dict[str, dict[str, Characteristic.Properties]] = {
    _CGM: {
        "2aa7": _NOTIFY, "2aa8": _READ, "2aa9": _READ, "2aaa": _READ, "2aab": _READ, "2a52": _WRITE | _INDICATE,
        "2aac": _WRITE | _INDICATE,
    },
    _BATTERY: {"2a19": _READ | _NOTIFY},
    _INFORMATION: {"2a24": _READ, "2a26": _READ, "2a29": _READ, "2bff": _READ},
}  # fmt: skip
_IN_PROGRESS, _CCCD_OFF = 0xFE, 0xFD
SUPERVISION_TIMEOUT = 0x08


class _Label(PairingDelegate):
    """A passkey printed on the patch: the other side must type it."""

    def __init__(self, passkey: int) -> None:
        super().__init__(PairingDelegate.DISPLAY_OUTPUT_ONLY)
        self._passkey = passkey

    async def generate_passkey(self) -> int:
        return self._passkey

    async def display_number(self, number: int, digits: int) -> None:
        """It is printed already."""


class BlePatch:
    """One patch at `address` behind an HCI transport (`controller` itself, where it is emulated too).

    With a `passkey` its glucose values want a bond made with it; without one it pairs with anybody (Just Works), and
    its values still want an authenticated bond.
    """

    def __init__(
        self,
        address: str,
        sensor: CgmSensor,
        passkey: int | None,
        *,
        source: Any,
        sink: Any,
        controller: Controller | None = None,
    ) -> None:
        self.address, self.sensor, self.controller = address, sensor, controller
        self.faults = Faults()
        self.reports = 0
        self._reporting: asyncio.Task[None] | None = None
        self.device = Device.with_hci(sensor.model, hci.Address(address), source, sink)
        self.device.keystore = MemoryKeyStore()
        delegate = _Label(passkey) if passkey is not None else PairingDelegate()
        self.device.pairing_config_factory = lambda _: PairingConfig(
            sc=True, mitm=passkey is not None, bonding=True, delegate=delegate
        )
        self.characteristics: dict[str, Characteristic[bytes]] = {}
        self.device.add_services([self._service(uuid) for uuid in _LAYOUT])
        self.device.advertising_data = bytes(
            AdvertisingData(
                [
                    (AdvertisingData.FLAGS, b"\x06"),
                    (AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS, bytes(UUID(_CGM))),
                    (AdvertisingData.SHORTENED_LOCAL_NAME, sensor.model.encode()[:18]),
                ]
            )
        )

    def _service(self, uuid: str) -> Service:
        made = [self._characteristic(name, properties) for name, properties in _LAYOUT[uuid].items()]
        return Service(uuid, made)

    def _characteristic(self, name: str, properties: Characteristic.Properties) -> Characteristic[bytes]:
        permissions = Characteristic.READABLE | Characteristic.WRITEABLE
        if name in _LAYOUT[_CGM]:
            permissions |= Characteristic.READ_REQUIRES_AUTHENTICATION | Characteristic.WRITE_REQUIRES_AUTHENTICATION
        value = CharacteristicValue(
            read=lambda _: self.sensor.read(name),
            write=lambda connection, octets: self._written(name, connection, octets),
        )
        made: Characteristic[bytes] = Characteristic(name, properties, permissions, value)
        self.characteristics[name] = made
        return made

    async def start(self) -> None:
        """On the air."""
        await self.device.power_on()
        await self.appear()

    async def appear(self) -> None:
        """Advertise, ten times a second."""
        await self.device.start_advertising(
            auto_restart=True, advertising_interval_min=100, advertising_interval_max=100
        )

    async def vanish(self) -> None:
        """Out of range: no link, no advertisement."""
        await self.device.stop_advertising()
        self.lose_link()

    @property
    def connections(self) -> list[Connection]:
        return list(self.device.connections.values())

    def subscribed(self, name: str = MEASUREMENT) -> bool:
        """Whether somebody listens to a characteristic."""
        subscribers, handle = self.device.gatt_server.subscribers, self.characteristics[name].handle
        return any(subscribers.get(each, {}).get(handle) not in {None, b"\0\0"} for each in self.connections)

    async def measure(self, offset: int) -> None:
        """One more record, notified where somebody listens."""
        await self.notify(MEASUREMENT, self.sensor.measure(offset))

    async def notify(self, name: str, value: bytes) -> None:
        await self.device.notify_subscribers(self.characteristics[name], value)

    def lose_link(self, reason: int = SUPERVISION_TIMEOUT) -> None:
        """Both ends lose the link without a word, as when a patient walks out of the room."""
        assert self.controller is not None, "only an emulated controller can lose a link"
        for connection in list(self.controller.le_connections.values()):
            self._other_end(connection, reason)
            self.controller.on_le_disconnected(connection, reason)

    def _other_end(self, connection: Any, reason: int) -> None:
        peer = connection.link.find_le_controller(connection.peer_address)
        for other in list(peer.le_connections.values()) if peer else []:
            if other.peer_address == connection.self_address:
                peer.on_le_disconnected(other, reason)

    def forget_bond(self) -> None:
        """As after a factory reset: the other side still believes in the bond."""
        self.device.keystore = MemoryKeyStore()

    async def change_table(self) -> None:
        """New firmware, one service more: told by Service Changed where somebody listens."""
        self.device.add_services([Service("181A", [self._extra()])])
        changed = self.device.gatt_service and self.device.gatt_service.service_changed_characteristic
        if changed:
            await self.device.indicate_subscribers(changed, b"\x01\x00\xff\xff")

    def _extra(self) -> Characteristic[bytes]:
        return Characteristic("2a6e", _READ, Characteristic.READABLE, b"\x00\x0e")

    def _written(self, name: str, connection: Connection, octets: bytes) -> None:
        if name not in {RACP, "2aac"}:
            raise att.ATT_Error(att.ATT_WRITE_NOT_PERMITTED_ERROR)
        if not self.subscribed(name):
            raise att.ATT_Error(_CCCD_OFF)
        if name == "2aac":
            answer = [Sent(name, self.sensor.settings(octets))]
            asyncio.get_running_loop().create_task(self._send(connection, answer))
            return
        running = self._reporting is not None and not self._reporting.done()
        if octets[:1] == b"\x03":
            task = asyncio.get_running_loop().create_task(self._send(connection, self.sensor.control(octets)))
            self._reporting = self._reporting if running else task
            return
        if running:
            raise att.ATT_Error(_IN_PROGRESS)
        self.reports += 1
        values = self.faults.apply(self.sensor.control(octets))
        self._reporting = asyncio.get_running_loop().create_task(self._send(connection, values))

    async def _send(self, connection: Connection, values: Iterable[Sent]) -> None:
        try:
            for value in values:
                if connection not in self.connections:
                    return
                characteristic = self.characteristics[value.characteristic]
                if value.offset is None:
                    await self.device.indicate_subscriber(connection, characteristic, value.value)
                else:
                    await self.device.notify_subscriber(connection, characteristic, value.value)
                await asyncio.sleep(self.faults.slow)
        except LinkDrop:
            self.lose_link()
