"""Which records of a stream are here already: a high-water mark and the gaps below it."""

from dataclasses import dataclass

MAX_GAPS = 32


@dataclass(frozen=True, slots=True)
class Mark:
    """Sequences from `floor` to `high` are here, except those in `gaps` (inclusive ranges, ascending).

    Below `floor` nothing is known, so a record from there counts as new: upstream refuses a double, nobody a loss.
    """

    floor: int
    high: int
    gaps: tuple[tuple[int, int], ...] = ()

    def has(self, sequence: int) -> bool:
        if not self.floor <= sequence <= self.high:
            return False
        return not any(first <= sequence <= last for first, last in self.gaps)

    def add(self, sequence: int) -> "Mark":
        """The mark with one more record."""
        if sequence > self.high:
            gaps = self.gaps
            if sequence > self.high + 1:
                gaps = (*gaps, (self.high + 1, sequence - 1))
            return _bounded(self.floor, sequence, gaps)
        split = []
        for first, last in self.gaps:
            if first <= sequence <= last:
                split += [gap for gap in ((first, sequence - 1), (sequence + 1, last)) if gap[0] <= gap[1]]
            else:
                split.append((first, last))
        return _bounded(self.floor, self.high, tuple(split))

    def to_text(self) -> str:
        """The gaps as stored: `first-last` pairs, comma separated."""
        return ",".join(f"{first}-{last}" for first, last in self.gaps)

    @staticmethod
    def from_row(floor: int, high: int, gaps: str) -> "Mark":
        pairs = [pair.split("-") for pair in gaps.split(",") if pair]
        return Mark(floor, high, tuple((int(first), int(last)) for first, last in pairs))


def first(sequence: int) -> Mark:
    """A stream's first record: earlier ones (from 0 on) may still come."""
    return Mark(0, sequence, ((0, sequence - 1),) if sequence else ())


def _bounded(floor: int, high: int, gaps: tuple[tuple[int, int], ...]) -> Mark:
    while len(gaps) > MAX_GAPS:
        floor, gaps = gaps[0][1] + 1, gaps[1:]
    return Mark(floor, high, gaps)
