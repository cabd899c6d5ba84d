"""What every link gives the agent: batches of frames, each to be acknowledged once it is durable."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from device_drivers.base import Frame, Refused


@dataclass(slots=True)
class Batch:
    """Frames that arrived together. `refused` are messages the link itself could not turn into a frame."""

    frames: list[Frame] = field(default_factory=list)
    refused: list[tuple[str, Refused]] = field(default_factory=list)


@dataclass(slots=True)
class LinkState:
    """What `status` shows of a link, in words a technician understands."""

    name: str
    connected: bool = False
    reason: str = "not started"
    since: datetime | None = None
    connects: int = 0
    received: int = 0


class Link(Protocol):
    """A radio, a broker session or a replayed capture."""

    state: LinkState
    transport: str
    # How many unacknowledged frames the other side sends before it waits for us.
    window: int
    unacknowledged: int

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        ...

    async def receive(self) -> Batch:
        """The next frames."""
        ...

    def acknowledge(self, batch: Batch) -> None:
        """The batch is durable: tell the other side, if it still listens on the connection the batch came by."""
        ...
