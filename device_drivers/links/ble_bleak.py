"""What bleak and its clients keep beyond one life of bluetoothd, and how they let go of it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from weakref import WeakKeyDictionary

from bleak import BleakClient
from bleak.backends.bluezdbus import manager
from bleak.backends.bluezdbus.version import BlueZFeatures
from bleak.backends.device import BLEDevice
from bleak_retry_connector import establish_connection

log = logging.getLogger(__name__)

# One attempt of bleak takes 20 s at most; the adapter serves nobody else meanwhile.
_CONNECT_SECONDS, _DISCONNECT_SECONDS = 22.0, 12.0
# The patch is heard again before the next.
_ATTEMPTS = 1
_LOST_LINKS = 3
# The bluetoothd bleak was last used with, by event loop as bleak's manager
_SERVING: WeakKeyDictionary[asyncio.AbstractEventLoop, str] = WeakKeyDictionary()
# Clients that are being disconnected; kept here because nothing else refers to the tasks.
_LETTING_GO: set[asyncio.Task[None]] = set()


def settle_version() -> None:
    """To be called before bleak connects for the first time."""
    # bleak runs `bluetoothctl --version` once. Where that is cancelled, as a connect may be at any time, every later
    # connect waits for its answer for ever. What it asks (BlueZ 5.55 or newer) is so with the 5.66 that we require.
    BlueZFeatures.checked_bluez_version = BlueZFeatures.supported_version = True


def serving(owner: str) -> None:
    """To be called before bleak is used with the bluetoothd of this unique bus name. What bleak knows of another one is
    forgotten: a bluetoothd that dies takes no object back, and bleak would go on believing that a patch is connected
    at an adapter whose name is another by now.
    """
    loop = asyncio.get_running_loop()
    before = _SERVING.get(loop)
    _SERVING[loop] = owner
    if before in {None, owner}:
        return
    # Private names: bleak offers no other way. Its manager starts anew by itself when its bus has ended.
    bus = getattr(getattr(manager, "_global_instances", {}).get(loop), "_bus", None)
    if bus is not None:
        log.info("ble: another bluetoothd, bleak forgets what it knew")
        with contextlib.suppress(Exception):
            bus.disconnect()


async def connect(device: BLEDevice, name: str, on_lost: Callable[[], None]) -> BleakClient:
    """One attempt, which ends with the third link that is lost at once. `on_lost` is told when the link is lost later;
    TimeoutError, or what bleak raises.
    """
    # Bleak begins anew as long as its time lasts: fifty links to a patch that lost its bond, at the cost of its
    # battery, and nobody else is heard meanwhile.
    client: BleakClient | None = None
    lost = 0

    def on_disconnected(_: BleakClient) -> None:
        nonlocal lost
        if client is not None:
            on_lost()
            return
        lost += 1
        if lost >= _LOST_LINKS:
            with contextlib.suppress(RuntimeError):  # it has ended already
                limit.reschedule(0)

    try:
        async with asyncio.timeout(_CONNECT_SECONDS) as limit:
            client = await establish_connection(
                BleakClient, device, name, on_disconnected, max_attempts=_ATTEMPTS, use_services_cache=False
            )
    except TimeoutError:
        raise TimeoutError("the link is lost at once" if lost else "no answer") from None
    if not client.is_connected:  # lost between its last answer and here
        on_lost()
    return client


def let_go(client: BleakClient) -> "asyncio.Task[None]":
    """Close the link and the client's D-Bus connection, also where bluetoothd is gone and nothing answers, and also
    when nobody waits for it.
    """
    task = asyncio.create_task(_disconnect(client))
    _LETTING_GO.add(task)
    task.add_done_callback(_LETTING_GO.discard)
    return task


async def _disconnect(client: BleakClient) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_DISCONNECT_SECONDS):
            await client.disconnect()
