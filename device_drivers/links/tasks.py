"""Tasks and threads of a connection: how they end."""

import asyncio
import threading
from collections.abc import Callable, Iterable
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


async def first(futures: Iterable["asyncio.Future[Any]"]) -> None:
    """Return when one of them is done."""
    await asyncio.wait(list(futures), return_when=asyncio.FIRST_COMPLETED)


async def in_daemon_thread(function: Callable[[], None]) -> None:
    """Run what may block for as long as a name server likes, and raise what it raises. Neither the end of the process
    waits for it, nor whoever needs one of the threads that all share.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    def run() -> None:
        told: BaseException | None = None
        try:
            function()
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            told = error
        try:
            loop.call_soon_threadsafe(tell, told)
        except RuntimeError:
            pass  # the loop is closed
        finally:
            told = None  # or what it holds, such as a socket, goes only with the next collection of cycles

    threading.Thread(target=run, daemon=True).start()
    await done
