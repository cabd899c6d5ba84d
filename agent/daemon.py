"""`patch-gateway run`: logging, signals, and one readable sentence where it cannot start."""

import asyncio
import signal
import sys

from agent import logs
from agent.app import run_gateway
from agent.ending import end_at_once
from buffer.errors import MediumError, StoreError
from config.settings import Settings
from device_drivers.registry import row_problem


def run_daemon(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. SettingsError when a secret that a setting names cannot be read."""
    logs.set_up(settings.logging.level, settings.logging.format)
    if problem := row_problem():
        print(f"patch-gateway: {problem}", file=sys.stderr)
        return 1

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await run_gateway(settings, stop)

    try:
        asyncio.run(run())
    except MediumError as error:
        end_at_once(error)
    except StoreError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return 1
    return 0
