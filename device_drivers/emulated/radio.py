"""The air between a gateway's controller and emulated patches, and `python -m device_drivers.emulated.radio TRANSPORT`.

TRANSPORT is one of bumble's names: `usb:VID:PID` puts a patch on the air with a real dongle.
"""

import argparse
import asyncio
import importlib.util
import random
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

if __name__ == "__main__" and importlib.util.find_spec("bumble") is None:
    print("The extra `demo` is not installed (bumble): pip install 'patch-gateway[demo]'", file=sys.stderr)
    sys.exit(2)

from bumble import hci
from bumble.controller import Controller
from bumble.core import PhysicalTransport
from bumble.link import LocalLink
from bumble.transport import open_transport
from bumble.transport.common import TransportSpecError

from device_drivers.emulated.ble_patch import BlePatch
from device_drivers.emulated.cgm_sensor import CgmSensor

_TRANSPORTS = "usb:VID:PID names a dongle (lsusb shows both), usb:0 the first one"
# A patch on a real controller sets its own address, which must be a static random one.
_ADDRESS = re.compile(r"[C-F][0-9A-F](:[0-9A-F]{2}){5}", re.ASCII)


class Air(LocalLink):
    """`drop` says which packets are lost between two controllers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # bumble
        self.drop: Callable[[Controller, Controller], bool] = lambda _sender, _receiver: False

    def send_acl_data(
        self, sender_controller: Controller, destination_address: hci.Address, transport: PhysicalTransport, data: bytes
    ) -> None:
        """As in bumble, but with the sender's address of the connection: BlueZ changes its random address at each scan,
        and data of a central that scans while it is connected would be lost.
        """
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection and receiver and not self.drop(sender_controller, receiver):
            asyncio.get_running_loop().call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)


class GatewayController(Controller):
    """The controller behind a gateway's adapter. `deaf`: it hears nothing until it is reset, as firmware that hangs."""

    deaf = False

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        if isinstance(packet, hci.HCI_LE_Advertising_Report_Event):
            if self.deaf:
                return
            for report in packet.reports:
                report.rssi = -50 - random.randrange(30)  # noqa: S311 - no two packets arrive alike
        super().send_hci_packet(packet)

    def on_hci_reset_command(self, command: hci.HCI_Reset_Command) -> hci.HCI_StatusReturnParameters:
        self.deaf, self.pending_le_connection = False, None
        return super().on_hci_reset_command(command)

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """As in Vol 4, Part E, 7.8.13; bumble goes on, and connects when the patch is heard, for nobody."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        ended = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, ended)  # after the answer to the command
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)


def add_patch(air: Air, address: str, sensor: CgmSensor, passkey: int | None) -> BlePatch:
    """A patch on an emulated air; `start` puts it on."""
    controller = Controller(address, link=air)
    return BlePatch(address, sensor, passkey, source=controller, sink=controller, controller=controller)


async def on_a_radio(transport: str, address: str, passkey: int) -> None:
    """One glucose patch on a real controller, a record a minute, until it is stopped."""
    try:
        opened = await open_transport(transport)
    except (TransportSpecError, AssertionError):
        print(f"The transport {transport} is none of bumble's: {_TRANSPORTS}.", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # noqa: BLE001 - whatever the libraries of so many transports raise
        sys.exit(f"The controller {transport} cannot be opened ({error}): is it plugged in, and may you use it?")
    async with opened as hci_transport:
        source, sink = hci_transport.source, hci_transport.sink
        sensor = CgmSensor(datetime.now(UTC) - timedelta(hours=1))
        sensor.measure_until(60)
        patch = BlePatch(address, sensor, passkey, source=source, sink=sink)
        await patch.start()
        print(f"On the air: {address}, passkey {passkey:06}, {len(sensor.records)} records.", flush=True)
        while True:
            await asyncio.sleep(60)
            await patch.measure(max(sensor.records) + 1)


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text.upper()):
        raise argparse.ArgumentTypeError("six pairs of hex digits, the first from C0 to FF, such as C0:FF:EE:00:00:04")
    return text.upper()


def _passkey(text: str) -> int:
    if not re.fullmatch(r"[0-9]{6}", text):
        raise argparse.ArgumentTypeError("six digits, such as 012345")
    return int(text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Put an emulated glucose patch on a Bluetooth controller.")
    parser.add_argument("transport", help=f"bumble's name of it: {_TRANSPORTS}")
    parser.add_argument("--address", type=_address, default="C0:FF:EE:00:00:04")
    parser.add_argument("--passkey", type=_passkey, default="123456")
    arguments = parser.parse_args()
    try:
        asyncio.run(on_a_radio(arguments.transport, arguments.address, arguments.passkey))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
