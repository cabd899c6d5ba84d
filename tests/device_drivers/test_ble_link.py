"""What the machine of `make test-vm` cannot show within minutes: silence without end. BlueZ is a fake here."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from bleak.backends.device import BLEDevice
from dbus_fast import MessageType

from device_drivers.base import GattPlan
from device_drivers.links import ble, ble_connection, ble_pairing, ble_peer, ble_scanner
from device_drivers.links.ble import BleLink
from device_drivers.links.ble_base import BleOptions, BlePatch, Claims, Missing, PatchLost, RadioLost
from device_drivers.links.ble_bus import Adapter, Bluez, Known
from device_drivers.links.ble_policy import Policy
from device_drivers.profiles import battery, continuous_glucose

ADAPTER = Adapter("/org/bluez/hci0", "hci0", "00:1B:DC:0F:00:01", powered=True)
OPTIONS = BleOptions("hci0", Policy())
ADDRESS = "F0:F1:F2:F3:F4:00"
PATCH = "NFLX_0A1B2C3D"
PATH = "/org/bluez/hci0/dev_F0_F1_F2_F3_F4_00"


class Bus:
    """Answers every call; `Pair` never."""

    def __init__(self):
        self.called = []

    def export(self, *_):
        pass

    unexport = export

    async def call(self, message):
        self.called.append(message.member)
        if message.member == "Pair":
            await asyncio.sleep(3600)
        return SimpleNamespace(message_type=MessageType.METHOD_RETURN, body=[])


class Patches:
    """A registry of one patch."""

    def __init__(self, **changes):
        self.patch = BlePatch(PATCH, ADDRESS, (GattPlan("181f", authenticated=True),), **changes)

    def patches(self):
        return {PATCH: self.patch}

    def bonded(self, device_id):
        raise AssertionError("nothing bonded here")

    def missing(self, *_):
        return Missing(0, hole=False)


def opened(**changes):
    return {"passkey": 123456, "window": datetime.now(UTC) + timedelta(minutes=10)} | changes


@pytest.fixture
async def bluez():
    made = Bluez(lambda *_: None, lambda *_, **__: None)
    made.bus = Bus()
    return made


def heard(patches):
    """A link, and its peer that was just heard."""
    link = BleLink(OPTIONS, patches, Claims())
    link._sync()
    link._on_heard(BLEDevice(ADDRESS, "patch", {"path": PATH}), SimpleNamespace(service_data={}, rssi=-50))
    return link, link._peers[PATCH]


async def test_a_pairing_that_never_ends_costs_one_try_and_no_other_link(bluez, monkeypatch):
    monkeypatch.setattr(ble_pairing, "_PAIR_SECONDS", 0.02)
    link, peer = heard(Patches(**opened()))
    for tries in range(1, 4):
        await link._bond(bluez, ADAPTER, peer, 123456)
        assert peer._bond_tries == tries
        peer.device = BLEDevice(ADDRESS, "patch", {"path": PATH})
    assert bluez.bus.called.count("CancelPairing") == 3
    assert bluez.bus.called[-1] == "UnregisterAgent"
    assert peer.state.pair_again
    assert "did not finish pairing; pair it again" in peer.state.reason


@pytest.mark.parametrize("window", [True, False])
async def test_a_bond_that_was_not_made_here_is_not_used(bluez, window):
    """Just Works, and the power went before the bond could be taken back: anybody could have made it."""
    link, peer = heard(Patches(**opened() if window else {}))

    async def devices(_):
        return {ADDRESS: Known(PATH, ADDRESS, bonded=True, connected=False)}

    bluez.devices = devices
    await link._reach(bluez, ADAPTER, peer)
    assert bluez.bus.called == (["RemoveDevice"] if window else [])
    assert ("was not made here" in peer.state.reason) is not window
    assert peer.connection is None


async def test_a_quiet_place_does_not_end_the_links_of_those_who_are_there(monkeypatch):
    class Silent:
        def __init__(self, *_, **__):
            pass

        async def start(self):
            pass

        stop = start

    monkeypatch.setattr(ble_scanner, "BleakScanner", Silent)
    monkeypatch.setattr(ble_scanner, "_SILENT_STARTS_CONNECTED", 3)
    switched = []

    class Radio:
        async def power(self, adapter, *, on):
            switched.append(on)

    for connected, starts in ((False, 2), (True, 3)):
        scanner = ble_scanner.Scanner(Radio(), ADAPTER, print, lambda: True, lambda now=connected: now, 0.0)
        with pytest.raises(RadioLost, match="nothing was heard"):
            await scanner.run()
        assert scanner.restarts == starts
    assert switched == [False, False]


class Client:
    """Takes every write and answers none; its battery goes on talking."""

    def __init__(self):
        self.heard = {}
        self.services = [
            self.service("181f", {"2a52": ["write", "indicate"], "2aa7": ["notify"]}),
            self.service("180f", {"2a19": ["notify"]}),
        ]

    @staticmethod
    def service(uuid, characteristics):
        full = "0000{}-0000-1000-8000-00805f9b34fb".format
        made = [SimpleNamespace(uuid=full(each), properties=names) for each, names in characteristics.items()]
        return SimpleNamespace(uuid=full(uuid), obj=["/service"], characteristics=made)

    async def start_notify(self, characteristic, callback):
        self.heard[characteristic.uuid[4:8]] = callback

    async def write_gatt_char(self, *_, **__):
        pass


async def test_other_values_do_not_keep_a_fetch_alive_that_is_never_answered(monkeypatch):
    monkeypatch.setattr(ble_connection, "_FETCH_SECONDS", 0.2)
    patch = BlePatch(PATCH, ADDRESS, (continuous_glucose.GATT, battery.GATT))
    client = Client()

    def sink(batch):
        asyncio.get_running_loop().call_soon(batch.connection.acknowledged)

    connection = ble_connection.Connection(patch, Patches(), OPTIONS, sink, lambda: datetime.now(UTC))
    work = asyncio.create_task(connection.run(client, lambda: True))
    while not work.done():
        await asyncio.sleep(0.02)
        if "2a19" in client.heard:
            client.heard["2a19"](None, b"\x50")
    with pytest.raises(PatchLost, match="fetching stored records: no answer"):
        work.result()


async def test_other_values_do_not_hide_that_the_records_have_stopped():
    options = BleOptions("hci0", Policy(), stale_link=0.3)
    patch = BlePatch(PATCH, ADDRESS, (continuous_glucose.GATT, battery.GATT))
    client = Client()

    def sink(batch):
        asyncio.get_running_loop().call_soon(batch.connection.acknowledged)

    patches = Patches()
    patches.missing = lambda *_: None
    connection = ble_connection.Connection(patch, patches, options, sink, lambda: datetime.now(UTC))
    work = asyncio.create_task(connection.run(client, lambda: True))
    await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0.05)
        client.heard["2aa7"](None, b"\x00")
    assert not work.done(), "records keep it"
    for _ in range(20):
        await asyncio.sleep(0.05)
        client.heard["2a19"](None, b"\x50")
    assert work.done()
    assert "silent" in work.result()


async def test_nobody_is_connected_while_the_buffer_takes_nothing():
    link, _ = heard(Patches())
    link._adapter = ADAPTER
    connection = SimpleNamespace(acknowledged=lambda: None)
    batches = [ble_connection.BleBatch(connection) for _ in range(OPTIONS.page + 1)]
    for batch in batches:
        link._sink(batch)
    assert link._next(ADAPTER) is None
    for batch in batches:
        link.acknowledge(batch)
    assert link._next(ADAPTER) is link._peers[PATCH]


async def test_a_connection_that_need_no_longer_last_ends_so_that_a_fifth_patch_gets_its_turn(monkeypatch):
    monkeypatch.setattr(ble_connection, "_STAY_SECONDS", 0.02)
    patch = BlePatch(PATCH, ADDRESS, (battery.GATT,))
    many = []
    connection = ble_connection.Connection(patch, Patches(), OPTIONS, lambda _: None, lambda: datetime.now(UTC))
    work = asyncio.create_task(connection.run(Client(), lambda: not many))
    await asyncio.sleep(0.1)
    assert not work.done()
    many.append("a fifth")
    assert "everything is here" in await asyncio.wait_for(work, 5)


class Air:
    """BlueZ as the link sees it, for one session: an adapter, no device."""

    def __init__(self, lost, _):
        self.lost = lost
        Air.newest = self

    async def open(self):
        pass

    async def ready_adapter(self, _):
        return ADAPTER

    async def owner(self):
        return ":1.1"

    async def devices(self, _):
        return {}

    async def ended(self):
        await asyncio.sleep(3600)

    def close(self):
        pass


async def test_an_adapter_that_goes_in_the_moment_a_connection_ends_is_noticed(monkeypatch):
    """The end of a connection wakes the dispatcher: that must not hide from it that its session is over."""

    class Hears(Air):
        async def run(self):
            await asyncio.sleep(3600)

    monkeypatch.setattr(ble, "Bluez", Air)
    monkeypatch.setattr(ble, "Scanner", lambda *_: Hears(None, None))
    monkeypatch.setattr(ble, "_RETRY_SECONDS", 3600)
    link = BleLink(OPTIONS, Patches(), Claims())
    running = asyncio.create_task(link.run())
    while not link.state.connected:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    link._lost.add_done_callback(lambda _: link._wake.set())
    link._on_lost(None, "unplugged")
    await asyncio.sleep(0.2)
    assert link.state.reason == "unplugged"
    assert not link.state.connected
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_bond_that_bluez_shows_late_is_found_within_seconds_and_nobody_is_sent_to_the_patch():
    link, peer = heard(Patches(bonded=True))
    link._adapter = ADAPTER

    async def devices(_):
        return {}

    await link._reach(SimpleNamespace(devices=devices), ADAPTER, peer)
    assert peer.state.pair_again
    assert link._next(ADAPTER) is None
    peer._not_before -= 30
    assert link._next(ADAPTER) is peer
    peer.connection = SimpleNamespace(complete=False, proven=True)
    link._next(ADAPTER)
    assert peer.state.pair_again
    peer.connection.complete = True
    link._next(ADAPTER)
    assert not peer.state.pair_again
    assert peer.state.bonded


@pytest.mark.parametrize(("apart", "said_at"), [(1.0, 6), (21.0, 4), (2_000.0, None)])
def test_a_bond_is_called_lost_after_a_minute_of_failures_and_not_of_a_few_seconds(monkeypatch, apart, said_at):
    clock = [10_000.0]
    monkeypatch.setattr(ble_peer, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    link, peer = heard(Patches(bonded=True))
    peer.state.bonded, said = True, []
    for _ in range(12):
        link._failed(peer, PatchLost("does not connect (the link is lost at once)"))
        said.append(peer.state.pair_again)
        clock[0] = max(clock[0] + apart, peer._not_before)
    assert said.index(True) + 1 == said_at if said_at else not any(said)
    assert not said_at or "pair it again" in peer.state.reason
