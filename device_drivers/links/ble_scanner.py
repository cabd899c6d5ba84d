"""The one scanner of an adapter: starts, watches that anything at all is heard, starts again, switches the radio."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError

from device_drivers.links.ble_base import RadioLost
from device_drivers.links.ble_bus import Adapter, Bluez, Refused

log = logging.getLogger(__name__)

Heard = Callable[[BLEDevice, AdvertisementData], None]
_START_SECONDS, _STOP_SECONDS = 15.0, 5.0
# BlueZ reports -127 for a device that is not heard any more
_NOT_HEARD = -127
# After so many silent periods in a row a new start is not enough: the radio is switched off and on. That ends every
# connection, and whoever is looked for may just be away in a quiet place: with connections it takes longer.
_SILENT_STARTS, _SILENT_STARTS_CONNECTED = 2, 20
_FAILURES = (BleakError, OSError, EOFError, TimeoutError, KeyError, AttributeError, AssertionError)


class Scanner:
    """`needed` says whether anybody is looked for: a radio that need not scan leaves the air to Wi-Fi. `connected`:
    whether it has a connection that a switch would end.
    """

    def __init__(
        self,
        bluez: Bluez,
        adapter: Adapter,
        heard: Heard,
        needed: Callable[[], bool],
        connected: Callable[[], bool],
        silence: float,
    ) -> None:
        self._bluez, self._adapter, self._heard = bluez, adapter, heard
        self._needed, self._connected, self._silence = needed, connected, silence
        self._last = time.monotonic()
        self.restarts = 0
        self.silent = False

    async def run(self) -> None:
        """Until cancelled; RadioLost when the adapter cannot scan at all."""
        silent_starts = 0
        while True:
            while not self._needed():
                await asyncio.sleep(0.5)
            started = self._last = time.monotonic()
            await self._scan()
            if not self._needed():
                continue
            self.restarts += 1
            heard_something = self._last > started
            silent_starts = 1 if heard_something else silent_starts + 1
            self.silent = True
            log.warning("ble: nothing heard for %.0f s, scanning anew adapter=%s", self._silence, self._adapter.name)
            if silent_starts >= (_SILENT_STARTS_CONNECTED if self._connected() else _SILENT_STARTS):
                silent_starts = 0
                await self._switch()

    async def _scan(self) -> None:
        """Scan until nobody is looked for any more, or nothing was heard for too long."""
        scanner = BleakScanner(
            self._on_advertisement,
            scanning_mode="active",
            # Every advertisement, also one that says the same as before: it tells that the patch is still here.
            bluez={"adapter": self._adapter.name, "filters": {"DuplicateData": True}},
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                await scanner.start()
        except _FAILURES as error:
            with contextlib.suppress(*_FAILURES):
                await _stop(scanner)
            raise RadioLost(f"scanning cannot be started ({error or type(error).__name__})") from None
        try:
            while self._needed() and time.monotonic() - self._last <= self._silence:
                await asyncio.sleep(0.5)
        finally:
            # Of a bluetoothd that is gone it says NoReply, DoesNotExist or UnknownObject: nothing is left to stop.
            with contextlib.suppress(*_FAILURES):
                await _stop(scanner)

    async def _switch(self) -> None:
        log.warning("ble: still nothing heard, switching the radio off and on adapter=%s", self._adapter.name)
        with contextlib.suppress(Refused):
            await self._bluez.power(self._adapter, on=False)
        raise RadioLost("nothing was heard for too long: the radio is switched off and on")

    def _on_advertisement(self, device: BLEDevice, data: AdvertisementData) -> None:
        if data.rssi == _NOT_HEARD:
            return
        self._last = time.monotonic()
        self.silent = False
        self._heard(device, data)


async def _stop(scanner: BleakScanner) -> None:
    async with asyncio.timeout(_STOP_SECONDS):
        await scanner.stop()
