"""A progress bar on stderr for files that take more than a moment."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TypeVar

_T = TypeVar("_T")
# Telling the bar costs more than an item does.
_EVERY = 1_000


def shown(items: Iterable[_T], stream: BinaryIO, *, printed: bool) -> Iterator[_T]:
    """`items` as they are read from `stream`. No bar where stderr is no terminal, the file is no regular one, or what
    is `printed` goes to the same terminal.
    """
    total = os.fstat(stream.fileno()).st_size
    if total == 0 or not sys.stderr.isatty() or (printed and sys.stdout.isatty()):
        return iter(items)
    return _with_bar(items, stream, total)


def _with_bar(items: Iterable[_T], stream: BinaryIO, total: int) -> Iterator[_T]:
    from tqdm import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, delay=1, leave=False) as bar:
        for number, item in enumerate(items):
            yield item
            if number % _EVERY == 0:
                bar.update(stream.tell() - bar.n)
