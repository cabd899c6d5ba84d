"""The end of tasks that belong to a connection or an adapter."""

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 1.0


async def end(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel them and return when all are done, however they end. Whoever is cancelled may swallow it, as
    `asyncio.wait_for` of Python 3.11 does when what it waits for comes at that moment: it is told again.
    """
    ending = tuple(tasks)
    left = {task for task in ending if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
    await asyncio.gather(*ending, return_exceptions=True)
