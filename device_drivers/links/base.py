"""What every link gives the agent: batches of frames, each to be acknowledged once it is durable."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol

from device_drivers.base import Channel, Frame, RecordAccess, Refused, Write


class Exhausted(NamedTuple):
    """A patch gave every record it has of a stream, twice: what is still missing it no longer has."""

    device: str
    access: RecordAccess


@dataclass(slots=True)
class Batch:
    """Frames that arrived together. `refused` are messages the link itself could not turn into a frame; `exhausted`
    holds for what arrived before.
    """

    frames: list[Frame] = field(default_factory=list)
    refused: list[tuple[str, Refused]] = field(default_factory=list)
    exhausted: Exhausted | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a decoder wants of the device whose frame it just read."""

    device: str
    writes: Sequence[Write]
    reads: Sequence[Channel]


@dataclass(slots=True)
class LinkState:
    """What `status` shows of a link, in words a technician understands."""

    name: str
    connected: bool = False
    reason: str = "not started"
    since: datetime | None = None
    connects: int = 0
    received: int = 0
    paused: bool = False


class Link(Protocol):
    """A radio, a broker session or a replayed capture."""

    transport: str
    # How many unacknowledged frames the other side sends before it waits for us.
    window: int
    unacknowledged: int

    @property
    def state(self) -> LinkState:
        """What it shows of itself."""
        ...

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        ...

    async def receive(self) -> Batch:
        """The next frames."""
        ...

    def ask(self, asked: Asked) -> None:
        """Do this on the device's connection, while there is one."""
        ...

    def acknowledge(self, batch: Batch) -> None:
        """The batch is durable: tell the other side, if it still listens on the connection the batch came by."""
        ...
