"""What is lost when bluetoothd or an adapter goes, and what must not be. BlueZ is a fake here."""

import asyncio
from types import SimpleNamespace

import pytest
from bleak.backends.bluezdbus import manager

from device_drivers.base import GattPlan
from device_drivers.links import ble
from device_drivers.links.ble import BleLink
from device_drivers.links.ble_base import BleOptions, BlePatch, Claims
from device_drivers.links.ble_bus import Adapter
from device_drivers.links.ble_policy import Policy

ADDRESS, PATCH = "F0:F1:F2:F3:F4:00", "NFLX_0A1B2C3D"
SECURE = GattPlan("181f", authenticated=True)


def adapter(name, last):
    return Adapter(f"/org/bluez/{name}", name, f"00:1B:DC:0F:00:0{last}", powered=True)


class Patches:
    """A registry of one patch."""

    def __init__(self, *plans, **changes):
        self.patch = BlePatch(PATCH, ADDRESS, plans, **changes)

    def patches(self):
        return {PATCH: self.patch}


class Air:
    """BlueZ and its scanner, as long as `air` says; what a test changes it sees from then on."""

    def __init__(self):
        self.owner, self.adapter, self.known, self.lost = ":1.1", adapter("hci0", 1), {}, None

    def bluez(self, lost, _):
        self.lost = lost
        return SimpleNamespace(
            open=self._nothing,
            close=lambda: None,
            ready_adapter=self._adapter,
            owner=self._owner,
            devices=self._devices,
            ended=self._for_ever,
        )

    def scanner(self, *_):
        return SimpleNamespace(run=self._for_ever)

    async def _nothing(self):
        pass

    async def _for_ever(self):
        await asyncio.sleep(3600)

    async def _adapter(self, _):
        return self.adapter

    async def _owner(self):
        return self.owner

    async def _devices(self, _):
        return self.known


@pytest.fixture
def air(monkeypatch):
    made = Air()
    monkeypatch.setattr(ble, "Bluez", made.bluez)
    monkeypatch.setattr(ble, "Scanner", made.scanner)
    monkeypatch.setattr(ble, "_RETRY_SECONDS", 0.02)
    return made


class Running:
    """A link at work; `anew` is its next session."""

    def __init__(self, air, link):
        self.air, self.link = air, link

    async def __aenter__(self):
        self.task = asyncio.create_task(self.link.run())
        await self.up(1)
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def up(self, sessions):
        async with asyncio.timeout(5):
            while self.link.state.connects < sessions or not self.link.state.connected:
                await asyncio.sleep(0.01)

    async def anew(self, path=None):
        sessions = self.link.state.connects
        self.air.lost(path, "gone")
        await self.up(sessions + 1)


def link(patches, claims=None, name="hci0"):
    return BleLink(BleOptions(name, Policy()), patches, claims or Claims())


async def test_bleak_believes_nothing_that_a_bluetoothd_said_which_is_dead(air, monkeypatch):
    """It goes without a word: bleak has the patch connected at hci0 for ever, and the adapter is hci1 by now."""
    ended = []
    theirs = manager.BlueZManager()
    assert hasattr(theirs, "_bus")
    theirs._bus = SimpleNamespace(disconnect=lambda: ended.append(air.owner))
    monkeypatch.setitem(manager._global_instances, asyncio.get_running_loop(), theirs)
    async with Running(air, link(Patches(SECURE))) as running:
        await running.anew(air.adapter.path)
        assert not ended, "only the adapter was gone: another adapter may be in the middle of something"
        air.owner = ":1.2"
        await running.anew()
        assert ended == [":1.2"]
        await running.anew()
        assert ended == [":1.2"]
