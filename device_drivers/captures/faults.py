"""Faults on purpose: what a patch sends by itself, dropped, doubled, out of order, damaged, cut short or late.

The same seed gives the same faults in the same capture.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from device_drivers.captures.base import AttOperation, CaptureError

KINDS = ("drop", "duplicate", "reorder", "corrupt", "truncate", "delay")
_BY_ITSELF = {"notification", "indication", "multiple_notification"}
_MOST_DELAY = 5.0


class Faults:
    """`chances`: how likely each kind hits one notification or indication, 0 to 1; ValueError for others. `counts`: how
    often it did.
    """

    def __init__(self, chances: Mapping[str, float], seed: int) -> None:
        for kind, chance in chances.items():
            if kind not in KINDS or not 0 <= chance <= 1:
                raise ValueError(f"faults: {kind}={chance}: one of {', '.join(KINDS)}, with a chance of 0 to 1")
        self._chances, self._random = chances, random.Random(seed)  # noqa: S311 - it must be repeatable
        self.counts = dict.fromkeys(chances, 0)

    def apply(self, operations: Iterable[AttOperation]) -> Iterator[AttOperation]:
        """The operations with faults. One that is out of order comes after the next of its kind."""
        held: AttOperation | None = None
        try:
            for operation in operations:
                if operation.sent or operation.att not in _BY_ITSELF:
                    yield operation
                    continue
                if self._hits("drop"):
                    continue
                changed = self._changed(operation)
                if held is None and self._hits("reorder"):
                    held = changed
                    continue
                yield from (changed, changed) if self._hits("duplicate") else (changed,)
                if held is not None:
                    yield held
                    held = None
        except CaptureError:
            if held is not None:
                yield held
            raise
        if held is not None:
            yield held

    def _hits(self, kind: str) -> bool:
        hit = kind in self._chances and self._random.random() < self._chances[kind]
        if hit:
            self.counts[kind] += 1
        return hit

    def _changed(self, operation: AttOperation) -> AttOperation:
        value, time = operation.value, operation.time
        # Several values in one have lengths inside: they are not touched.
        if value and operation.values is None and self._hits("corrupt"):
            at = self._random.randrange(len(value))
            value = value[:at] + bytes([value[at] ^ 1 << self._random.randrange(8)]) + value[at + 1 :]
        if value and operation.values is None and self._hits("truncate"):
            value = value[: self._random.randrange(len(value))]
        if self._hits("delay"):
            later = timedelta(seconds=round(self._random.uniform(0, _MOST_DELAY), 3))
            time = min(time, datetime.max.replace(tzinfo=UTC) - later) + later
        return operation._replace(value=value, time=time)
