"""One connection to one patch: reads, subscriptions, stored records, then what it sends by itself."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime

from bleak import BleakClient
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.exc import BleakError, BleakGATTProtocolError

from device_drivers.advertising import short_uuid
from device_drivers.base import Channel, Frame, RecordAccess, Write
from device_drivers.links.base import Asked, Batch, Exhausted
from device_drivers.links.ble_base import BleOptions, BlePatch, BlePatches, BondLost, PatchLost
from device_drivers.links.tasks import end, first
from device_drivers.record_access import Ended, Fetch, Sweep
from device_drivers.writes import permitted

log = logging.getLogger(__name__)

_GATT_SECONDS = 15.0
# ATT: an indication not answered, or nothing in a procedure, for 30 s is a failed procedure.
_FETCH_SECONDS = 30.0
# However many records: no patch holds a connection slot for longer in one go.
_LONGEST_FETCH_SECONDS = 1_800.0
_BUSY_SECONDS = 2.0
_BUSY_TRIES = 5
_AGAIN_SECONDS = 5.0
_DURABLE_SECONDS = 300.0
# How soon a connection that need no longer last ends
_STAY_SECONDS = 5.0
# ATT: insufficient authentication, key size, encryption
_NEEDS_BOND = {0x05, 0x0C, 0x0F}
_GATT_FAILURES = (BleakError, OSError, EOFError, KeyError, AssertionError)


class BleBatch(Batch):
    """A batch knows its connection."""

    __slots__ = ("connection",)

    def __init__(self, connection: "Connection") -> None:
        super().__init__()
        self.connection = connection


class Connection:
    """Use once: `run` works through the plans of the patch until the link ends, or until everything is here where the
    link shall not stay. Frames go to `sink`, and `acknowledged` comes back for each of its batches.
    """

    def __init__(
        self,
        patch: BlePatch,
        patches: BlePatches,
        options: BleOptions,
        sink: Callable[[BleBatch], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._patch, self._patches, self._options = patch, patches, options
        self._sink, self._clock = sink, clock
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._todo: asyncio.Queue[Asked | None] = asyncio.Queue()
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._durable = asyncio.Event()
        self._durable.set()
        self._unacknowledged = 0
        self._fetch: Fetch | None = None
        self._fetching: RecordAccess | None = None
        self._stops: set[asyncio.Task[None]] = set()
        self._last = self._last_record = time.monotonic()
        self._client: BleakClient | None = None
        self._records = {plan.records.records for plan in patch.plans if plan.records is not None}
        self._guarded = {plan.service for plan in patch.plans if plan.authenticated}
        self.step = "connecting"
        # Everything stored is here; and: the patch accepts our bond.
        self.complete = self.proven = False

    def lost(self, reason: str) -> None:
        """The link has ended, or must."""
        if not self._lost.done():
            self._lost.set_result(reason)

    def table_changed(self, path: str, *, added: bool) -> None:
        """A GATT service came or went. Those that came with this connection may still be announced late."""
        if self._client is not None:
            known = any(service.obj[0] == path for service in self._client.services)
            if known is not added:
                self.lost("the patch changed its GATT table: reading it anew")

    def ask(self, asked: Asked) -> None:
        self._todo.put_nowait(asked)

    def acknowledged(self) -> None:
        """One batch is durable."""
        self._unacknowledged -= 1
        if not self._unacknowledged:
            self._durable.set()
            if self._todo.empty():
                self._todo.put_nowait(None)  # what arrived may have left a hole

    async def run(self, client: BleakClient, stay: Callable[[], bool]) -> str:
        """Returns why it ended; BondLost where the patch does not accept us. `stay`: may it last?"""
        self._client = client
        work = asyncio.create_task(self._work(stay))
        try:
            await first([work, self._lost])
            return await work if work.done() else self._lost.result()
        finally:
            await end((work, *self._stops))

    async def _work(self, stay: Callable[[], bool]) -> str:
        try:
            await self._set_up()
            await self._fetch_everything()
            await self._do_all()
            self.complete = True
            self.step = "connected"
            return await self._stay(stay)
        except BleakGATTProtocolError as error:
            if error.code in _NEEDS_BOND:
                raise BondLost("the patch does not accept our bond any more") from None
            raise PatchLost(f"{self.step}: {error}") from None
        except TimeoutError:
            raise PatchLost(f"{self.step}: no answer") from None
        except _GATT_FAILURES as error:
            raise PatchLost(f"{self.step}: {error or type(error).__name__}") from None

    async def _set_up(self) -> None:
        self.step = "reading"
        for plan in self._patch.plans:
            for channel in plan.reads:
                await self._read(channel)
        self.step = "subscribing"
        for plan in self._patch.plans:
            for channel in plan.subscriptions:
                await self._subscribe(channel)
        # What the reads said, such as the session, decides what is missing.
        await self._until_durable()
        await self._do_all()

    async def _stay(self, stay: Callable[[], bool]) -> str:
        """What the patch sends by itself; holes are fetched as soon as they show."""
        records = [plan.records for plan in self._patch.plans if plan.records is not None]
        patience = max(self._options.stale_link, 3 * self._patch.interval)
        while stay():
            left = self._last + patience - time.monotonic()
            if records and left <= 0:
                return f"connected, but silent for {patience:.0f} s: connecting anew"
            try:
                async with asyncio.timeout(min(left, _STAY_SECONDS) if records else _STAY_SECONDS):
                    first = await self._todo.get()
            except TimeoutError:
                continue
            await self._do(first, *self._drained())
            for access in records:
                missing = self._patches.missing(self._patch.device_id, access)
                if self._durable.is_set() and missing is not None and missing.hole:
                    await self._fetch_all(access)
            self.step = "connected"
        return "everything is here; connected again when it has more"

    async def _do_all(self) -> None:
        while asked := self._drained():
            await self._do(*asked)

    def _drained(self) -> list[Asked | None]:
        return [self._todo.get_nowait() for _ in range(self._todo.qsize())]

    async def _do(self, *all_asked: Asked | None) -> None:
        """What was asked meanwhile, each thing once: a page of damaged records asks for the same again and again."""
        asked = [each for each in all_asked if each is not None]
        reads = dict.fromkeys(channel for each in asked for channel in each.reads)
        for channel in reads:
            await self._read(channel)
        for write in dict.fromkeys(write for each in asked for write in each.writes):
            await self._write(write)
        if reads:
            await self._until_durable()
            await self._fetch_everything()

    # records

    async def _fetch_everything(self) -> None:
        for plan in self._patch.plans:
            if plan.records is not None:
                await self._fetch_all(plan.records)

    async def _fetch_all(self, access: RecordAccess) -> None:
        """Fetch until nothing is missing. What is still missing after the same request was answered twice does not
        exist.
        """
        if self._find(access.control) is None:
            return
        self.step = "fetching stored records"
        sweep, refusals = Sweep(access, self._options.page), 0
        while True:
            await self._until_durable()
            missing = self._patches.missing(self._patch.device_id, access)
            fetch = sweep.next(missing.first, hole=missing.hole) if missing is not None else None
            if missing is None or fetch is None:
                return
            if sweep.again:
                await asyncio.sleep(_AGAIN_SECONDS)
            ended = await self._run_fetch(access, fetch, missing.first)
            if sweep.ended(ended):
                self._hand_over(exhausted=Exhausted(self._patch.device_id, access))
            elif ended.how == "refused":
                refusals += 1
                if refusals >= _BUSY_TRIES:
                    raise PatchLost(f"{self.step}: {ended.reason}")
                await asyncio.sleep(_BUSY_SECONDS)

    async def _run_fetch(self, access: RecordAccess, fetch: Fetch, sequence: int) -> Ended:
        self._fetch, self._fetching = fetch, access
        self._last_record = time.monotonic()
        try:
            async with asyncio.timeout(_LONGEST_FETCH_SECONDS):
                await self._write(Write(access.control, fetch.start(sequence)))
                while True:
                    ended = fetch.answer(await self._next_answer())
                    if ended is not None:
                        return ended
        finally:
            self._fetch = self._fetching = None

    async def _next_answer(self) -> bytes:
        """An indication; TimeoutError when no record came meanwhile that would give the procedure more time."""
        while True:
            left = self._last_record + _FETCH_SECONDS - time.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0)):
                    return await self._answers.get()
            if time.monotonic() - self._last_record >= _FETCH_SECONDS:
                raise TimeoutError

    # values

    def _find(self, channel: Channel) -> BleakGATTCharacteristic | None:
        assert self._client is not None
        for service in self._client.services:
            if short_uuid(service.uuid) == channel.service:
                for characteristic in service.characteristics:
                    if short_uuid(characteristic.uuid) == channel.characteristic:
                        return characteristic
        return None

    async def _read(self, channel: Channel) -> None:
        """Read one value where the patch has it. That one value cannot be read is no reason to give up the others."""
        found = self._find(channel)
        if found is None or "read" not in found.properties:
            return
        assert self._client is not None
        try:
            async with asyncio.timeout(_GATT_SECONDS):
                value = await self._client.read_gatt_char(found)
        except BleakGATTProtocolError as error:
            if error.code in _NEEDS_BOND and channel.service in self._guarded:
                raise
            log.info("ble: not readable device=%s characteristic=%s: %s", self._patch.device_id, channel[1], error)
            return
        self._hand_over(channel, bytes(value))

    async def _subscribe(self, channel: Channel) -> None:
        found = self._find(channel)
        if found is None or not {"notify", "indicate"} & set(found.properties):
            return
        assert self._client is not None
        async with asyncio.timeout(_GATT_SECONDS):
            await self._client.start_notify(found, lambda _, value: self._notified(channel, bytes(value)))

    async def _write(self, write: Write) -> None:
        """The only way octets reach a patch."""
        if not permitted(write, self._patch.plans):
            raise AssertionError(f"no profile declares this write to {'/'.join(write.channel)}")
        found = self._find(write.channel)
        if found is None:
            return
        assert self._client is not None
        async with asyncio.timeout(_GATT_SECONDS):
            await self._client.write_gatt_char(found, write.payload, response=True)

    def _notified(self, channel: Channel, value: bytes) -> None:
        if channel in self._records:
            self._last = time.monotonic()  # not for a battery: it goes on where the sensor hangs
        self._hand_over(channel, value, live=self._fetch is None)
        if self._unacknowledged > 4 * self._options.page:
            self.lost("the buffer takes nothing more: the records stay on the patch")
        if self._fetching is None or self._fetch is None:
            return
        if channel == self._fetching.control:
            self._answers.put_nowait(value)
        elif channel == self._fetching.records:
            self._last_record = time.monotonic()
            stop = self._fetch.record()
            if stop is not None:
                task = asyncio.create_task(self._stop_fetch(Write(self._fetching.control, stop)))
                self._stops.add(task)

    async def _stop_fetch(self, write: Write) -> None:
        try:
            await self._write(write)
        except (TimeoutError, *_GATT_FAILURES) as error:
            self.lost(f"{self.step}: cannot be stopped ({error or type(error).__name__})")

    def _hand_over(
        self, channel: Channel | None = None, value: bytes = b"", *, live: bool | None = False,
        exhausted: Exhausted | None = None,
    ) -> None:  # fmt: skip
        batch = BleBatch(self)
        if channel is not None:
            self.proven = self.proven or channel.service in self._guarded
            frame = Frame(self._patch.device_id, channel, value, self._clock(), live)
            batch.frames.append(frame)
            log.debug("ble: frame device=%s characteristic=%s at=%s", frame.device, channel[1], frame.received_at)
        batch.exhausted = exhausted
        self._unacknowledged += 1
        self._durable.clear()
        self._sink(batch)

    async def _until_durable(self) -> None:
        try:
            async with asyncio.timeout(_DURABLE_SECONDS):
                await self._durable.wait()
        except TimeoutError:
            self.lost("the buffer takes nothing: the records stay on the patch")
            await asyncio.Event().wait()  # `run` ends this
