"""Devices of a capture: what was discovered of each outlives its connections."""

from collections.abc import Mapping

from device_drivers.base import Channel
from device_drivers.captures.att import AttTracker

# Some captures never close connections; attributes are known of the newest devices only.
MAX_DEVICES = 256


class Devices:
    """`table` names the handles that a capture does not discover, for every device."""

    def __init__(self, table: Mapping[int, Channel] | None = None) -> None:
        self._table = table or {}
        self._known: dict[str, AttTracker] = {}

    def connected(self, device: str) -> AttTracker:
        """A reconnecting device keeps the attributes it was discovered with."""
        while len(self._known) >= MAX_DEVICES:
            self._known.pop(next(iter(self._known)))
        tracker = self._known.setdefault(device, AttTracker(self._table))
        tracker.reset_requests()
        return tracker
