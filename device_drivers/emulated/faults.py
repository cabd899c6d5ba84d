"""What an emulated patch does wrong while it reports stored records, sans-IO: a script over what it sends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from device_drivers.emulated.cgm_sensor import RACP, Sent


class LinkDrop(Exception):
    """Now the link is lost."""


@dataclass(slots=True)
class Faults:
    """Each fault is used up as it happens. Record numbers count all records ever sent, from 1."""

    drop_link_at: list[int] = field(default_factory=list)
    wrong_crc_once: set[int] = field(default_factory=set)
    twice: set[int] = field(default_factory=set)
    reverse: bool = False
    busy: int = 0
    slow: float = 0.0
    sent: int = 0

    def apply(self, values: Iterable[Sent]) -> Iterator[Sent]:
        """What really goes out; LinkDrop where the script says so."""
        if self.busy:
            self.busy -= 1
            yield Sent(RACP, b"\x06\x00\x01\x0a")
            return
        for value in self._in_order(values):
            if value.offset is None:
                yield value
                continue
            self.sent += 1
            if self.drop_link_at and self.sent >= self.drop_link_at[0]:
                self.drop_link_at.pop(0)
                raise LinkDrop
            yield self._damaged(value)
            if value.offset in self.twice:
                self.twice.remove(value.offset)
                yield value

    def _in_order(self, values: Iterable[Sent]) -> Iterable[Sent]:
        if not self.reverse:
            return values
        *records, answer = values
        return [*reversed(records), answer]

    def _damaged(self, value: Sent) -> Sent:
        if value.offset not in self.wrong_crc_once:
            return value
        self.wrong_crc_once.remove(value.offset)
        return value._replace(value=value.value[:-1] + bytes([value.value[-1] ^ 0xFF]))
