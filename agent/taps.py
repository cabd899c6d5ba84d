"""Frames of BLE patches as they come in, for whoever records them (`capture record --gateway`)."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from device_drivers.base import Frame
from device_drivers.captures.base import AttOperation
from device_drivers.captures.jsonl import HEADER, line

log = logging.getLogger(__name__)

_MOST = 10_000


class Tap:
    """One recording: `lines` of a JSON Lines capture, None after the last one."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.lines.put_nowait(HEADER)
        self._number = 0

    def put(self, frame: Frame) -> bool:
        """False when whoever records does not keep up: a recording with a hole would be taken for whole."""
        if self.lines.qsize() >= _MOST:
            self.lines.put_nowait(None)
            return False
        self._number += 1
        # Links do not say whether it was notified, indicated or read; a replay does not ask.
        operation = AttOperation(
            self._number, frame.received_at, frame.device, None, frame.channel, "notification", frame.payload
        )
        self.lines.put_nowait(line(operation))
        return True


class Taps:
    """All recordings; none costs nothing."""

    def __init__(self) -> None:
        self._open: set[Tap] = set()
        self._recordings = 0

    def offer(self, frames: Iterable[Frame]) -> None:
        """To every recording."""
        for tap in tuple(self._open):
            if not all(tap.put(frame) for frame in frames):
                self._open.discard(tap)

    def close(self) -> None:
        """The gateway stops: no recording goes on."""
        for tap in self._open:
            tap.lines.put_nowait(None)

    async def ended(self, seconds: float) -> None:
        """Wait until every recording has got its lines, so long at most."""
        deadline = time.monotonic() + seconds
        while self._recordings and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    @contextmanager
    def open(self) -> Iterator[Tap]:
        """A recording, from now on."""
        tap = Tap()
        self._open.add(tap)
        self._recordings += 1
        log.warning("control: frames of patches are being recorded")
        try:
            yield tap
        finally:
            self._open.discard(tap)
            self._recordings -= 1
            log.warning("control: the recording of frames has ended")
