"""What an upstream says of each event, as values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.wire import WireEvent


@dataclass(frozen=True, slots=True)
class Accepted:
    """Stored upstream, now or (deduped) earlier."""

    deduped: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Never to be sent again as it is: goes to quarantine with this problem."""

    problem: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Keep and send again, `after` seconds at the earliest; `unauthorised` pauses until the operator acts."""

    reason: str
    after: float = 0.0
    unauthorised: bool = False


Outcome = Accepted | Refused | Retry


class Upstream(Protocol):
    """Where events go."""

    async def send(self, events: Sequence[WireEvent]) -> list[Outcome]:
        """One outcome per event, in order. Never raises for what the network or the server does."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
