"""One BLE adapter: its owner, which scans, connects one patch at a time, and survives bluetoothd and the adapter."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from bleak import BleakClient
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from device_drivers import advertising
from device_drivers.links import ble_bleak
from device_drivers.links.base import Asked, Batch
from device_drivers.links.ble_base import (
    BleOptions,
    BlePatches,
    BleState,
    BondLost,
    Claims,
    PatchLost,
    PatchState,
    RadioLost,
)
from device_drivers.links.ble_bus import Adapter, Bluez, Known, Refused
from device_drivers.links.ble_config import read_main_conf, supervision_warning
from device_drivers.links.ble_connection import BleBatch, Connection
from device_drivers.links.ble_pairing import bond
from device_drivers.links.ble_peer import Peer
from device_drivers.links.ble_policy import Listening, stays
from device_drivers.links.ble_scanner import Scanner
from device_drivers.links.tasks import end, first

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0
_STRAY_SECONDS = 30.0


class BleLink:
    """A Link over one adapter. One owner per adapter: no second program may connect on it."""

    transport = "ble"
    # Nobody waits for our acknowledgement: what is not durable is fetched again.
    window = 1 << 30
    unacknowledged = 0

    def __init__(
        self,
        options: BleOptions,
        patches: BlePatches,
        claims: Claims,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._options, self._patches, self._claims, self._clock = options, patches, claims, clock
        self._inbox: asyncio.Queue[Batch] = asyncio.Queue()
        self._peers: dict[str, Peer] = {}
        self._unpaired: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._listening = Listening()
        self._bluez: Bluez | None = None
        self._adapter: Adapter | None = None
        self._lost: asyncio.Future[str] | None = None
        # Batches that are not durable yet, of all connections
        self._waiting = 0
        self.state = BleState(f"ble {options.adapter}")

    async def receive(self) -> Batch:
        return await self._inbox.get()

    def acknowledge(self, batch: Batch) -> None:
        assert isinstance(batch, BleBatch)
        self._waiting -= 1
        batch.connection.acknowledged()

    def ask(self, asked: Asked) -> None:
        peer = self._peers.get(asked.device)
        if peer and peer.connection:
            peer.connection.ask(asked)

    async def run(self) -> None:
        ble_bleak.settle_version()
        while True:
            try:
                self._sync()
                await self._session()
            except RadioLost as error:
                self._down(str(error))
            except Refused as error:
                self._down(f"BlueZ refuses: {error}")
            except Exception:
                self._down("internal error: please report it")
                raise
            await asyncio.sleep(_RETRY_SECONDS)

    # one life of bluetoothd and of the adapter

    async def _session(self) -> None:
        self._lost = asyncio.get_running_loop().create_future()
        bluez = self._bluez = Bluez(self._on_lost, self._on_table)
        work: list[asyncio.Task[None]] = []
        try:
            await bluez.open()
            adapter = self._adapter = await bluez.ready_adapter(self._options.adapter)
            ble_bleak.serving(await bluez.owner())
            self._claims.arrive(adapter.address, adapter.name)
            await self._end_strays(bluez, adapter)
            scanner = Scanner(
                bluez, adapter, self._on_heard, self._anybody_missing, self._anybody_connected,
                self._options.scan_silence,
            )  # fmt: skip
            work = [
                asyncio.create_task(each) for each in (scanner.run(), self._dispatch(bluez, adapter), bluez.ended())
            ]
            self._up(adapter)
            await first([*work, self._lost])
            if self._lost.done():
                raise RadioLost(self._lost.result())
            for task in work:
                if task.done():
                    task.result()
        finally:
            await end((*work, *self._tasks))
            # A task that is cancelled before its first step, or while it cleans up, could not do this itself.
            for peer in self._peers.values():
                peer.connection = None
            if self._adapter is not None:
                self._claims.leave(self._adapter.address)
            self._bluez = self._adapter = None
            bluez.close()

    async def _end_strays(self, bluez: Bluez, adapter: Adapter) -> None:
        """Links of our patches that nobody here has: an earlier process left them, or a connect that was given up came
        about all the same. Such a patch does not advertise, and would never be heard again. Bonds stay.
        """
        devices = await self._devices(bluez, adapter)
        for peer in self._peers.values():
            known = devices.get(peer.patch.address)
            if known and known.connected and not peer.connection:
                log.info("ble: ending a link that nobody here has device=%s", peer.patch.device_id)
                await bluez.disconnect(known)

    async def _devices(self, bluez: Bluez, adapter: Adapter) -> dict[str, Known]:
        """What BlueZ knows, compared with the registry."""
        devices = await bluez.devices(adapter)
        ours = {peer.patch.address: peer for peer in self._peers.values()}
        for address, peer in ours.items():
            known = devices.get(address)
            peer.state.bonded = bool(known and known.bonded) and not peer.lost_bond and peer.trusts_bond
        strangers = sorted(address for address, known in devices.items() if known.bonded and address not in ours)
        self._warn(
            "strangers",
            f"bonded in BlueZ but not paired here: {', '.join(strangers)} (`bluetoothctl remove ADDRESS` forgets one)"
            if strangers
            else None,
        )
        self._claims.bonded(adapter.address, [r.patch.device_id for r in ours.values() if r.state.bonded])
        return devices

    # which patch next

    def _sync(self) -> None:
        """Follow the registry: patches that were paired, unpaired, or whose pairing window opened."""
        paired = self._patches.patches()
        for device_id in self._peers.keys() - paired.keys():
            peer = self._peers.pop(device_id)
            del self.state.patches[device_id]
            if peer.connection:
                peer.connection.lost("unpaired")
            self._unpaired.add(peer.patch.address)
        for device_id, patch in paired.items():
            if device_id in self._peers:
                self._peers[device_id].renew(patch)
            else:
                state = self.state.patches[device_id] = PatchState(since=self._clock())
                self._peers[device_id] = Peer(patch, state)

    def _anybody_missing(self) -> bool:
        return any(not peer.connection for peer in self._peers.values())

    def _anybody_connected(self) -> bool:
        return any(peer.state.connected for peer in self._peers.values())

    def _elsewhere(self, peer: Peer, adapter: Adapter) -> str | None:
        """Another adapter that has the patch's bond, for people."""
        wished = peer.patch.passkey is not None
        return self._claims.bonded_elsewhere(peer.patch.device_id, adapter.address, wished=wished)

    def _mine(self) -> list[Peer]:
        """Without the patches whose bond another adapter has."""
        adapter = self._adapter
        return [] if adapter is None else [p for p in self._peers.values() if not self._elsewhere(p, adapter)]

    def _stays(self) -> bool:
        return stays(len(self._mine()), self._options.policy)

    async def _dispatch(self, bluez: Bluez, adapter: Adapter) -> None:
        """One connect at a time, for ever."""
        looked = time.monotonic()
        while True:
            self._wake.clear()
            self._sync()
            await self._forget_unpaired(bluez, adapter)
            if time.monotonic() - looked > _STRAY_SECONDS:
                await self._end_strays(bluez, adapter)
                looked = time.monotonic()
            peer = self._next(adapter)
            if peer is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._wake.wait()
                continue
            try:
                await self._reach(bluez, adapter, peer)
            finally:
                if not peer.connection:
                    self._claims.release(peer.patch.device_id, adapter.address)

    async def _forget_unpaired(self, bluez: Bluez, adapter: Adapter) -> None:
        """A person ended these pairings: their bonds go too."""
        if self._unpaired:
            devices = await bluez.devices(adapter)
            for address in self._unpaired & devices.keys():
                with contextlib.suppress(Refused):
                    await bluez.remove(adapter, devices[address].path)
            self._unpaired.clear()

    def _next(self, adapter: Adapter) -> Peer | None:
        now = time.monotonic()
        mine = self._mine()
        for peer in self._peers.values():
            if other := self._elsewhere(peer, adapter):
                peer.say(f"with the adapter {other}", self._clock())
            else:
                peer.look(self._clock())
        if self._waiting > self._options.page:
            return None  # the buffer takes nothing: what it has not taken would only grow
        in_use = sum(peer.connection is not None for peer in mine)
        candidates = [peer.candidate(now) for peer in mine]
        chosen = self._listening.next_patch(candidates, now, self._options.policy, in_use)
        if chosen is None:
            return None
        if not self._claims.take(chosen, adapter.address):
            self._peers[chosen].wait(5.0)
            self._peers[chosen].say("with the adapter that reached it first", self._clock())
            return None
        return self._peers[chosen]

    # one patch

    async def _reach(self, bluez: Bluez, adapter: Adapter, peer: Peer) -> None:
        devices = await self._devices(bluez, adapter)
        known = devices.get(peer.patch.address)
        bonded, asked = bool(known and known.bonded), peer.patch.passkey is not None
        if not peer.patch.authenticated or (bonded and peer.trusts_bond and not (peer.lost_bond and asked)):
            await self._connect(peer)
        elif known and bonded and asked:
            # A person pairs it again: the half of a bond that is left here goes, or the one that nobody here made.
            with contextlib.suppress(Refused):
                await bluez.remove(adapter, known.path)
            peer.forget_device()
            peer.say("the old bond is removed, waiting to hear the patch", self._clock())
        elif peer.patch.passkey is None:
            peer.unbonded(stranger=bonded, now=self._clock())
        else:
            await self._bond(bluez, adapter, peer, peer.patch.passkey)

    async def _bond(self, bluez: Bluez, adapter: Adapter, peer: Peer, passkey: int) -> None:
        """Pair: a person opened the window."""
        patch = peer.patch
        assert peer.device is not None
        peer.bond_starts(self._clock())
        outcome = await bond(bluez, adapter, peer.device.details["path"], passkey)
        self._listening.connected(time.monotonic())
        log.info("ble: %s device=%s", outcome.reason, patch.device_id)
        peer.bond_tried(outcome, self._clock())
        if outcome.bonded:
            self._patches.bonded(patch.device_id)
            self._claims.bonded_anew(adapter.address, patch.device_id)
            await self._devices(bluez, adapter)
            await self._connect(peer)

    async def _connect(self, peer: Peer) -> None:
        patch = peer.patch
        assert peer.device is not None
        connection = Connection(patch, self._patches, self._options, self._sink, self._clock)
        peer.say("connecting", self._clock())
        peer.connection = connection
        try:
            client = await ble_bleak.connect(peer.device, patch.device_id, lambda: connection.lost("the link was lost"))
        except BaseException as error:
            peer.connection = None
            if not isinstance(error, Exception):
                raise
            self._failed(peer, PatchLost(f"does not connect ({str(error) or type(error).__name__})"))
            return
        finally:
            self._listening.connected(time.monotonic())
        task = asyncio.create_task(self._serve(peer, connection, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, peer: Peer, connection: Connection, client: BleakClient) -> None:
        """A connection from its beginning to its end."""
        peer.connected(self._clock())
        try:
            reason = await connection.run(client, self._stays)
            if connection.proven or not peer.patch.authenticated:
                peer.ended(reason, connection.complete, self._clock())
            else:
                self._failed(peer, PatchLost(reason))
        except PatchLost as error:
            self._failed(peer, error)
        except Exception:
            log.exception("ble: connection failed device=%s", peer.patch.device_id)
            self._failed(peer, PatchLost("internal error: please report it"))
        finally:
            letting_go = ble_bleak.let_go(client)
            if self._lost is not None and not self._lost.done():
                await asyncio.shield(letting_go)
            peer.connection = None
            if self._adapter is not None:
                self._claims.release(peer.patch.device_id, self._adapter.address)
            self._wake.set()

    def _failed(self, peer: Peer, error: PatchLost) -> None:
        if self._lost is not None and self._lost.done():
            return  # not the patch's fault
        log.warning("ble: %s device=%s", error, peer.patch.device_id)
        suspicious = peer.failed(str(error), self._clock())
        if isinstance(error, BondLost):
            peer.bond_lost("the patch does not know this gateway's bond any more", self._clock())
        elif suspicious and peer.patch.authenticated and (peer.state.bonded or peer.lost_bond):
            peer.bond_lost(
                "heard, but it does not connect: too far away (bring it closer) or lost its bond", self._clock()
            )

    # what the radio says

    def _sink(self, batch: BleBatch) -> None:
        self.state.received += len(batch.frames)
        self._waiting += 1
        self._inbox.put_nowait(batch)

    def _on_heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        address = device.address.upper()
        for peer in self._peers.values():
            if peer.patch.address == address:
                said = advertising.read(data.service_data, peer.patch.plans)
                peer.heard(device, data.rssi, said, self._clock())
                self._wake.set()

    def _on_lost(self, path: str | None, reason: str) -> None:
        if self._lost is not None and not self._lost.done() and path in {None, self._adapter and self._adapter.path}:
            self._lost.set_result(reason)

    def _on_table(self, path: str, *, added: bool) -> None:
        """GATT services of a device come with a connection; afterwards they come and go when its firmware changed."""
        for peer in self._peers.values():
            if peer.connection and peer.device and path.startswith(peer.device.details["path"] + "/"):
                peer.connection.table_changed(path, added=added)

    def _up(self, adapter: Adapter) -> None:
        self._warn("supervision", supervision_warning(read_main_conf()))
        self.state.connected, self.state.since = True, self._clock()
        self.state.reason = f"adapter {adapter.name} ({adapter.address})"
        self.state.connects += 1
        for peer in self._peers.values():
            peer.radio_back(self._clock())
        log.info("ble: adapter ready name=%s address=%s", adapter.name, adapter.address)

    def _down(self, reason: str) -> None:
        if self.state.connected or self.state.reason != reason:
            log.warning("ble: no radio link=%s reason=%s", self.state.name, reason)
        self.state.connected, self.state.reason, self.state.since = False, reason, self._clock()
        for peer in self._peers.values():
            peer.radio_lost(self._clock())

    def _warn(self, name: str, text: str | None) -> None:
        if text is None:
            self.state.warnings.pop(name, None)
        elif self.state.warnings.get(name) != text:
            self.state.warnings[name] = text
            log.warning("ble: %s", text)
