"""Emulated patches on the radio that the guest's BlueZ is joined to. Their event loop has a thread of its own, so tests
may block.
"""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

from bumble import hci
from bumble.transport import open_transport

from device_drivers.emulated.ble_patch import BlePatch
from device_drivers.emulated.cgm_sensor import CgmSensor
from device_drivers.emulated.radio import Air, GatewayController, add_patch

ADAPTER = "00:1B:DC:0F:00:01"


class Ward:
    """`attach` brings the guest's adapter to life; `do` runs a coroutine among the patches."""

    def __init__(self, vm):
        self._vm = vm
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.patches: list[BlePatch] = []
        self.host: GatewayController | None = None
        self._transport = None
        self.air = self.do(self._make_air())

    async def _make_air(self):
        return Air()

    def do(self, work, seconds=60):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def call(self, function, *arguments):
        """A plain function among the patches."""

        async def run():
            return function(*arguments)

        return self.do(run())

    def attach(self):
        """Join the adapter's port of a machine that was started (again), and plug the adapter in."""
        self.do(self._attach())
        there = "until [ -e /dev/virtio-ports/hci0 ]; do sleep .1; done"
        self._vm.run(f"{there}; systemctl restart --no-block hci-bridge").ok()

    async def _attach(self):
        if self.host is not None:
            for patch in self.patches:
                patch.lose_link()
            self.air.remove_controller(self.host)
            await self._transport.close()
        self._transport = await open_transport(f"unix:{self._vm.work}/hci0")
        self.host = GatewayController(
            "gateway",
            public_address=ADAPTER,
            link=self.air,
            host_source=self._transport.source,
            host_sink=self._transport.sink,
        )
        # bumble announces these two but does not implement them well enough for BlueZ: nothing connects.
        self.host.le_features &= ~(hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING)

    def add(self, index, *, passkey=None, minutes=30, interval=1):
        """A patch whose session began `minutes` ago, with all its records."""
        sensor = CgmSensor(datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=minutes), interval=interval)
        sensor.measure_until(minutes)

        async def start():
            patch = add_patch(self.air, f"F0:F1:F2:F3:F4:{index:02X}", sensor, passkey)
            await patch.start()
            return patch

        patch = self.do(start())
        self.patches.append(patch)
        return patch

    def close(self):
        if self._transport is not None:
            self.do(self._transport.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
