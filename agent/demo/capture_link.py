"""A BLE patch replayed from a capture: the frames of the file, through the same decoder as the radio's."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.demo.budget import Budget
from device_drivers.base import DeviceContext, Frame
from device_drivers.captures import Capture
from device_drivers.emulated import cgm
from device_drivers.links.base import Asked, Batch, LinkState
from device_drivers.profiles.continuous_glucose import SESSION_START, decoder


class CaptureLink:
    """Plays the file again and again as `device_id`. Every pass is the next session, an hour after the one before and
    the first a week ago, so that its keys are new.
    """

    transport = "ble"
    window = 4_000

    def __init__(self, capture: Path, device_id: str, budget: Budget, pause: Callable[[], float]) -> None:
        with capture.open("rb") as stream:
            self._frames = [frame for operation in Capture().operations(stream) for frame in operation.to_frames()]
        self._device_id, self._budget, self._pause = device_id, budget, pause
        self._inbox: asyncio.Queue[Batch] = asyncio.Queue()
        self._next_start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=7)
        self.unacknowledged = 0
        self.made = 0
        self.done = asyncio.Event()
        self.state = LinkState(f"capture {capture.name}")

    async def run(self) -> None:
        self.state.connected, self.state.reason, self.state.since = True, "replaying", datetime.now(UTC)
        while not self._budget.spent:
            await self._one_pass()
        self.done.set()
        self.state.reason = "all replayed"
        await asyncio.Event().wait()

    async def receive(self) -> Batch:
        return await self._inbox.get()

    def ask(self, asked: Asked) -> None:
        """A file answers nothing."""

    def acknowledge(self, batch: Batch) -> None:
        self.unacknowledged -= len(batch.frames)

    async def _one_pass(self) -> None:
        start, self._next_start = self._next_start, self._next_start + timedelta(hours=1)
        counting = decoder(DeviceContext(self._device_id))
        for captured in self._frames:
            value = cgm.session_start(start) if captured.channel == SESSION_START else captured.payload
            frame = Frame(self._device_id, captured.channel, value, datetime.now(UTC))
            events = len(counting.receive(frame).observations)
            if events:
                if not self._budget.take(events):
                    return
                self.made += events
                await asyncio.sleep(self._pause())
            self.state.received += 1
            self.unacknowledged += 1
            self._inbox.put_nowait(Batch([frame]))
