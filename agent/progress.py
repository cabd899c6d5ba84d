"""A progress bar on stderr for files that take more than a moment."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO, TypeVar

from tqdm import tqdm

_T = TypeVar("_T")
# Telling the bar costs more than an item does.
_EVERY = 1_000


def shown(items: Iterable[_T], stream: BinaryIO, *, printed: bool) -> Iterator[_T]:
    """`items` as they are read from `stream`. No bar where stderr is no terminal, the file is no regular one, or what
    is `printed` goes to the same terminal.
    """
    total = os.fstat(stream.fileno()).st_size
    hidden = True if total == 0 or (printed and sys.stdout.isatty()) else None
    with tqdm(total=total, unit="B", unit_scale=True, delay=1, leave=False, disable=hidden) as bar:
        for number, item in enumerate(items):
            yield item
            if not bar.disable and number % _EVERY == 0:
                bar.update(stream.tell() - bar.n)
