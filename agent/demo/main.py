"""`patch-gateway demo`: live, or headless with `--once`."""

import asyncio
import json
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from agent import logs
from agent.demo.processes import DemoError
from agent.demo.result import Result, result_of
from agent.demo.scene import Scene, Stats

_LIVE_PAUSE, _ONCE_PAUSE = 0.5, 0.012
# Without any progress for this long a drain has failed.
_STILL_SECONDS = 45.0


def run_demo(once: int | None, *, outage: float, as_json: bool, keep: Path | None) -> int:
    """0 when all counts agree (live: always), 1 when not or when the demo cannot run."""
    logs.set_up("error", "text")
    try:
        result = asyncio.run(_demo(once, outage, keep))
    except DemoError as error:
        print(f"patch-gateway: {error}", file=sys.stderr)
        return 1
    if result is None:
        print("patch-gateway: the central service did not answer", file=sys.stderr)
        return 1
    print(json.dumps(result.to_dict()) if as_json else _summary(result))
    return 0 if once is None or result.agrees else 1


_RADIO = (
    "The BLE patch is replayed from a capture here. `python -m device_drivers.emulated.radio usb:VID:PID` puts one on a"
    " real radio (docs/ble.md),\n`make test-vm` on a virtual one with a real BlueZ."
)


async def _demo(once: int | None, outage: float, keep: Path | None) -> Result | None:
    pause = _LIVE_PAUSE if once is None else _ONCE_PAUSE
    scene = Scene(keep, once, lambda: pause)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        _say("Starting PostgreSQL, ClickHouse, Mosquitto and the gateway ...")
        if once is None:
            _say(_RADIO)
        note = await scene.start()
        if note:
            _say(f"ClickHouse does not run here: {note}. Going on with PostgreSQL.")
        fleet = asyncio.create_task(scene.fleet())
        if once is None:
            await _live(scene, note, outage, stop)
            scene.budget.stop()
        else:
            await _half(scene, once, stop)
            await _outage(scene, outage, stop)
        stats = await _drained(scene, fleet, stop)
        if keep:
            _say(_how_to_open(scene))
        return result_of(scene, stats) if stats else None
    except DemoError:
        scene.keep()  # the message names a log in its folder
        raise
    finally:
        await scene.stop()


async def _half(scene: Scene, once: int, stop: asyncio.Event) -> None:
    while scene.made < once // 2 and not stop.is_set():
        await asyncio.sleep(0.02)


async def _outage(scene: Scene, seconds: float, stop: asyncio.Event) -> None:
    """Cut the upstream for a while."""
    if seconds <= 0:
        return
    assert scene.valve is not None
    await scene.valve.cut()
    _say(f"Upstream cut for {seconds:g} s ...")
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    await scene.valve.open()
    _say("Upstream restored.")


async def _drained(scene: Scene, fleet: "asyncio.Task[None]", stop: asyncio.Event) -> Stats | None:
    """Wait until everything made is in both stores, or nothing moves any more."""
    assert scene.gateway is not None
    assert scene.valve is not None
    await scene.valve.open()
    if stop.is_set():
        scene.budget.stop()
    await fleet
    stats: Stats | None = None
    last, still = None, 0.0
    while still < _STILL_SECONDS:
        stats = await scene.stats() or stats
        if stats and not _waiting(scene, stats):
            break
        now = (stats, scene.gateway.sync_state().acknowledged)
        still = still + 0.1 if now == last else 0.0
        last = now
        await asyncio.sleep(0.1)
    return stats


def _waiting(scene: Scene, stats: Stats) -> bool:
    """Is anything still on its way?"""
    assert scene.gateway is not None
    buffer = scene.gateway.buffer
    unread = scene.gateway.counters.total["durable"] < scene.made
    outbox = stats.postgresql["outbox"] if stats.clickhouse else 0
    behind = stats.postgresql["events"] - stats.postgresql["own"] < scene.made
    return bool(unread or any(buffer.lanes.values()) or buffer.unsaved or outbox or behind)


async def _live(scene: Scene, note: str | None, outage: float, stop: asyncio.Event) -> None:
    from rich.live import Live  # noqa: PLC0415 - extra `demo`, and not needed headless

    from agent.demo.view import render  # noqa: PLC0415 - rich belongs to an extra

    assert scene.valve is not None
    cut = asyncio.create_task(_later_outage(scene, outage, stop))
    async with _keyboard(scene, stop):
        with Live(render(scene, None, note), refresh_per_second=4, screen=sys.stdout.isatty()) as live:
            while not stop.is_set():
                live.update(render(scene, await scene.stats(), note))
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await stop.wait()
    cut.cancel()


async def _later_outage(scene: Scene, seconds: float, stop: asyncio.Event) -> None:
    await asyncio.sleep(10)
    await _outage(scene, seconds, stop)


@asynccontextmanager
async def _keyboard(scene: Scene, stop: asyncio.Event) -> AsyncIterator[None]:
    """Single keys, where there is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tasks: set[asyncio.Task[None]] = set()

    def pressed() -> None:
        key = sys.stdin.read(1).lower()
        if key == "q":
            stop.set()
        elif key == "o" and scene.valve:
            task = asyncio.create_task(scene.valve.cut() if scene.valve.is_open else scene.valve.open())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _summary(result: Result) -> str:
    clickhouse = "not running here" if result.clickhouse is None else str(result.clickhouse)
    verdict = "All counts agree." if result.agrees else "THE COUNTS DIFFER."
    rows = {
        "made by the patches": result.made,
        "durable in the buffer": result.durable,
        "acknowledged by central": result.acknowledged,
        "rows in PostgreSQL": result.postgresql,
        "rows in ClickHouse": clickhouse,
        "duplicates": result.duplicates,
        "lost": result.lost,
        "the gateway's own events": result.own,
    }
    return "\n".join([*(f"{name:26}{value}" for name, value in rows.items()), verdict])


def _how_to_open(scene: Scene) -> str:
    folder = scene.folder
    return (
        f"Kept in {folder}. Open it again with:\n"
        f"  patch-central serve --state {folder}/central        # prints where PostgreSQL and ClickHouse are\n"
        f"  patch-gateway --config {folder}/gateway.toml status\n"
        f"  patch-gateway --config {folder}/gateway.toml patches"
    )
