"""A burst through the buffer's async API: validated, serialised, sealed, durable. `burst.py [--profile] [--json]`.

Messages come 20 at a wake-up of the loop, as from a broker, with 4,000 at most not yet durable (its in-flight window).
The default settings commit in groups. A wake-up is handed in as one submission, or as one for each event (`1` in the
metric).
"""

import argparse
import asyncio
import cProfile
import functools
import gc
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from stores.ours import open_buffer, pair
from synthetic import wire_events

from buffer.draft import Draft
from buffer.lanes import Lane
from buffer.store import EventBuffer
from schemas.envelope import ENVELOPES
from schemas.event_types import EventType
from schemas.wire import WireEvent, to_wire

_WAKE_UP, _WINDOW, _WARM_UP = 20, 4_000, 2_000
# A file system that is not in memory, where /tmp may be.
DISK = "/var/tmp"


class Message(NamedTuple):
    """One message as a broker hands it over: its topic says patch and type."""

    device_id: str
    type: EventType
    body: bytes


class Cost(NamedTuple):
    """Of one run: wall time, CPU of all threads, CPU of the loop's thread; in seconds."""

    wall: float
    cpu: float
    loop: float


def messages(count: int) -> list[Message]:
    """Of the synthetic fleet; the garbage collector never looks at them: a gateway does not hold so many."""
    found = [
        Message(event.idempotency_key.partition(".")[0], EventType(json.loads(event.body)["type"]), event.body)
        for event in islice(wire_events(7, bare=True), count)
    ]
    gc.collect()
    gc.freeze()
    return found


def _append(draft: Draft, events: Sequence[tuple[str, WireEvent]]) -> None:
    for device_id, event in events:
        draft.append(event, Lane.SENSOR, device_id)


class Burst:
    """Messages go in as fast as the window allows."""

    def __init__(self, buffer: EventBuffer, per_submit: int) -> None:
        self._buffer, self._per_submit = buffer, per_submit
        self._unsaved = 0
        self._room = asyncio.Event()

    async def run(self, waiting: Sequence[Message]) -> None:
        """Returns when all are durable."""
        for at in range(0, len(waiting), _WAKE_UP):
            self._take(waiting[at : at + _WAKE_UP])
            await asyncio.sleep(0)
            await self._until(_WINDOW - _WAKE_UP)
        await self._until(0)

    def _take(self, wake_up: Sequence[Message]) -> None:
        for at in range(0, len(wake_up), self._per_submit):
            part = wake_up[at : at + self._per_submit]
            events = [(m.device_id, to_wire(ENVELOPES[m.type].model_validate_json(m.body))) for m in part]
            future = self._buffer.submit(lambda draft, events=events: _append(draft, events))
            self._unsaved += len(events)
            future.add_done_callback(functools.partial(self._durable, len(events)))

    def _durable(self, count: int, done: asyncio.Future[None]) -> None:
        done.result()
        self._unsaved -= count
        self._room.set()

    async def _until(self, most: int) -> None:
        while self._unsaved > most:
            self._buffer.flush()  # as the daemon does: no more comes until some are acknowledged
            self._room.clear()
            await self._room.wait()


async def _once(waiting: Sequence[Message], per_submit: int, profile: cProfile.Profile | None) -> Cost:
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        buffer = await open_buffer(Path(folder), waiting[0].body)
        await pair(buffer, {message.device_id for message in waiting})
        burst = Burst(buffer, per_submit)
        await burst.run(waiting[:_WARM_UP])
        if profile:
            profile.enable()
        before = Cost(time.perf_counter(), time.process_time(), time.thread_time())
        await burst.run(waiting[_WARM_UP:])
        after = Cost(time.perf_counter(), time.process_time(), time.thread_time())
        if profile:
            profile.disable()
        stored = sum(buffer.lanes.values())
        await buffer.close()
        if stored != len(waiting):
            raise RuntimeError(f"{stored} of {len(waiting)} events are stored")
        return Cost(*(end - start for end, start in zip(after, before, strict=True)))


def measure(*, quick: bool) -> Iterator[tuple[str, str, float, str]]:
    """(system, metric, value, unit): the best of three runs."""
    events = 20_000 if quick else 60_000
    waiting = messages(_WARM_UP + events)
    for per_submit, name in ((_WAKE_UP, ""), (1, " 1")):
        costs = [asyncio.run(_once(waiting, per_submit, None)) for _ in range(3)]
        yield "patch-gateway", f"durable{name}", events / min(cost.wall for cost in costs), "events/s"
        yield "patch-gateway", f"cpu{name}", min(cost.cpu for cost in costs) / events * 1e6, "us/event"


def show_profile(events: int) -> None:
    """Where the time of a burst goes; the profiler sees the loop's thread only, and makes it slower."""
    waiting = messages(_WARM_UP + events)
    for per_submit in (_WAKE_UP, 1):
        cost = asyncio.run(_once(waiting, per_submit, None))
        wall, cpu, loop = (seconds / events * 1e6 for seconds in cost)
        print(f"\n{per_submit} a submission: {1e6 / wall:,.0f} events/s. Per event {wall:.1f} us of time;")
        print(f"{loop:.1f} us CPU of the loop's thread, {cpu - loop:.1f} us of SQLite's and all other threads\n")
        profile = cProfile.Profile()
        asyncio.run(_once(waiting, per_submit, profile))
        pstats.Stats(profile, stream=sys.stdout).strip_dirs().sort_stats("tottime").print_stats(25)


def main() -> None:
    """Print a line, or a JSON object, per measurement; or the profile."""
    parser = argparse.ArgumentParser(prog="burst", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.profile:
        show_profile(20_000)
        return
    for system, metric, value, unit in measure(quick=arguments.quick):
        entry = {"bench": "burst", "system": system, "metric": metric, "value": value, "unit": unit}
        print(json.dumps(entry) if arguments.json else f"{metric:10} {value:12,.1f} {unit}", flush=True)


if __name__ == "__main__":
    main()
