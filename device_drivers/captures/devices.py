"""Devices of a capture: what was discovered of each outlives its connections."""

from collections.abc import Mapping

from device_drivers.base import Channel
from device_drivers.captures.att import AttTracker, Servers

# Some captures never close connections; attributes are known of the newest devices only.
MAX_DEVICES = 256


class Devices:
    """`table` names the handles that a capture does not discover, for every device."""

    def __init__(self, table: Mapping[int, Channel] | None = None) -> None:
        self._table = table or {}
        self._known: dict[str, Servers] = {}

    def connected(self, device: str) -> AttTracker:
        """A reconnecting device keeps the attributes it was discovered with."""
        servers = self._known.pop(device, None) or Servers(self._table)
        while len(self._known) >= MAX_DEVICES:
            self._known.pop(next(iter(self._known)))
        self._known[device] = servers
        return AttTracker(servers)
