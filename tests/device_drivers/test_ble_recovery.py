"""What is lost when bluetoothd or an adapter goes, and what must not be. BlueZ is a fake here."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from bleak import BleakClient
from bleak.backends.bluezdbus import client, manager
from bleak.backends.bluezdbus.version import BlueZFeatures
from bleak.backends.device import BLEDevice
from bleak.exc import BleakError

from device_drivers.base import GattPlan
from device_drivers.links import ble, ble_bleak
from device_drivers.links.ble import BleLink
from device_drivers.links.ble_base import BleOptions, BlePatch, Claims, RadioLost
from device_drivers.links.ble_bus import Adapter, Bluez, Known
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
        if self.adapter is None:
            raise RadioLost("no adapter")
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


def hears(link, path="/org/bluez/hci1/dev_F0_F1_F2_F3_F4_00"):
    link._on_heard(BLEDevice(ADDRESS, "patch", {"path": path}), SimpleNamespace(service_data={}, rssi=-50))


def bonded_at(adapter):
    path = f"{adapter.path}/dev_F0_F1_F2_F3_F4_00"
    return {ADDRESS: Known(path, ADDRESS, bonded=True, connected=False)}


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


async def test_an_adapter_that_comes_back_under_another_name_keeps_its_patches(air, monkeypatch):
    """BlueZ shows the bond a moment late, as after a start: nothing is left to an adapter that is no more."""
    reached = []

    async def reach(*_):
        reached.append(air.adapter.name)
        await asyncio.sleep(3600)

    made = link(Patches(SECURE, bonded=True), name=air.adapter.address)
    air.known = bonded_at(air.adapter)
    async with Running(air, made) as running:
        monkeypatch.setattr(made, "_reach", reach)
        assert made.state.patches[PATCH].bonded
        air.adapter, air.known = adapter("hci1", 1), {}
        await running.anew()
        hears(made)
        await asyncio.sleep(0.05)
        assert reached == ["hci1"]
        assert "with the adapter" not in made.state.patches[PATCH].reason


def test_a_persons_wish_comes_before_the_bond_of_an_adapter_that_is_gone():
    first, second = adapter("hci0", 1), adapter("hci1", 2)
    claims, patches = Claims(), Patches(SECURE, bonded=True)
    other = link(patches, claims, "hci1")
    other._adapter = second
    other._sync()
    hears(other)
    claims.arrive(first.address, first.name)
    claims.arrive(second.address, second.name)
    claims.bonded(first.address, [PATCH])
    assert other._next(second) is None
    assert other.state.patches[PATCH].reason == "with the adapter hci0"
    claims.leave(first.address)
    assert other._next(second) is None, "nobody asked for another bond"
    assert "pair the patch again" in other.state.patches[PATCH].reason
    patches.patch = replace(patches.patch, passkey=123456)
    other._sync()
    assert other._next(second) is other._peers[PATCH]


def test_the_newest_bond_counts_when_the_adapter_of_the_old_one_is_back():
    claims = Claims()
    claims.arrive("A", "hci0")
    claims.bonded("A", [PATCH])
    claims.leave("A")
    claims.arrive("B", "hci1")
    claims.bonded_anew("B", PATCH)
    claims.arrive("A", "hci2")
    claims.bonded("A", [PATCH])
    claims.bonded("B", [PATCH])
    assert claims.bonded_elsewhere(PATCH, "A", wished=True) == "hci1"
    assert claims.bonded_elsewhere(PATCH, "B", wished=False) is None
    claims.bonded("B", [])
    claims.bonded("A", [PATCH])
    assert claims.bonded_elsewhere(PATCH, "B", wished=False) == "hci2"


def test_whether_a_patch_is_bonded_is_not_known_while_the_radio_is_lost():
    lost = link(Patches(SECURE, bonded=True))
    lost._sync()
    lost.state.patches[PATCH].bonded = True
    lost._down("unplugged")
    assert lost.state.patches[PATCH].bonded is None


async def test_bleak_runs_no_program_whose_end_every_connect_would_wait_for(air, monkeypatch):
    """Cancelled once, bleak's `bluetoothctl --version` leaves an event that nobody sets."""
    monkeypatch.setattr(BlueZFeatures, "checked_bluez_version", False)
    monkeypatch.setattr(BlueZFeatures, "_check_bluez_event", asyncio.Event())

    async def refuse():
        raise BleakError("got as far as BlueZ")

    monkeypatch.setattr(client, "get_global_bluez_manager", refuse)
    async with Running(air, link(Patches(SECURE))):
        device = BLEDevice(ADDRESS, "patch", {"path": "/org/bluez/hci0/dev_F0_F1_F2_F3_F4_00"})
        with pytest.raises(BleakError, match="got as far as BlueZ"):
            await asyncio.wait_for(BleakClient(device).connect(), 2)


async def test_an_adapter_that_is_not_there_lets_go_of_nothing_that_another_has(air):
    claims = Claims()
    air.adapter = adapter("hci1", 2)
    async with Running(air, link(Patches(SECURE), claims, "hci1")) as running:
        assert claims.take(PATCH, "another")
        air.adapter = None
        air.lost(None, "gone")
        async with asyncio.timeout(5):
            while running.link.state.reason != "no adapter":
                await asyncio.sleep(0.01)
        assert not claims.take(PATCH, "a third")
    claims.leave("another")
    assert claims.take(PATCH, "a third")


@pytest.mark.parametrize("where", ["_next", "_sync"])
async def test_a_link_that_fails_by_a_bug_does_not_say_that_it_is_connected(air, monkeypatch, where):
    made = link(Patches(SECURE))
    async with Running(air, made) as running:
        made.state.patches[PATCH].connected = True

        def bug(*_):
            raise KeyError("a bug")

        monkeypatch.setattr(made, where, bug)
        air.lost(None, "gone")
        with pytest.raises(KeyError):
            await asyncio.wait_for(running.task, 5)
    assert not made.state.connected
    assert made.state.reason == "internal error: please report it"
    assert not made.state.patches[PATCH].connected


async def test_a_bus_that_lets_nobody_in_is_said_and_is_no_bug(tmp_path, monkeypatch):
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n")
        writer.close()

    path = tmp_path / "bus"
    async with await asyncio.start_unix_server(refuse, path):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={path}")
        closed = Bluez(print, print)
        with pytest.raises(RadioLost, match="does not let us in"):
            await closed.open()
        closed.close()


async def test_a_patch_that_is_away_does_not_wait_for_an_adapter_that_is_there(air):
    made = link(Patches(SECURE, bonded=True))
    state = made.state.patches
    async with Running(air, made) as running:
        assert state[PATCH].reason == "not heard yet"
        air.adapter = None
        air.lost(None, "gone")
        async with asyncio.timeout(5):
            while made.state.reason != "no adapter":
                await asyncio.sleep(0.01)
        assert state[PATCH].reason == "waiting for the adapter"
        air.adapter = adapter("hci0", 1)
        await running.up(2)
        assert state[PATCH].reason == "not heard since the adapter came back"
        hears(made)
        assert state[PATCH].reason == "heard, waiting for its turn"


class Dropping:
    """bleak where each link is lost at once, `times` in a row."""

    def __init__(self, times, connected=True):
        self.links, self._times, self._connected = 0, times, connected

    async def __call__(self, _class, device, _name, on_disconnected, **_):
        while self.links < self._times:
            self.links += 1
            on_disconnected(None)
            await asyncio.sleep(0)
        self.client = SimpleNamespace(is_connected=self._connected, lose=lambda: on_disconnected(None))
        return self.client


@pytest.mark.parametrize(("times", "links"), [(0, 0), (2, 2), (50, 3)])
async def test_a_link_that_is_lost_at_once_is_not_made_again_and_again(monkeypatch, times, links):
    dropping, told = Dropping(times), []
    monkeypatch.setattr(ble_bleak, "establish_connection", dropping)
    device = BLEDevice(ADDRESS, PATCH, {})
    if times > links:
        with pytest.raises(TimeoutError, match="lost at once"):
            await ble_bleak.connect(device, PATCH, lambda: told.append("lost"))
    else:
        client = await ble_bleak.connect(device, PATCH, lambda: told.append("lost"))
        assert told == []
        client.lose()
        assert told == ["lost"]
    assert dropping.links == links


async def test_a_link_that_is_lost_between_its_last_answer_and_its_user_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(ble_bleak, "establish_connection", Dropping(0, connected=False))
    await ble_bleak.connect(BLEDevice(ADDRESS, PATCH, {}), PATCH, lambda: told.append("lost"))
    assert told == ["lost"]
