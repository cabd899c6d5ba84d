"""`replay --into-buffer`: the frames of a capture through ingest into the buffer, as if a link had delivered them."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import BinaryIO

from agent.counters import Counters
from agent.ending import end_at_once
from agent.ingest import Fate, Ingest
from agent.progress import shown
from agent.replay import Device, Replay
from agent.setup import open_buffer
from buffer.errors import MediumError
from buffer.store import EventBuffer
from config.settings import Settings
from device_drivers.base import Frame
from device_drivers.captures.base import AttOperation
from device_drivers.captures.pace import Pace
from device_drivers.links.base import Batch
from device_drivers.registry import profile_name

_BATCH, _ON_THE_WAY = 50, 8
_FATES = {"durable", "unchanged", "duplicate", "quarantined", "overflowed", "waiting", "left_on_patch"}


class ReplayInto:
    """`fates`: what became of the frames once the pass is over; `strangers`: addresses that are not paired here, of
    which nothing is stored.
    """

    def __init__(self, buffer: EventBuffer, devices: Mapping[str, Device], pace: Pace | None) -> None:
        self._buffer, self._pace = buffer, pace
        self._ingest = Ingest(buffer, buffer.gateway_id, Counters())
        records = (known.record for known in buffer.devices.values())
        addresses = {record.address.upper(): record.device_id for record in records if record.address}
        self._devices = addresses | {address: device.device_id for address, device in devices.items()}
        self._named_by_hand = devices.keys()
        self._unknown = {device.device_id for device in devices.values()} - buffer.devices.keys()
        self._futures: deque[asyncio.Future[list[Fate]]] = deque()
        self.fates: Counter[str] = Counter()
        self.strangers: set[str] = set()

    async def run(self, operations: Iterable[AttOperation]) -> None:
        """Until all of it is durable. MediumError when the disk fails."""
        frames: list[Frame] = []
        for operation in operations:
            if self._pace:
                await asyncio.sleep(self._pace.wait(operation.time, time.monotonic()))
            frames += self._named(operation)
            if len(frames) >= _BATCH or (frames and self._pace):
                await self._send(frames)
                frames = []
        await self._send(frames)
        while self._futures:
            await self._settle()

    def _named(self, operation: AttOperation) -> list[Frame]:
        """With the id of the registry."""
        frames = [frame for frame in operation.to_frames() if profile_name(frame.channel)]
        device_id = self._devices.get(operation.device.upper(), operation.device)
        if device_id in self._buffer.devices:
            return [replace(frame, device=device_id) for frame in frames]
        if frames:
            self.strangers.add(operation.device)
        return []

    async def _send(self, frames: list[Frame]) -> None:
        future, _ = self._ingest.receive(Batch(frames), "ble")
        self._futures.append(future)
        if len(self._futures) > _ON_THE_WAY:
            self._buffer.flush()
            await self._settle()

    async def _settle(self) -> None:
        self.fates.update(name for name, *_ in await self._futures.popleft())

    @property
    def took(self) -> bool:
        """Is anything of the capture in the buffer, now or from before?"""
        return any(self.fates[name] for name in ("durable", "duplicate", "unchanged", "waiting"))

    def summary(self) -> str:
        """What happened, in words."""
        named = ", ".join(f"{count} {name}" for name, count in self.fates.most_common() if name in _FATES)
        lines = [f"into the buffer: {named or 'nothing'}"]
        if self.fates["left_on_patch"]:
            lines.append("  the buffer has little room: what a patch could give again was not stored")
        if self.fates["quarantined"]:
            lines.append("  why: patch-gateway buffer quarantine list")
        lines += [f"  {device_id} (--device) is not paired here: pair it" for device_id in sorted(self._unknown)]
        lines += [
            f"  {address} is not paired here, nothing of it was stored: pair it, or say who it is with --device"
            for address in sorted(self.strangers)
            if address.upper() not in self._named_by_hand
        ]
        return "\n".join(lines)


def replay_into(settings: Settings, replay: Replay, stream: BinaryIO, pace: Pace | None) -> ReplayInto:
    """The finished pass; InUseError while the daemon runs, other StoreErrors where the buffer cannot be used."""
    try:
        return asyncio.run(_replay_into(settings, replay, stream, pace))
    except MediumError as error:
        end_at_once(error)


async def _replay_into(settings: Settings, replay: Replay, stream: BinaryIO, pace: Pace | None) -> ReplayInto:
    buffer = await open_buffer(settings)
    try:
        into = ReplayInto(buffer, replay.devices, pace)
        await into.run(shown(replay.operations(stream), stream, printed=False))
    finally:
        await buffer.close()
    return into
