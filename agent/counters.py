"""What the daemon has done since it started, for `status`; and each patch's last word."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class LastSeen:
    """The newest durable values of one patch. Memory only: values are never logged and never written in clear."""

    at: str | None = None
    reading: dict[str, Any] | None = None
    dosage: dict[str, Any] | None = None
    adhesion: str | None = None
    status: dict[str, Any] | None = None


@dataclass(slots=True)
class Counters:
    """`total` counts contract events and refusals by name; `own` counts events the gateway made itself."""

    total: Counter[str] = field(default_factory=Counter)
    by_device: dict[str, Counter[str]] = field(default_factory=dict)
    last: dict[str, LastSeen] = field(default_factory=dict)

    def add(self, name: str, device_id: str | None = None) -> None:
        self.total[name] += 1
        if device_id is not None:
            self.by_device.setdefault(device_id, Counter())[name] += 1
