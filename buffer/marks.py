"""Which records of a stream are here already, exactly, as runs; and which are still missing."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

MAX_RUNS = 64


class Run(NamedTuple):
    """`first`, `first + step`, ... `last`."""

    first: int
    last: int
    step: int = 1

    def has(self, sequence: int) -> bool:
        return self.first <= sequence <= self.last and (sequence - self.first) % self.step == 0


@dataclass(frozen=True, slots=True)
class Mark:
    """The records of `runs` are here, in ascending order and apart.

    Below `floor` nothing is known, so a record from there counts as new: upstream refuses a double, nobody a loss. What
    is missing below `settled` is not asked for again: the patch has no such record.
    """

    floor: int = 0
    settled: int = 0
    runs: tuple[Run, ...] = ()

    def has(self, sequence: int) -> bool:
        return sequence >= self.floor and any(run.has(sequence) for run in self.runs)

    @property
    def high(self) -> int:
        """The highest record that is here, -1 without one."""
        return self.runs[-1].last if self.runs else -1

    def add(self, sequence: int, step: int = 1) -> "Mark":
        """The mark with one more record that is not here. Neighbours at a distance of `step` make a run: a guess of
        what comes, never of what is here. Where there are too many runs the lowest is given up.
        """
        if sequence < self.floor:
            return self
        runs: list[Run] = []
        for run in _around(self.runs, sequence):
            joined = _join(runs[-1], run, step) if runs else None
            runs[-1:] = [joined] if joined else [*runs[-1:], run]
        floor = self.floor
        while len(runs) > MAX_RUNS:
            floor = runs.pop(0).last + 1
        return Mark(floor, max(floor, self.settled), tuple(runs))

    def holes(self, step: int) -> Iterator[tuple[int, int]]:
        """Ranges in which records are missing, where neighbours are `step` apart; none below `settled`."""
        before: int | None = None
        for run in self.runs:
            start = self.settled if before is None or before < self.settled else before + 1
            if run.first > start and (before is None or run.first - before > step):
                yield start, run.first - 1
            before = run.last

    def missing(self, step: int) -> int:
        """From where on to ask: the first hole, else what comes after the highest record."""
        hole = next(self.holes(step), None)
        return hole[0] if hole else max(self.high + 1, self.settled)

    @property
    def least(self) -> int | None:
        """The least distance between two records that are here; None with fewer."""
        apart = [later.first - run.last for run, later in pairwise(self.runs)]
        return min([*apart, *(run.step for run in self.runs if run.last > run.first)], default=None)

    def newest_distance(self) -> int | None:
        """How far the newest three records are apart, where they are equally far."""
        newest: list[int] = []
        for run in reversed(self.runs):
            newest += range(run.last, run.first - 1, -run.step)[: 3 - len(newest)]
        apart = {before - after for before, after in pairwise(newest)}
        return apart.pop() if len(newest) == 3 and len(apart) == 1 else None

    def settle(self) -> "Mark":
        """Nothing will fill the holes there are now."""
        return Mark(self.floor, max(self.settled, self.high + 1), self.runs)

    def to_text(self) -> str:
        """The runs as stored: `first-last/step`, comma separated."""
        return ",".join(f"{run.first}-{run.last}/{run.step}" for run in self.runs)

    @staticmethod
    def from_row(floor: int, settled: int, text: str) -> "Mark":
        runs = []
        for part in filter(None, text.split(",")):
            ends, _, step = part.partition("/")
            first, _, last = ends.partition("-")
            runs.append(Run(int(first), int(last), int(step)))
        return Mark(floor, settled, tuple(runs))


def _around(runs: tuple[Run, ...], sequence: int) -> Iterator[Run]:
    """The runs with one more of a single record, in order; a run it lies inside of is cut in two."""
    new: Run | None = Run(sequence, sequence)
    for run in runs:
        if new is None or run.last < sequence:
            yield run
        elif run.first > sequence:
            yield new
            yield run
            new = None
        else:
            lower = run.first + (sequence - run.first) // run.step * run.step
            yield Run(run.first, lower, run.step)
            yield new
            yield Run(lower + run.step, run.last, run.step)
            new = None
    if new is not None:
        yield new


def _join(left: Run, right: Run, step: int) -> Run | None:
    """One run of two neighbours, where their distance is that of their records; `step` counts between single ones."""
    distance = right.first - left.last
    steps = {run.step for run in (left, right) if run.first != run.last} or {step}
    return Run(left.first, right.last, distance) if steps == {distance} else None
