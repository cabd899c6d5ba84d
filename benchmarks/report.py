"""What is measured, for programs and for people."""

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from peers import OURS


class Measured(NamedTuple):
    """One number; these are also the keys of its JSON object."""

    bench: str
    system: str
    metric: str
    value: float
    unit: str


def objects(measured: Iterable[Measured]) -> Iterator[str]:
    """A JSON object a line, as soon as it is known."""
    for each in measured:
        yield json.dumps(each._asdict())


def table(measured: Iterable[Measured]) -> Iterator[str]:
    """A block for each metric, with the ratio to ours where ours was measured beside others."""
    blocks: dict[tuple[str, str], list[Measured]] = {}
    for each in measured:
        blocks.setdefault((each.bench, each.metric), []).append(each)
    for (bench, metric), block in blocks.items():
        yield f"{bench}: {metric}, {block[0].unit}"
        base = next((each.value for each in block if each.system == OURS.name), 0.0) if len(block) > 1 else 0.0
        for each in block:
            ratio = f"x{each.value / base:,.2f}" if base else ""
            yield f"    {each.system:46} {each.value:14,.1f} {ratio:>10}".rstrip()
