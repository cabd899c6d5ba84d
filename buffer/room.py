"""How full the buffer is, and what follows from it: plain numbers in, a level out."""

from dataclasses import dataclass
from enum import IntEnum

_WARN_AT, _PAUSE_AT, _THIN_AT = 0.70, 0.85, 0.95
# What was stopped goes on only when there is clearly room again.
_GO_ON_BELOW, _STOP_THINNING_BELOW = 0.80, 0.93


class Level(IntEnum):
    """What is done about it, each with all that comes before."""

    FINE = 0
    WARN = 1
    PAUSE = 2  # readings and telemetry wait on the patch and at the broker
    THIN = 3  # telemetry, then the oldest readings, are given up and named by gap markers


@dataclass(frozen=True, slots=True)
class Room:
    """Pages in use and allowed; octets that the file system has left, and how many are kept in reserve.

    `reserved`: the reserve is there, not used up.
    """

    used: int = 0
    quota: int = 1
    free: int = 1 << 62
    reserve: int = 0
    reserved: bool = True

    @property
    def share(self) -> float:
        """Of the quota, 0 to 1."""
        return self.used / self.quota

    def can_reserve(self) -> bool:
        """Is there so much left on the disk that the reserve can be kept (again)?"""
        return self.free >= 3 * self.reserve


def level(room: Room, before: Level) -> Level:
    """The level now; `before` is the last one, for what goes on until there is clearly room again."""
    scarce = room.free < (2 if before >= Level.PAUSE else 1) * room.reserve or not (room.reserved or room.can_reserve())
    if room.share >= (_STOP_THINNING_BELOW if before is Level.THIN else _THIN_AT):
        return Level.THIN
    if scarce or room.share >= (_GO_ON_BELOW if before >= Level.PAUSE else _PAUSE_AT):
        return Level.PAUSE
    return Level.WARN if room.share >= _WARN_AT else Level.FINE
