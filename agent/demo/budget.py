"""How many events the emulated patches may still make, all together."""


class Budget:
    """`limit` None: without end, until `stop`."""

    def __init__(self, limit: int | None) -> None:
        self._left = limit

    @property
    def spent(self) -> bool:
        return self._left is not None and self._left <= 0

    def take(self, events: int) -> bool:
        """May these be made? What is taken is gone; an event's worth of 0 is always allowed until the end."""
        if self._left is None:
            return True
        if self._left < max(events, 1):
            return False
        self._left -= events
        return True

    def stop(self) -> None:
        self._left = 0
