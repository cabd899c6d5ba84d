"""`make bench`: the buffer beside others, a burst into it, bytes at the device, captures beside tshark, in one run.

ARGS="--quick --json". What the numbers mean: docs/performance.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import burst
import captures
import compared
import written
from report import Measured, objects, table


def main() -> None:
    """Print a table, or a JSON object for each measurement."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--quick", action="store_true", help="less of everything: the numbers are rougher")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for line in (objects if arguments.json else table)(_all(quick=arguments.quick)):
        print(line, flush=True)


def _all(*, quick: bool) -> Iterator[Measured]:
    for found in compared.measure(quick=quick):
        yield Measured("buffer", *found)
    print("measuring a burst", file=sys.stderr)
    for found in burst.measure(quick=quick):
        yield Measured("burst", *found)
    print("measuring bytes at the device", file=sys.stderr)
    why_not = written.possible()
    if why_not:
        print(why_not, file=sys.stderr)
    else:
        for found in written.measure(quick=quick):
            yield Measured("device", *found)
    print("measuring captures", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for found in captures.measure(Path(folder), quick=quick):
            yield Measured("captures", *found)


if __name__ == "__main__":
    main()
