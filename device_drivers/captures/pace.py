"""A capture at the speed of its own clock, or a multiple of it."""

from datetime import datetime

# A clock that is set right in the middle of a capture jumps by decades; backwards it is no pause at all.
LONGEST_PAUSE = 3_600.0


class Pace:
    """When each moment of one capture is due. `speed`: how many seconds of it pass in one of ours."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._last: datetime | None = None
        self._due = 0.0

    def wait(self, moment: datetime, now: float) -> float:
        """How many seconds from `now` (monotonic) on; a pause counts as one of LONGEST_PAUSE at most."""
        if self._last is None:
            self._due = now
        else:
            step = (moment - self._last).total_seconds()
            self._due += min(max(step, 0.0), LONGEST_PAUSE) / self._speed
        self._last = moment
        return max(0.0, self._due - now)
