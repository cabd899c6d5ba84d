"""What is given up first where the buffer is nearly full. Never doses, never what is urgent.

Deleting gives room only where whole pages run empty: SQLite joins pages that are less than a third full, and puts what
is new at the end. So one patch's readings, or the telemetry, are thinned alone only where most rows are theirs; else
the oldest of all go, which lie side by side.
"""

from collections.abc import Sequence
from typing import NamedTuple

from buffer.lanes import Lane

THINNED = (Lane.SENSOR, Lane.TELEMETRY)
_MOST = 2 / 3


class Crowd(NamedTuple):
    """So many of the oldest rows of a lane are one patch's; None: their data key is gone."""

    lane: Lane
    device_ref: int | None
    rows: int


class Part(NamedTuple):
    """Rows of these lanes; of one patch, where it says which."""

    lanes: tuple[Lane, ...]
    device_ref: int | None = None


def least_important(crowds: Sequence[Crowd]) -> Part | None:
    """Whose oldest rows go next; None where there are only doses and urgent events."""
    thinned = [crowd for crowd in crowds if crowd.lane in THINNED and crowd.rows]
    total = sum(crowd.rows for crowd in thinned)
    if not thinned:
        return None
    telemetry = sum(crowd.rows for crowd in thinned if crowd.lane is Lane.TELEMETRY)
    if telemetry > _MOST * total:
        return Part((Lane.TELEMETRY,))
    noisiest = max(thinned, key=lambda crowd: crowd.rows)
    if noisiest.lane is Lane.SENSOR and noisiest.rows > _MOST * total:
        return Part((Lane.SENSOR,), noisiest.device_ref)
    return Part(THINNED)
