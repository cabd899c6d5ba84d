"""Room in the buffer: what can wait elsewhere is told to wait; at the very end the least important goes, by name."""

import logging
from collections.abc import Sequence
from typing import Protocol

from agent.gaps import given_up
from buffer.room import Level
from buffer.store import EventBuffer
from buffer.thinning import THINNED, Part, least_important

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_LEAST, _MOST, _BEFORE_COUNTING = 100, 4_000, 25
PAUSED = "the buffer has little room: readings wait at the broker"


class CanWait(Protocol):
    """A link whose other side keeps what we do not take."""

    def pause(self, reason: str | None) -> None:
        """Take nothing more, for this reason; None: go on."""
        ...


class Room:
    """Follows the buffer's level."""

    def __init__(self, buffer: EventBuffer, links: Sequence[CanWait]) -> None:
        self._buffer, self._links = buffer, links
        self.given_up = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.step()
            await self._buffer.level_changed(_LOOK_SECONDS)

    async def step(self) -> None:
        """Do what the level asks for."""
        await self._buffer.weigh()
        for link in self._links:
            link.pause(PAUSED if self._buffer.level >= Level.PAUSE else None)
        while self._buffer.level is Level.THIN and any(self._buffer.lanes[lane] for lane in THINNED):
            crowds = await self._buffer.look.crowds()
            part = least_important(crowds)
            # Not more than what is needed, in a small buffer; not for ever, in a large one.
            many = min(sum(self._buffer.lanes.values()) // 100, _MOST)
            at_a_time = _LEAST if self._buffer.trouble else max(_LEAST, many)
            if part is None or not await self._thin(part, at_a_time):
                break

    async def _thin(self, part: Part, at_a_time: int) -> bool:
        """Give rows of a part up, as long as that is needed; False where there were none. Who has how many is counted
        again after some, as that reads the whole queue.
        """
        for done in range(_BEFORE_COUNTING):
            if self._buffer.level is not Level.THIN or not await self._give_up(part, at_a_time):
                return done > 0
        return True

    async def _give_up(self, part: Part, at_a_time: int) -> bool:
        try:
            claims = await self._buffer.leave(part, at_a_time)
            if not any(claim.rows or claim.damaged for claim in claims):
                return False
            decide = given_up(claims)
            count = await self._buffer.submit(decide, now=True, relief=True)
        finally:
            self._buffer.stay()
        self.given_up += count
        log.warning("the buffer is nearly full: rows given up, gap markers will name them count=%d", count)
        return True
